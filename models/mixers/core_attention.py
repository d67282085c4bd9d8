"""Core attention of any mixer with softmax attention, and what is sent around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.flash_attention import flash_attention
from models.mixers.half import Moment
from models.operators import elementwise, memory
from models.recompute_modules import RecomputeModules
from models.sequence_parallel import blocks, heads, sent
from models.unfused_attention import score_bytes, unfused_attention

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.layout import Array
    from models.operation import Compute, Operation, Saved
    from models.sequence_parallel.heads import AttentionHeads
    from models.shape import Shapes

#: Bytes per exchanged element to make it contiguous before an exchange, and again after it.
PACK_BYTES = 4.0 * BF16


class CoreAttention:
    """Core attention of any mixer with softmax attention, and what is sent around it.

    Parameters
    ----------
    mixer, shapes
        The mixer, and shapes of work to take it for.
    """

    def __init__(self, mixer: AttentionHeads, shapes: Shapes) -> None:
        self.mixer, self.shapes = mixer, shapes

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations, from exchanged q, k, v to the returned output."""
        into, *between, out = sent.forward_communication(self.mixer, self.shapes)
        kernels = self._kernels(backward=False)
        return (into, self._pack(), *between, *kernels, self._merge(backward=False), out)

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations, from the output's gradient to those of q, k and v."""
        out, *between, into = sent.backward_communication(self.mixer, self.shapes)
        kernels = self._kernels(backward=True)
        return (out, *between, *kernels, self._merge(backward=True), into, self._pack())

    def moments(self, norm: Array, saved: Iterable[Saved], passing: Array) -> tuple[Moment, Moment]:
        """Return the moments of its kernels.

        Parameters
        ----------
        norm, passing
            As of :meth:`models.mixers.half.MixerWork.moments`.
        saved
            What the whole mixer keeps; the output product's input is called ``o``.
        """
        kept = {item.name: item.nbytes for item in saved}
        own = norm + sum(kept.values())
        # The output product's input, where that is another tensor than what the kernels keep.
        transposed = kept["o before it is transposed"]
        returned = np.where(kept["o of the core"] > 0, kept["o"], transposed)
        # Until a ring has gone round, o is its sum in fp32.
        summed = np.where(self.shapes.ring > 1, self.shapes.pick(0.0, kept["o"]), 0.0)
        return (
            Moment(
                name="attention forward",
                saved=own - returned - summed,
                working=self._scores(),
                buffers=sent.forward_buffer_bytes(self.mixer, self.shapes),
            ),
            Moment(
                name="attention backward",
                saved=own - returned,
                working=passing + self._scores() + attention_gradients(self.mixer, self.shapes),
                buffers=sent.backward_buffer_bytes(self.mixer, self.shapes),
            ),
        )

    def _pack(self) -> Compute:
        """Return transposes to contiguous memory before and after each exchange."""
        qkv, output = heads.exchanged_elements(self.mixer, self.shapes)
        launches = np.where(self.shapes.ulysses > 1, 8.0, 0.0)
        return _moved("ulysses pack", self.shapes, (qkv + output) * PACK_BYTES, launches)

    def _scores(self) -> Array:
        """Return scores and their gradients that are alive beside what is kept of them."""
        if not self.shapes.software.unfused:
            return np.zeros(len(self.shapes))
        _, working = score_bytes(*heads.score_matrices(self.mixer, self.shapes))
        return working

    def _kernels(self, *, backward: bool) -> tuple[Compute, ...]:
        if self.shapes.software.unfused:
            return self._unfused(backward=backward)
        return (self._flash(backward=backward),)

    def _unfused(self, *, backward: bool) -> tuple[Compute, ...]:
        mixer, shapes = self.mixer, self.shapes
        of_all, queries, keys = heads.score_matrices(mixer, shapes)
        return unfused_attention(
            sent.CORE_ATTENTION,
            backward=backward,
            heads=of_all,
            queries=queries,
            keys=keys,
            width=float(mixer.head_dim),
            value_width=float(mixer.value_dim),
        )

    def _flash(self, *, backward: bool) -> Compute:
        mixer, shapes = self.mixer, self.shapes
        pairs = shapes.micro_batch * blocks.pairs_of(mixer, shapes) / shapes.ring
        own_heads = heads.query_heads(mixer, shapes)
        queries = heads.local_query_elements(mixer, shapes)
        output = heads.local_output_elements(mixer, shapes)
        kv = heads.local_kv_elements(mixer, shapes)
        steps = np.where(blocks.attends_at_once(mixer, shapes), 1.0, shapes.ring)
        rows = shapes.ring_tokens * own_heads
        return flash_attention(
            sent.CORE_ATTENTION,
            backward=backward,
            pairs=own_heads * pairs * blocks.busiest_over_mean(mixer, shapes),
            rows=rows,
            inner=blocks.inner_tokens(mixer, shapes, backward=backward),
            width=np.full(len(shapes), float(mixer.head_dim)),
            value_width=np.full(len(shapes), float(mixer.value_dim)),
            elements=(queries + output + kv) * steps,
            calls=steps,
            masked_rows=rows,
            masked_keys=blocks.keys_along_the_mask(mixer, shapes),
            first_block=blocks.first_block_share(mixer, shapes),
        )

    def _merge(self, *, backward: bool) -> Compute:
        """Return what a ring's blocks are put together with, and the gradients of their keys."""
        mixer, shapes = self.mixer, self.shapes
        blockwise = (shapes.ring > 1) & ~blocks.attends_at_once(mixer, shapes)
        kv = heads.local_kv_elements(mixer, shapes)
        of_rows = heads.local_query_elements if backward else heads.local_output_elements
        rows = of_rows(mixer, shapes)
        summed = rows + (kv if backward else 0.0)
        added = rows * (blocks.queries_attended(mixer, shapes) - 1.0)
        added = added + (kv * (shapes.ring - 1.0) if backward else 0.0)
        parts = [
            elementwise("ring merge", operator, shapes, np.where(blockwise, elements, 0.0))[
                backward
            ]
            for operator, elements in (("merge", added), ("total", summed), ("sent", kv))
        ]
        nbytes = parts[0].nbytes + parts[1].nbytes + parts[2].nbytes
        launches = parts[0].launches * (shapes.ring - 1.0) + parts[1].launches + parts[2].launches
        return _moved("ring merge", shapes, nbytes, launches)


def _moved(name: str, shapes: Shapes, nbytes: Array, launches: Array) -> Compute:
    """Return what core attention moves: repeated with it, and kept where eager kernels keep it."""
    return memory(name, nbytes, launches, 0.0, RecomputeModules.CORE_ATTN)


def attention_gradients(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return gradients of core attention: do, dq, dk and dv, and dq summed up in fp32.

    The last is the flash kernel's own (FlashAttention-2's workspace): no storage of torch, but
    memory of the device. So are gradients of keys and values for each query head, where key/value
    heads are fewer and the kernel adds up those of a group afterwards.
    """
    output = heads.local_output_elements(attention, shapes)
    queries = heads.local_query_elements(attention, shapes)
    kv = heads.local_kv_elements(attention, shapes)
    expanded = np.zeros(len(shapes))
    if shapes.expands_kv_gradients:
        grouped = heads.kv_heads_in_attention(attention, shapes) < heads.query_heads(
            attention, shapes
        )
        keys = np.where(blocks.attends_at_once(attention, shapes), shapes.ring, 1.0)
        expanded = np.where(grouped, keys * (queries + output), 0.0)
    total: Array = BF16 * (output + kv + expanded) + (BF16 + FP32) * queries
    return total
