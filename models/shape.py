"""Shapes of work: the part of a layout that decides what one rank computes and sends.

Millions of layouts share a few hundred shapes (a shape does not know the schedule or ZeRO, nor the
data-parallel degree unless it lies inside context parallelism), so the inventory is taken once per
shape and indexed by layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.expert_mesh import expert_stride
from models.layout import Layout, LayoutBatch, stride, strides
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.precision import Precision, usual_precision
from models.routing import BALANCED
from models.software import Software, usual_software

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.layout import Array, Bools, Ints
    from models.routing import Routing
    from models.workload import Workload

#: Columns of a layout that a shape is made of, beside the stride of context parallelism.
SHAPE_AXES = (
    "tp",
    "ulysses",
    "ring",
    "inner_ring",
    "micro_batch",
    "tp_sp",
    "cp_method",
    "sequence_order",
    "cp_placement",
    "kernels",
    "ep",
    "etp",
    "dispatch",
    "shared_overlap",
)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Distinct shapes of work; arrays of one length.

    What every operation asks for is kept once found.

    Parameters
    ----------
    batch
        One layout of each shape, to read the axes of :data:`SHAPE_AXES` and strides from.
    seq_len
        Tokens of a whole sequence.
    routing
        How tokens spread over experts.
    domain
        Accelerators that reach each other without a network card.
    precision
        What products of the layers run in.
    software
        What runs them.
    expands_kv_gradients
        Whether attention's backward pass has gradients of keys and values for each query head.
    packed_len
        Tokens of each of the sequences packed into one, all alike, which attend to themselves only;
        None where there is one.
    """

    batch: LayoutBatch
    seq_len: int
    routing: Routing = BALANCED
    domain: int = 1
    precision: Precision = field(default_factory=usual_precision)
    software: Software = field(default_factory=usual_software)
    expands_kv_gradients: bool = False
    packed_len: int | None = None

    @classmethod
    def of(
        cls,
        batch: LayoutBatch,
        workload: Workload,
        domain: int = 1,
        *,
        expands_kv_gradients: bool = False,
    ) -> tuple[Shapes, NDArray[np.intp]]:
        """Return the distinct shapes of a batch, and for each layout the index of its shape."""
        columns = [getattr(batch, name) for name in SHAPE_AXES]
        columns.append(np.where(batch.cp > 1, stride(batch, "cp"), 1))
        if batch.ep.max(initial=1) > 1:
            columns.append(np.where(batch.ep > 1, expert_stride(batch, "ep"), 1))
        first, index = distinct(columns)
        shapes = cls(
            batch=batch.take(first),
            seq_len=workload.seq_len,
            routing=workload.routing,
            domain=domain,
            precision=workload.recipe,
            software=workload.runs_on,
            expands_kv_gradients=expands_kv_gradients,
            packed_len=workload.packed_len,
        )
        return shapes, index

    @classmethod
    def single(cls, workload: Workload) -> Shapes:
        """Return the one shape of a whole sequence on one rank."""
        layout = LayoutBatch.of([Layout()])
        return cls(
            batch=layout,
            seq_len=workload.seq_len,
            precision=workload.recipe,
            packed_len=workload.packed_len,
        )

    def with_method(self, method: CpMethod) -> Shapes:
        """Return the same shapes with one method where each layer has its own."""
        own = self.batch.cp_method == CpMethod.PER_LAYER
        if not own.any():
            return self
        methods = np.where(own, method, self.batch.cp_method).astype(np.int32)
        return replace(self, batch=self.batch.with_columns(cp_method=methods))

    def __len__(self) -> int:
        """Return the number of shapes."""
        return len(self.batch)

    @cached_property
    def tp(self) -> Array:
        """Tensor-parallel degree."""
        return self.batch.tp * 1.0

    @cached_property
    def ulysses(self) -> Array:
        """Ulysses degree."""
        return self.batch.ulysses * 1.0

    @cached_property
    def ring(self) -> Array:
        """Ring degree."""
        return self.batch.ring * 1.0

    @property
    def inner_ring(self) -> Array:
        """Ranks of one window of the ring; 1 on a flat ring."""
        return self.batch.inner_ring * 1.0

    @property
    def windows(self) -> Array:
        """Windows of the ring: ``ring / inner_ring``; on a flat ring each is one rank."""
        return self.ring / self.inner_ring

    @cached_property
    def micro_batch(self) -> Array:
        """Sequences of one pass."""
        return self.batch.micro_batch * 1.0

    @property
    def attended(self) -> int:
        """Tokens of what attends to itself only: a whole sequence, or each packed into it.

        Ranks of a ring share each evenly (TransformerEngine 2.8 ``context_parallel.py``: the ends
        of packed sequences over the ranks).
        """
        return min(self.packed_len or self.seq_len, self.seq_len)

    @cached_property
    def tokens(self) -> Array:
        """Tokens of one rank outside attention: ``b * S / cp``."""
        return self.micro_batch * self.seq_len / (self.ulysses * self.ring)

    @property
    def ring_tokens(self) -> Array:
        """Tokens of one rank inside attention, after Ulysses: ``b * S / ring``."""
        return self.micro_batch * self.seq_len / self.ring

    @property
    def own_tokens(self) -> Array:
        """Tokens that only this rank has: of :attr:`tokens` its share where tp_sp shards them."""
        return self.tokens / self.norm_shard

    @property
    def ep(self) -> Array:
        """Ranks that experts are spread over."""
        return self.batch.ep * 1.0

    @property
    def etp(self) -> Array:
        """Ranks that cut each expert."""
        return self.batch.etp * 1.0

    @property
    def ep_inside(self) -> Array:
        """Of the ranks that experts are spread over, those in one fast domain."""
        reached = np.maximum(self.domain // expert_stride(self.batch, "ep"), 1)
        return np.gcd(self.batch.ep, reached) * 1.0

    @property
    def sharded(self) -> Array:
        """1 where tp_sp shards the activations outside attention and MLP, else 0."""
        return self.batch.tp_sp * 1.0

    @cached_property
    def norm_shard(self) -> Array:
        """Ranks over which activations outside attention and MLP are split."""
        return np.where(self.batch.tp_sp > 0, self.tp, 1.0)

    @cached_property
    def fused(self) -> Bools:
        """Where the kernel set is the fused one."""
        fused: Bools = self.batch.kernels == Kernels.FUSED
        return fused

    @property
    def gathers_kv(self) -> Bools:
        """Where the ring axis gathers all keys and values instead of passing them on."""
        gathers: Bools = (self.batch.cp_method == CpMethod.ALL_GATHER) & (self.batch.ring > 1)
        return gathers

    @property
    def zigzag(self) -> Bools:
        """Where each ring rank holds a pair of chunks from both ends of the sequence."""
        zigzag: Bools = self.batch.sequence_order == SequenceOrder.ZIGZAG
        return zigzag

    def pick(self, fused: Array | float, eager: Array | float) -> Array:
        """Return one value where kernels are fused and another where they are eager."""
        return np.where(self.fused, fused, eager)

    @property
    def input_bytes(self) -> Array:
        """Bytes per element that are kept of the input of a layer's product.

        Fused kernels keep what the product reads (TransformerEngine saves the quantised tensor),
        eager ones the bf16 tensor that was quantised (torchao's ``Float8Linear``).
        """
        return self.pick(self.precision.input_bytes, BF16)

    def strides(self) -> dict[str, Array]:
        """Return the strides of the axes whose groups a shape's work uses."""
        all_strides = strides(self.batch)
        expert = {axis: expert_stride(self.batch, axis) * 1.0 for axis in ("ep", "etp")}
        return expert | {
            axis: getattr(all_strides, axis) for axis in ("tp", "ulysses", "ring", "inner_ring")
        }


def run_starts(columns: list[Ints]) -> Bools:
    """Return where a row of some columns differs from the one before it; the first row does."""
    changed = np.zeros(len(columns[0]), dtype=np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def distinct(columns: list[Ints]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return positions of the distinct rows of some columns, and each row's place among them.

    Rows that repeat their neighbour are skipped before sorting: spaces are enumerated with shapes
    outermost, so runs are long.

    >>> import numpy as np
    >>> first, index = distinct([np.array([5, 5, 2, 5]), np.array([1, 1, 1, 1])])
    >>> [int(i) for i in first], [int(i) for i in index]
    ([2, 0], [1, 1, 0, 1])
    """
    changed = run_starts(columns)
    starts = np.flatnonzero(changed)
    code = np.zeros(len(starts), dtype=np.int64)
    radix = 1
    for column in columns:
        base = int(column.max(initial=0)) + 1
        if radix * base >= 2**62:  # too many combinations for one number: renumber those in use
            _, code = np.unique(code, return_inverse=True)
            radix = len(starts)
        code = code * base + column[starts]
        radix *= base
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    run = np.cumsum(changed) - 1
    return starts[first], place[run]
