"""Softmax attention: projections, head norms and rotation around core attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models import saved_tensors
from models.dtype import BF16
from models.kernel_set import EAGER, FUSED
from models.mixers.core_attention import CoreAttention
from models.operators import elementwise, memory, product
from models.recompute_modules import RecomputeModules
from models.sequence_parallel import heads
from models.tensor_parallel import column_input, gather_again, head_norm_sums, row_output

if TYPE_CHECKING:
    from models.architecture import Attention, NormKind
    from models.layout import Array
    from models.mixers.half import Moment
    from models.operation import Compute, Operation, Saved
    from models.shape import Shapes


class AttentionWork:
    """Softmax attention: projections, head norms and rotation around core attention.

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
        self.core = CoreAttention(mixer, shapes)
        self.queries = mixer.q_width / shapes.tp
        self.keys = heads.kv_heads_of_tp_rank(mixer, shapes) * mixer.head_dim
        self.query_columns = mixer.query_columns / shapes.tp

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        gather, _ = column_input("attention", self.hidden, self.shapes, reductions=1.0)
        project, _ = self._projections()
        output, _ = self._output()
        return (
            *gather,
            *project,
            *self._heads(0),
            *self._repeat(),
            *self.core.forward(),
            *self._gate(0),
            *output,
            *row_output("attention", self.hidden, self.shapes, forward=True),
        )

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order."""
        eager = 1 if self.mixer.joint else EAGER.input_reductions[0]
        reductions = self.shapes.pick(FUSED.input_reductions[0], eager)
        gather, scatter = column_input("attention", self.hidden, self.shapes, reductions)
        _, project = self._projections()
        _, output = self._output()
        return (
            *row_output("attention", self.hidden, self.shapes, forward=False),
            *output,
            *self._gate(1),
            *self.core.backward(),
            *self._repeat(),
            *self._heads(1),
            *self._split(),
            *gather_again(gather, self.shapes),
            *project,
            *scatter,
        )

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        return saved_tensors.attention(self.mixer, self.norm, self.shapes)

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest."""
        return self.core.moments(norm, self.saved(), passing)

    def parameters(self) -> Array:
        """Return the parameters one rank holds: matrices split, key/value heads replicated."""
        columns = self.query_columns + self.queries + 2.0 * self.keys
        total: Array = self.hidden * columns
        return total + self.mixer.small_params(self.hidden)

    def _projections(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        eager = 1 if self.mixer.joint else EAGER.qkv_products
        launches = self.shapes.pick(FUSED.qkv_products, eager)
        columns = self.query_columns + 2.0 * self.keys
        return product("qkv", self.shapes, self.shapes.tokens, columns, self.hidden, launches)

    def _split(self) -> tuple[Compute, ...]:
        """Return how gradients of queries, keys and values become that of one joint product."""
        if not self.mixer.joint:
            return ()
        elements = self.shapes.tokens * (self.query_columns + 2.0 * self.keys)
        return (elementwise("qkv split", "joint_split", self.shapes, elements)[1],)

    def _output(self) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
        return product("attention out", self.shapes, self.shapes.tokens, self.hidden, self.queries)

    def _heads(self, phase: int) -> tuple[Operation, ...]:
        """Return norms of queries and keys, and the rotation of the columns that rotate."""
        ops: list[Operation] = []
        elements = self.shapes.tokens * (self.queries + self.keys)
        if self.mixer.qk_norm:
            weighted = self.mixer.qk_weights != "none"
            operator = f"{self.norm}_norm" if weighted else "unweighted_norm"
            if self.mixer.whole_row_norms(self.norm):
                ops.append(head_norm_sums("head norm sums", self.shapes))
            ops.append(elementwise("head norms", operator, self.shapes, elements)[phase])
        if self.mixer.rotary:
            share = self.mixer.rotary_share
            # A fused kernel also copies the columns that do not rotate.
            rotated = elements * self.shapes.pick(1.0, share)
            ops.append(elementwise("rotary", "rotary", self.shapes, rotated)[phase])
            if share < 1:
                ops.append(elementwise("rotary join", "rotary_join", self.shapes, elements)[phase])
        return tuple(ops)

    def _repeat(self) -> tuple[Compute, ...]:
        """Return copies of keys and values for every query head; backward, sums of gradients.

        Either way the fewer heads and those of all queries are read or written once.
        """
        shapes = self.shapes
        if not shapes.software.repeats_kv:
            return ()
        moved = 2.0 * BF16 * shapes.tokens * (self.keys + self.queries)
        nbytes = np.where(self.keys < self.queries, moved, 0.0)
        modules = RecomputeModules.CORE_ATTN
        return (memory("kv repeat", nbytes, 2.0, modules=modules),)

    def _gate(self, phase: int) -> tuple[Compute, ...]:
        """Return the output times the sigmoid of its gate."""
        if not self.mixer.gated:
            return ()
        elements = self.shapes.tokens * self.queries
        return (elementwise("attention gate", "output_gate", self.shapes, elements)[phase],)
