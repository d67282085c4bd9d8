"""The words of the inventory: what is computed, sent and kept, as arrays over shapes of work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from models.recompute_modules import NOTHING, USUAL_MODULES, RecomputeModules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.layout import Array, Bools
    from topologies.collective import Collective


#: What names of products that give gradients of weights end with.
WEIGHT_GRADIENT = " wgrad"


class Kind(StrEnum):
    """What limits a compute operation."""

    GEMM = "gemm"
    ATTENTION = "attention"
    ATTENTION_BACKWARD = "attention_backward"
    MEMORY = "memory"


class Axis(StrEnum):
    """The axis of the layout whose groups communicate."""

    TP = "tp"
    ULYSSES = "ulysses"
    RING = "ring"  # from window to window of the ring; a flat ring's windows are single ranks
    INNER_RING = "inner_ring"  # inside a window of a double ring
    EP = "ep"
    EP_INSIDE = "ep_inside"  # those of a group of experts in one fast domain
    EP_ACROSS = "ep_across"  # those that have the same place in each of its fast domains
    ETP = "etp"


#: Axes of the expert mesh.
EXPERT_AXES = (Axis.EP, Axis.EP_INSIDE, Axis.EP_ACROSS, Axis.ETP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One operation on one rank, for one micro-batch.

    Parameters
    ----------
    name, kind
        What it is and what limits it.
    flop, nbytes
        Floating-point operations and device-memory traffic of the busiest rank.
    launches
        Kernels started.
    rows, columns, depth
        GEMM: M, N, K. Attention: query rows of all heads, tokens of a kernel's inner loop that no
        mask cuts off, mean width of key and value heads.
    selective
        Share of it that eager kernels run again under selective recomputation (full recomputation
        repeats all of a forward pass).
    modules
        Fused kernels run it again where selective recomputation repeats any of these.
    first_block
        Where it is done block by block as a ring turns: the first block's share of a later one's.
    peak
        Dense peak that a product runs at: ``bf16``, ``fp8`` or ``fp4``.
    edge_flop, edge_keys
        Attention: FLOP of one key more for every query row whose keys a mask cuts off, and how many
        keys it cuts at most. Kernels compute whole tiles along the mask's edge.
    groups
        GEMM: products of these sizes that run as one, each of as many rows as tokens chose it.
    aligned
        GEMM: whether every row of its operands starts on a boundary of 16 bytes.
    repeats
        Whether recomputation runs it again; not where nothing kept comes after it.
    """

    name: str
    kind: Kind
    flop: Array
    nbytes: Array
    launches: Array
    rows: Array
    columns: Array
    depth: Array
    selective: Array | float
    first_block: Array | float = 1.0
    peak: str = "bf16"
    edge_flop: Array | float = 0.0
    edge_keys: Array | float = 0.0
    modules: RecomputeModules = NOTHING
    groups: Array | float = 1.0
    aligned: bool = True
    repeats: bool = True

    @property
    def of_weights(self) -> bool:
        """Whether it gives gradients of weights, which nothing but the optimizer waits for."""
        return self.name.endswith(WEIGHT_GRADIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication:
    """One collective of one axis, for one micro-batch.

    Parameters
    ----------
    name, collective, axis
        What it is, what the group does, and which groups do it.
    nbytes
        Bytes of one call, counted as :class:`Collective` says.
    calls
        Calls, or hops of a shift. Zero where the axis has one rank.
    hidden_by
        Name of the compute operation of the same phase it may overlap with; empty if none.
    behind
        Of what travels from block to block: sent beside the next block once one is done, instead of
        beside it for the next one.
    with_last
        Whether it travels while the communication before it does, on other links.
    selective, modules, repeats
        As of :class:`Compute`.
    """

    name: str
    collective: Collective
    axis: Axis
    nbytes: Array
    calls: Array
    hidden_by: str = ""
    behind: bool = False
    with_last: bool = False
    selective: Array | float = 0.0
    modules: RecomputeModules = NOTHING
    repeats: bool = True

    def without_weights(self) -> Communication:
        """Return it in a pass that leaves gradients of weights for later: they hide nothing."""
        if self.hidden_by.endswith(WEIGHT_GRADIENT):
            return replace(self, hidden_by="")
        return self


#: What a layer's passes are made of.
Operation = Compute | Communication


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What one operator keeps for the backward pass, in bytes per micro-batch on one rank.

    Parameters
    ----------
    name
        Operator that keeps it.
    nbytes
        Kept without recomputation.
    selective_nbytes
        Kept under selective recomputation.
    modules
        Fused kernels keep that much where any of these is repeated, and all of it elsewhere.
    """

    name: str
    nbytes: Array
    selective_nbytes: Array
    modules: RecomputeModules = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything one part of the model (a layer, the embedding, the head) does and keeps.

    Parameters
    ----------
    forward, backward
        Operations of each phase in order.
    saved
        Kept from forward to backward, by operator.
    input_bytes
        The part's input, which full recomputation keeps instead of `saved`.
    working_bytes
        What its fullest moment needs beyond `saved`, communication aside.
    buffer_bytes
        What buffers of communication add to that.
    fused
        Where kernels are fused.
    """

    forward: tuple[Operation, ...]
    backward: tuple[Operation, ...]
    saved: tuple[Saved, ...]
    input_bytes: Array
    working_bytes: Array
    buffer_bytes: Array
    fused: Bools

    def forward_compute(self) -> list[Compute]:
        """Return the compute operations of the forward pass."""
        return [op for op in self.forward if isinstance(op, Compute)]

    def backward_compute(self) -> list[Compute]:
        """Return the compute operations of the backward pass."""
        return [op for op in self.backward if isinstance(op, Compute)]

    def forward_communication(self) -> list[Communication]:
        """Return the communication of the forward pass."""
        return [op for op in self.forward if isinstance(op, Communication)]

    def backward_communication(self) -> list[Communication]:
        """Return the communication of the backward pass."""
        return [op for op in self.backward if isinstance(op, Communication)]

    def forward_flop(self) -> Array:
        """Return the FLOP of the forward pass on the busiest rank."""
        return _sum(op.flop for op in self.forward_compute())

    def backward_flop(self) -> Array:
        """Return the FLOP of the backward pass on the busiest rank."""
        return _sum(op.flop for op in self.backward_compute())

    def saved_bytes(self) -> Array:
        """Return bytes kept without recomputation."""
        return _sum(item.nbytes for item in self.saved)

    def selective_bytes(self, modules: RecomputeModules = USUAL_MODULES) -> Array:
        """Return bytes kept under selective recomputation of some modules."""
        return _sum(
            item.selective_nbytes
            if item.modules & modules
            else np.where(self.fused, item.nbytes, item.selective_nbytes)
            for item in self.saved
        )

    def repeated(self) -> tuple[Operation, ...]:
        """Return the operations that full recomputation runs again, in order."""
        return tuple(op for op in self.forward if op.repeats)

    def repeatable(self) -> RecomputeModules:
        """Return the modules that selective recomputation can repeat."""
        return reduce(or_, (op.modules for op in self.forward))


def repeated_share(op: Operation, modules: RecomputeModules, fused: Bools) -> Array:
    """Return the share that runs again under selective recomputation of some modules."""
    if not op.repeats:
        return np.zeros(len(fused))
    return np.where(fused, 1.0 if op.modules & modules else 0.0, op.selective)


def repeated_by(
    modules: RecomputeModules, operations: Iterable[Operation]
) -> tuple[Operation, ...]:
    """Return operations that selective recomputation of any of some modules repeats too."""
    return tuple(replace(op, modules=op.modules | modules) for op in operations)


def _sum(parts: Iterable[Array]) -> Array:
    return reduce(np.add, parts)
