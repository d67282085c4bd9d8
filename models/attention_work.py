"""The attention half of a layer: norm, projections, core attention and what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.flash_attention import flash_attention
from models.kernel_set import EAGER, FUSED
from models.operation import Communication, Compute
from models.operators import elementwise, memory, norm_pair, product, residual
from models.sequence_parallel import blocks, heads, sent
from models.tensor_parallel import column_input, gather_again, row_output

if TYPE_CHECKING:
    from models.architecture import Layer
    from models.shape import Shapes

#: Bytes per exchanged element to make it contiguous before an exchange, and again after it.
PACK_BYTES = 4.0 * BF16

#: Part of the core attention that fused selective recomputation repeats and eager keeps.
_CORE = (1.0, 0.0)

Operation = Compute | Communication


class AttentionWork:
    """The attention half of a layer: norm, projections, core attention and what they send."""

    def __init__(self, layer: Layer, hidden: int, shapes: Shapes) -> None:
        self.layer, self.hidden, self.shapes = layer, hidden, shapes
        mixer = layer.attention
        self.queries = mixer.q_width / shapes.tp
        self.keys = heads.kv_heads_of_tp_rank(mixer, shapes) * mixer.head_dim
        self.rotated = shapes.tokens * (self.queries + self.keys)

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        norm, _ = norm_pair("attention norm", self.layer.norm, self.hidden, self.shapes)
        gather, _ = column_input("attention", self.hidden, self.shapes, reductions=1.0)
        into, *blocks, out = sent.forward_communication(self.layer.attention, self.shapes)
        project, _ = self._projections()
        output, _ = self._output()
        return (
            norm,
            *gather,
            *project,
            *self._heads(0),
            into,
            *self._pack(),
            *blocks,
            *self._core(backward=False),
            out,
            *output,
            *row_output("attention", self.hidden, self.shapes, forward=True),
            *self._after(0),
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        _, norm = norm_pair("attention norm", self.layer.norm, self.hidden, self.shapes)
        reductions = self.shapes.pick(FUSED.input_reductions[0], EAGER.input_reductions[0])
        gather, scatter = column_input("attention", self.hidden, self.shapes, reductions)
        out, *blocks, into = sent.backward_communication(self.layer.attention, self.shapes)
        _, project = self._projections()
        _, output = self._output()
        return (
            *self._after(1),
            *row_output("attention", self.hidden, self.shapes, forward=False),
            *output,
            out,
            *blocks,
            *self._core(backward=True),
            into,
            *self._pack(),
            *self._heads(1),
            *gather_again(gather, self.shapes),
            *project,
            *scatter,
            norm,
        )

    def _projections(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        launches = self.shapes.pick(FUSED.qkv_products, EAGER.qkv_products)
        columns = self.queries + 2.0 * self.keys
        return product("qkv", self.shapes, self.shapes.tokens, columns, self.hidden, launches)

    def _output(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product("attention out", self.shapes, self.shapes.tokens, self.hidden, self.queries)

    def _heads(self, phase: int) -> tuple[Compute, ...]:
        """Rotary embedding and head norms."""
        ops = []
        if self.layer.attention.qk_norm:
            ops.append(
                elementwise("head norms", f"{self.layer.norm}_norm", self.shapes, self.rotated)[
                    phase
                ]
            )
        if self.layer.attention.rotary:
            ops.append(elementwise("rotary", "rotary", self.shapes, self.rotated)[phase])
        return tuple(ops)

    def _pack(self) -> tuple[Compute, ...]:
        """Transposes to contiguous memory before and after each exchange."""
        qkv, output = heads.exchanged_elements(self.layer.attention, self.shapes)
        launches = np.where(self.shapes.ulysses > 1, 8.0, 0.0)
        return (memory("ulysses pack", self.shapes, (qkv + output) * PACK_BYTES, launches, _CORE),)

    def _core(self, *, backward: bool) -> tuple[Compute, ...]:
        mixer, shapes = self.layer.attention, self.shapes
        whole = blocks.causal_pairs(shapes.seq_len, mixer.window)
        pairs = shapes.micro_batch * whole / shapes.ring
        own_heads = heads.query_heads(mixer, shapes)
        queries = heads.local_query_elements(mixer, shapes)
        kv = heads.local_kv_elements(mixer, shapes)
        steps = np.where(blocks.attends_at_once(mixer, shapes), 1.0, shapes.ring)
        rows = shapes.ring_tokens * own_heads
        core = flash_attention(
            sent.CORE_ATTENTION,
            backward=backward,
            pairs=own_heads * pairs * blocks.busiest_over_mean(mixer, shapes),
            rows=rows,
            inner=blocks.inner_tokens(mixer, shapes, backward=backward),
            width=np.full(len(shapes), float(mixer.head_dim)),
            elements=(2.0 * queries + kv) * steps,
            calls=steps,
            masked_rows=rows,
            masked_keys=blocks.keys_along_the_mask(mixer, shapes),
            selective=shapes.pick(1.0, 0.0),
            first_block=blocks.first_block_share(mixer, shapes),
        )
        return core, self._merge(backward=backward)

    def _merge(self, *, backward: bool) -> Compute:
        """Return what a ring's blocks are put together with, and the gradients of their keys."""
        mixer, shapes = self.layer.attention, self.shapes
        blockwise = (shapes.ring > 1) & ~blocks.attends_at_once(mixer, shapes)
        queries, kv = (
            heads.local_query_elements(mixer, shapes),
            heads.local_kv_elements(mixer, shapes),
        )
        summed = queries + (kv if backward else 0.0)
        added = queries * (blocks.queries_attended(mixer, shapes) - 1.0)
        added = added + (kv * (shapes.ring - 1.0) if backward else 0.0)
        parts = [
            elementwise("ring merge", operator, shapes, np.where(blockwise, elements, 0.0))[
                backward
            ]
            for operator, elements in (("merge", added), ("total", summed), ("sent", kv))
        ]
        nbytes = parts[0].nbytes + parts[1].nbytes + parts[2].nbytes
        launches = parts[0].launches * (shapes.ring - 1.0) + parts[1].launches + parts[2].launches
        return memory("ring merge", shapes, nbytes, launches, _CORE)

    def _after(self, phase: int) -> tuple[Compute, ...]:
        return residual(self.layer, "attention", self.hidden, self.shapes, phase)
