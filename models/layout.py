"""How one job is cut across ranks: one layout, and batches of them as arrays.

``LayoutBatch`` is the form everything is computed in: one integer array per axis. A single
``Layout`` is what people read and write; it enters the models as a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from models.named_axes import (
    NAMED_AXES,
    CpMethod,
    CpPlacement,
    Dispatch,
    Kernels,
    Named,
    RankOrder,
    Recompute,
    RecomputeMethod,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.recompute_modules import USUAL_MODULES, RecomputeModules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int32]
    Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one job is cut across ranks.

    Parameters
    ----------
    dp, tp, pp
        Data, tensor and pipeline parallel degrees.
    ulysses, ring
        Degrees of the two context-parallel axes; ``cp = ulysses * ring``.
    inner_ring
        Ranks of one window of a double ring (LoongTrain, arXiv:2406.18485): keys and values go
        round each of ``ring / inner_ring`` windows and hop between them. 1 is a flat ring.
    vp
        Model chunks per pipeline rank (1 unless interleaved, looped or in a V).
    micro_batch
        Sequences per forward pass of one data-parallel rank.
    zero
        0 replicates everything; 1 shards optimizer states over dp x cp, 2 gradients too, 3
        parameters too (FSDP).
    dp_replicate
        HSDP: shards are replicated this many times over dp; 1 shards over all of it.
    tp_sp
        Megatron's sequence parallelism: activations outside attention and MLP sharded over tp.
    recompute, recompute_layers
        What is computed again; with ``full``, in how many layers of each pipeline rank, all its
        chunks together (0 for all), or with ``uniform`` of how many layers together.
    recompute_modules
        With ``selective`` and fused kernels, the parts of every layer that are computed again.
    ep, etp
        Ranks that experts are spread over, and ranks that cut each of them. Both are made of
        data-, context- and tensor-parallel ranks and need none of their own (Megatron-Core's
        parallel folding, arXiv:2504.14960).
    shared_overlap
        Whether shared experts run while tokens travel to the others.
    expert_overlap
        Whether tokens travel to experts and back while another micro-batch's pass computes
        (Megatron-LM's ``--overlap-moe-expert-parallel-comm``).
    recompute_method, cp_method, sequence_order, cp_placement, schedule, kernels, rank_order
        See the enumerations of these names.
    stage_split, dispatch
        See the enumerations of these names.
    """

    dp: int = 1
    tp: int = 1
    pp: int = 1
    ulysses: int = 1
    ring: int = 1
    inner_ring: int = 1
    vp: int = 1
    micro_batch: int = 1
    zero: int = 1
    dp_replicate: int = 1
    tp_sp: bool = False
    recompute: Recompute = Recompute.NONE
    recompute_layers: int = 0
    recompute_modules: RecomputeModules = USUAL_MODULES
    schedule: Schedule = Schedule.ONE_F_ONE_B
    cp_method: CpMethod = CpMethod.P2P
    sequence_order: SequenceOrder = SequenceOrder.ZIGZAG
    cp_placement: CpPlacement = CpPlacement.HEAD_FIRST
    kernels: Kernels = Kernels.FUSED
    rank_order: RankOrder = RankOrder.TP_CP_EP_DP_PP
    stage_split: StageSplit = StageSplit.EVEN
    ep: int = 1
    etp: int = 1
    dispatch: Dispatch = Dispatch.ALL_TO_ALL
    shared_overlap: bool = False
    expert_overlap: bool = False
    recompute_method: RecomputeMethod = RecomputeMethod.BLOCK

    @property
    def cp(self) -> int:
        """Context-parallel ranks: heads are traded inside ulysses, blocks travel along ring."""
        return self.ulysses * self.ring

    @property
    def gpus(self) -> int:
        """Accelerators the layout needs."""
        return self.dp * self.tp * self.pp * self.cp

    def to_dict(self) -> dict[str, int | bool | str]:
        """Return the layout with names instead of numbers, for JSON and messages."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        named = (Named, RecomputeModules)
        return {k: v.label if isinstance(v, named) else v for k, v in values.items()}

    def __str__(self) -> str:
        """Return the layout as people write it: ``dp8 tp4 pp2 ulysses4 mb1``."""
        degrees = [("dp", self.dp), ("tp", self.tp), ("pp", self.pp)]
        degrees += [("ulysses", self.ulysses), ("ring", self.ring), ("vp", self.vp)]
        degrees += [("ep", self.ep), ("etp", self.etp)]
        shown = [f"{name}{value}" for name, value in degrees if value > 1] or ["1 GPU"]
        return " ".join([*shown, f"mb{self.micro_batch}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutBatch:
    """Many layouts as a struct of integer arrays of one length; fields as in :class:`Layout`."""

    dp: Ints
    tp: Ints
    pp: Ints
    ulysses: Ints
    ring: Ints
    inner_ring: Ints
    vp: Ints
    micro_batch: Ints
    zero: Ints
    dp_replicate: Ints
    tp_sp: Ints
    recompute: Ints
    recompute_layers: Ints
    recompute_modules: Ints
    schedule: Ints
    cp_method: Ints
    sequence_order: Ints
    cp_placement: Ints
    kernels: Ints
    rank_order: Ints
    stage_split: Ints
    ep: Ints
    etp: Ints
    dispatch: Ints
    shared_overlap: Ints
    expert_overlap: Ints
    recompute_method: Ints

    @classmethod
    def of(cls, layouts: Sequence[Layout]) -> LayoutBatch:
        """Return the batch of some layouts."""
        return cls(
            **{
                name: np.array([int(getattr(layout, name)) for layout in layouts], dtype=np.int32)
                for name in AXES
            }
        )

    def __len__(self) -> int:
        """Return the number of layouts."""
        return len(self.dp)

    @property
    def cp(self) -> Ints:
        """Context-parallel ranks of each layout."""
        return self.ulysses * self.ring

    @property
    def gpus(self) -> Ints:
        """Accelerators each layout needs."""
        return self.dp * self.tp * self.pp * self.cp

    def micro_batches(self, global_batch: int) -> Ints:
        """Return forward passes per step and data-parallel rank."""
        return global_batch // (self.dp * self.micro_batch)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> LayoutBatch:
        """Return some of the layouts, chosen by index, mask or slice."""
        return LayoutBatch(**{name: getattr(self, name)[index] for name in AXES})

    def with_columns(self, **columns: Ints) -> LayoutBatch:
        """Return the batch with some axes replaced."""
        return LayoutBatch(**{name: columns.get(name, getattr(self, name)) for name in AXES})

    def layout(self, index: int) -> Layout:
        """Return one layout."""
        values: dict[str, Any] = {name: int(getattr(self, name)[index]) for name in AXES}
        named = {name: kind(values[name]) for name, kind in NAMED_AXES.items()}
        switches = {name: bool(values[name]) for name in SWITCHES}
        modules = {"recompute_modules": RecomputeModules(values["recompute_modules"])}
        return Layout(**{**values, **named, **switches, **modules})

    @classmethod
    def concatenate(cls, batches: Sequence[LayoutBatch]) -> LayoutBatch:
        """Return the layouts of several batches, one after another."""
        return cls(**{name: np.concatenate([getattr(b, name) for b in batches]) for name in AXES})


#: Axes that are on or off.
SWITCHES = ("tp_sp", "shared_overlap", "expert_overlap")
#: Names of all axes, in the order of the fields.
AXES: tuple[str, ...] = tuple(f.name for f in fields(LayoutBatch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strides:
    """Distance in ranks between neighbours of each axis; arrays over a batch of layouts."""

    tp: Array
    ulysses: Array
    ring: Array
    inner_ring: Array
    dp: Array
    pp: Array
    cp: Array


#: For a pair of axes, under which rank orders (a column each) the second lies inside the first.
_INSIDE: dict[tuple[str, str], Bools] = {
    (axis, inner): np.array([inner in o.axes[: o.axes.index(axis)] for o in RankOrder])
    for axis in RankOrder.TP_CP_EP_DP_PP.axes
    for inner in RankOrder.TP_CP_EP_DP_PP.axes
}


def strides(batch: LayoutBatch) -> Strides:
    """Return the strides of every axis under each layout's rank order.

    Inside context parallelism `cp_placement` says whether Ulysses or the ring is the inner axis.
    Windows of a double ring are runs of neighbours: `inner_ring` is the stride inside of one,
    `ring` the one from window to window, which on a flat ring (windows of one rank) is the same.
    """
    cp = stride(batch, "cp") * 1.0
    head_first = batch.cp_placement == CpPlacement.HEAD_FIRST
    neighbour = np.where(head_first, cp * batch.ulysses, cp)
    return Strides(
        tp=stride(batch, "tp") * 1.0,
        cp=cp,
        ulysses=np.where(head_first, cp, cp * batch.ring),
        ring=neighbour * batch.inner_ring,
        inner_ring=neighbour,
        dp=stride(batch, "dp") * 1.0,
        pp=stride(batch, "pp") * 1.0,
    )


def stride(batch: LayoutBatch, axis: str) -> Ints:
    """Return the stride of ``tp``, ``cp``, ``dp`` or ``pp``: the product of the degrees inside it.

    The innermost axis has stride 1 (Megatron-LM ``core/parallel_state.py``, ``RankGenerator``).
    """
    product = np.ones(len(batch), dtype=np.int32)
    for (outer, inner), orders in _INSIDE.items():
        if outer == axis and orders.any():
            inside = orders.take(batch.rank_order)
            if inside.any():
                product = np.where(inside, product * getattr(batch, inner), product)
    return product
