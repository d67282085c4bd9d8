"""Softmax attention: projections, core attention and what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models import saved_tensors
from models.dtype import BF16, FP32
from models.flash_attention import flash_attention
from models.kernel_set import EAGER, FUSED
from models.mixers.half import Moment
from models.operation import Communication, Compute
from models.operators import elementwise, memory, product
from models.sequence_parallel import blocks, heads, sent
from models.tensor_parallel import column_input, gather_again, row_output

if TYPE_CHECKING:
    from models.architecture import Attention, NormKind
    from models.layout import Array
    from models.operation import Saved
    from models.shape import Shapes

#: Bytes per exchanged element to make it contiguous before an exchange, and again after it.
PACK_BYTES = 4.0 * BF16

#: Part of the core attention that fused selective recomputation repeats and eager keeps.
_CORE = (1.0, 0.0)

Operation = Compute | Communication


class AttentionWork:
    """Softmax attention: projections, core attention and what they send.

    Parameters
    ----------
    mixer, norm
        The attention, and the kind of norm its heads have if any.
    hidden, shapes
        Width of the residual stream, and shapes of work to take it for.
    """

    name = "attention"

    def __init__(self, mixer: Attention, norm: NormKind, hidden: int, shapes: Shapes) -> None:
        self.mixer, self.norm, self.hidden, self.shapes = mixer, norm, hidden, shapes
        self.queries = mixer.q_width / shapes.tp
        self.keys = heads.kv_heads_of_tp_rank(mixer, shapes) * mixer.head_dim
        self.rotated = shapes.tokens * (self.queries + self.keys)

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        gather, _ = column_input("attention", self.hidden, self.shapes, reductions=1.0)
        into, *blocks, out = sent.forward_communication(self.mixer, self.shapes)
        project, _ = self._projections()
        output, _ = self._output()
        return (
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
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        reductions = self.shapes.pick(FUSED.input_reductions[0], EAGER.input_reductions[0])
        gather, scatter = column_input("attention", self.hidden, self.shapes, reductions)
        out, *blocks, into = sent.backward_communication(self.mixer, self.shapes)
        _, project = self._projections()
        _, output = self._output()
        return (
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
        )

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        return saved_tensors.attention(self.mixer, self.norm, self.shapes)

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest."""
        kept = {item.name: item.nbytes for item in self.saved()}
        own = norm + sum(kept.values())
        # The output product's input, where that is not what the core keeps itself.
        returned = np.where(kept["o of the core"] > 0, kept["o"], 0.0)
        # Until a ring has gone round, o is its sum in fp32.
        summed = np.where(self.shapes.ring > 1, self.shapes.pick(0.0, kept["o"]), 0.0)
        return (
            Moment(
                name="attention forward",
                saved=own - returned - summed,
                working=np.zeros(len(self.shapes)),
                buffers=sent.forward_buffer_bytes(self.mixer, self.shapes),
            ),
            Moment(
                name="attention backward",
                saved=own - returned,
                working=passing + attention_gradients(self.mixer, self.shapes),
                buffers=sent.backward_buffer_bytes(self.mixer, self.shapes),
            ),
        )

    def parameters(self) -> Array:
        """Return the parameters one rank holds: matrices split, key/value heads replicated."""
        total: Array = self.hidden * 2.0 * (self.queries + self.keys)
        return total + self.mixer.small_params(self.hidden)

    def _projections(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        launches = self.shapes.pick(FUSED.qkv_products, EAGER.qkv_products)
        columns = self.queries + 2.0 * self.keys
        return product("qkv", self.shapes, self.shapes.tokens, columns, self.hidden, launches)

    def _output(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product("attention out", self.shapes, self.shapes.tokens, self.hidden, self.queries)

    def _heads(self, phase: int) -> tuple[Compute, ...]:
        """Rotary embedding and head norms."""
        ops = []
        if self.mixer.qk_norm:
            ops.append(
                elementwise("head norms", f"{self.norm}_norm", self.shapes, self.rotated)[phase]
            )
        if self.mixer.rotary:
            ops.append(elementwise("rotary", "rotary", self.shapes, self.rotated)[phase])
        return tuple(ops)

    def _pack(self) -> tuple[Compute, ...]:
        """Transposes to contiguous memory before and after each exchange."""
        qkv, output = heads.exchanged_elements(self.mixer, self.shapes)
        launches = np.where(self.shapes.ulysses > 1, 8.0, 0.0)
        return (memory("ulysses pack", self.shapes, (qkv + output) * PACK_BYTES, launches, _CORE),)

    def _core(self, *, backward: bool) -> tuple[Compute, ...]:
        mixer, shapes = self.mixer, self.shapes
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
        mixer, shapes = self.mixer, self.shapes
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


def attention_gradients(attention: Attention, shapes: Shapes) -> Array:
    """Return gradients of core attention: do, dq, dk and dv, and dq summed up in fp32.

    The last is the flash kernel's own (FlashAttention-2's workspace): no storage of torch, but
    memory of the device.
    """
    queries, kv = (
        heads.local_query_elements(attention, shapes),
        heads.local_kv_elements(attention, shapes),
    )
    return (2.0 * BF16 + FP32) * queries + BF16 * kv
