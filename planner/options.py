"""What can be chosen beside the degrees of a mesh: one row for every legal combination."""

from __future__ import annotations

from functools import cached_property
from itertools import chain, product
from typing import TYPE_CHECKING

import numpy as np

from models.framework_choice import has_ability, rank_orders, runnable
from models.layout import AXES, Layout, LayoutBatch
from models.named_axes import (
    CpMethod,
    CpPlacement,
    Dispatch,
    Kernels,
    RankOrder,
    Recompute,
    RecomputeMethod,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.rank_order import distinct_orders
from models.recompute_modules import USUAL_MODULES
from models.rules.experts import has_shared, mixtures
from models.rules.sequence import differs_by_layer, replicates_kv
from models.schedule import SEVERAL_CHUNKS
from models.stages import stage_sizes
from planner.recompute_sets import module_sets
from planner.schedules import SCHEDULES, chunks, possible
from topologies.divisors import divisors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Ints
    from models.recompute_modules import RecomputeModules
    from models.rules.rule import Job
    from planner.bounds import Bounds

INTERLEAVINGS = range(2, 9)
#: Marks a layout whose number of recomputed layers is still to be found.
FEWEST = -1
MESH_AXES = ("tp", "ulysses", "ring", "pp", "dp")
OPTION_AXES = tuple(axis for axis in AXES if axis not in MESH_AXES and axis != "micro_batch")

#: The options of one mesh and micro-batch: a column for each of OPTION_AXES.
Options = dict[str, "Ints"]


class MeshOptions:
    """The options of every mesh of a job.

    Meshes that differ in their degrees only share them.

    Parameters
    ----------
    job
        Model, workload and accelerators.
    bounds
        Pins and bounds on axes.
    framework
        Name of a framework, ``any`` or ``unrestricted``.
    """

    def __init__(self, job: Job, bounds: Bounds, framework: str) -> None:
        self.job, self.bounds, self.framework = job, bounds, framework
        self._found: dict[tuple[object, ...], Options] = {}
        self._chosen: dict[tuple[object, ...], tuple[LayoutBatch, Ints]] = {}
        self._chunked: dict[tuple[int, tuple[Schedule, ...]], list[list[int]]] = {}
        self._replicating: dict[tuple[int, int], bool] = {}
        self._same_split: dict[tuple[int, int, Schedule], bool] = {}
        self._expert: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}

    def of(self, mesh: tuple[int, ...], micro_batch: int) -> Options:
        """Return all options of a mesh: tp, ulysses, ring, pp, dp; its degrees decide."""
        tp, ulysses, ring, pp, dp = mesh
        passes = self.job.workload.global_batch // (dp * micro_batch)
        flags = (tp > 1, ulysses > 1, ring > 1, pp > 1, dp > 1, self._replicates(tp, ulysses))
        schedules = possible(pp, passes)
        key = (
            *flags,
            self._halves(ulysses * ring),
            tuple(self._inner_rings(ring)),
            pp,
            schedules,
            tuple(self._replicas(dp, dp * ulysses * ring)),
            *self._expert_meshes(mesh),
        )
        if key not in self._found:
            self._found[key] = self._expand(mesh, schedules)
        return self._found[key]

    def _expand(self, mesh: tuple[int, ...], schedules: tuple[Schedule, ...]) -> Options:
        """Return the choices of a mesh with all numbers of chunks, replicas and experts' ranks."""
        _, ulysses, ring, pp, dp = mesh
        choices, group = self._grouped_choices(mesh)
        replicas = self._replicas(dp, dp * ulysses * ring)
        experts = self._expert_meshes(mesh)
        several = [
            [(*pair, *expert) for pair, expert in product([*product(chunked, shards)], meant)]
            for chunked in self._chunks(pp, schedules)
            for shards in (
                [many for many in replicas if many == 1],
                [many for many in replicas if many > 1],
            )
            for meant in (
                [pair for pair in experts if (pair[0] > 1, pair[1] > 1) == spread]
                for spread in product((False, True), repeat=2)
            )
        ]
        sizes = np.array([len(pairs) for pairs in several])
        rows = sizes[group]
        index = np.repeat(np.arange(len(choices)), rows)
        within = np.arange(len(index)) - np.repeat(np.cumsum(rows) - rows, rows)
        pair = np.repeat((np.cumsum(sizes) - sizes)[group], rows) + within
        options = {axis: getattr(choices, axis).take(index) for axis in OPTION_AXES}
        table = np.array([*chain.from_iterable(several)], dtype=np.int32).reshape(-1, 4)
        found = table.take(pair, axis=0).T
        return options | dict(zip(("vp", "dp_replicate", "ep", "etp"), found, strict=True))

    def _grouped_choices(self, mesh: tuple[int, ...]) -> tuple[LayoutBatch, Ints]:
        """Return the choices of a mesh by schedule, split, whether shards are replicated and so on.

        And which of these groups each is in.
        """
        tp, ulysses, ring, pp, dp = mesh
        replicates, halves = self._replicates(tp, ulysses), self._halves(ulysses * ring)
        flags = (tp > 1, ulysses > 1, ring > 1, pp > 1, dp > 1, replicates, halves)
        spread = {(ep > 1, etp > 1) for ep, etp in self._expert_meshes(mesh)}
        key = (*flags, *self._inner_rings(ring), *sorted(spread))
        if key not in self._chosen:
            choices = self._choices(mesh)
            group = choices.schedule * len(StageSplit) + choices.stage_split
            group = group * 2 + (choices.dp_replicate > 1)
            group = group * 4 + (choices.ep > 1) * 2 + (choices.etp > 1)
            order = np.argsort(group, kind="stable")
            self._chosen[key] = choices.take(order), group[order]
        return self._chosen[key]

    def _choices(self, mesh: tuple[int, ...]) -> LayoutBatch:
        """Return what can be chosen beside degrees, chunks and replicas, as the framework runs it.

        Chunks and replicas are 2 where there are several; an axis without effect has one value.
        """
        tp, ulysses, ring, pp, dp = mesh
        both, replicable = ulysses > 1 and ring > 1, dp > 1
        halves = self._halves(ulysses * ring)
        order = SequenceOrder.ZIGZAG if halves else SequenceOrder.CONTIGUOUS
        axes: dict[str, list[int]] = {
            "kernels": self._pick("kernels", list(Kernels)),
            "cp_method": self._pick("cp_method", self._methods, CpMethod.P2P, used=ring > 1),
            "inner_ring": self._inner_rings(ring),
            "sequence_order": self._pick("sequence_order", [order]),
            "cp_placement": self._pick("cp_placement", list(CpPlacement), 0, used=both),
            "tp_sp": self._pick("tp_sp", [1] if self._mixed else [0, 1], 0, used=tp > 1),
            "recompute": self._recomputes(),
            "recompute_layers": self._pick("recompute_layers", [0, FEWEST]),
            "recompute_method": self._pick("recompute_method", [RecomputeMethod.BLOCK]),
            "recompute_modules": self._pick("recompute_modules", self._module_sets),
            "schedule": self._pick("schedule", SCHEDULES, Schedule.ONE_F_ONE_B, used=pp > 1),
            "stage_split": self._pick("stage_split", list(StageSplit), 0, used=pp > 1),
            "zero": self._pick("zero", [0, 1, 2, 3], 0, used=dp * ulysses * ring > 1),
            "dp_replicate": self._pick("dp_replicate", [1, 2], 1, used=replicable),
            "rank_order": self._rank_orders(ulysses * ring, dp, pp),
            **self._expert_choices(mesh),
        }
        grid = np.meshgrid(*axes.values(), indexing="ij", copy=False)
        columns = {
            axis: each.ravel().astype(np.int32) for axis, each in zip(axes, grid, strict=True)
        }
        columns["vp"] = np.where(SEVERAL_CHUNKS[columns["schedule"]], 2, 1).astype(np.int32)
        for axis, degree in zip((*MESH_AXES, "micro_batch"), (*mesh, 1), strict=True):
            columns[axis] = np.full(len(columns["vp"]), degree, dtype=np.int32)
        batch = LayoutBatch(**columns)
        meant = (batch.recompute == Recompute.FULL) | (batch.recompute_layers == 0)
        by_modules = (batch.recompute == Recompute.SELECTIVE) & (batch.kernels == Kernels.FUSED)
        meant &= by_modules | (batch.recompute_modules == USUAL_MODULES)
        meant &= (batch.dp_replicate == 1) | (batch.zero >= 1)
        meant &= (batch.cp_method == CpMethod.P2P) | (
            (batch.ulysses == 1) & (batch.inner_ring == 1)
        )
        spread, flat = batch.ep > 1, batch.dispatch == Dispatch.ALL_TO_ALL
        meant &= (spread | flat) & ((spread & flat) | (batch.shared_overlap == 0))
        meant &= spread | (batch.expert_overlap == 0)
        batch = batch.take(meant)
        model, work = self.job.architecture, self.job.workload
        return batch.take(runnable(batch, model, self.framework, work.states, work.precision))

    def _recomputes(self) -> list[int]:
        """Return what to recompute; where modules are pinned, these."""
        pinned = "recompute_modules" in self.bounds
        return self._pick("recompute", [Recompute.SELECTIVE] if pinned else list(Recompute))

    @cached_property
    def _module_sets(self) -> list[RecomputeModules]:
        return module_sets(self.job.architecture, self.framework)

    @cached_property
    def _methods(self) -> list[CpMethod]:
        alone = [CpMethod.P2P, CpMethod.ALL_GATHER]
        return [*alone, CpMethod.PER_LAYER] if differs_by_layer(self.job) else alone

    @cached_property
    def _mixed(self) -> bool:
        return bool(mixtures(self.job.architecture))

    def _expert_meshes(self, mesh: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return the pairs of ep and etp to try: experts whole, or cut as attention is."""
        tp, ulysses, ring, _, dp = mesh
        if not self._mixed:
            free = all(1 in self.bounds.choose(axis, [1]) for axis in ("ep", "etp"))
            return ((1, 1),) if free else ()
        ranks = dp * ulysses * ring * tp
        if (tp, ranks) not in self._expert:
            experts = min(moe.experts for moe in mixtures(self.job.architecture))
            self._expert[tp, ranks] = tuple(
                (ep, etp)
                for etp in self.bounds.choose("etp", {1, tp})
                for ep in self.bounds.choose("ep", divisors(experts))
                if ranks % (ep * etp) == 0
            )
        return self._expert[tp, ranks]

    def _expert_choices(self, mesh: tuple[int, ...]) -> dict[str, list[int]]:
        """Return what can be chosen of experts; ep and etp are 2 where they are several."""
        pairs = self._expert_meshes(mesh)
        spread = any(ep > 1 for ep, _ in pairs)
        shared = has_shared(self.job.architecture)
        return {
            "ep": sorted({min(ep, 2) for ep, _ in pairs}),
            "etp": sorted({min(etp, 2) for _, etp in pairs}),
            "dispatch": self._pick("dispatch", list(Dispatch), 0, used=spread),
            "shared_overlap": self._pick("shared_overlap", [0, 1], 0, used=spread and shared),
            "expert_overlap": self._pick("expert_overlap", [0], 0, used=spread),
        }

    def _rank_orders(self, cp: int, dp: int, pp: int) -> list[int]:
        """Return the rank orders to try: those that differ on a mesh and that a framework runs."""
        wanted = self.bounds.choose("rank_order", list(RankOrder))
        return distinct_orders(wanted, rank_orders(self.framework), cp=cp, dp=dp, pp=pp)

    def _inner_rings(self, ring: int) -> list[int]:
        """Return the windows of a ring to try: single ranks (a flat ring) and powers of two."""
        if not self._double_rings and "inner_ring" not in self.bounds:
            return [1]
        powers = [2**k for k in range(ring.bit_length())]
        sizes = [size for size in powers if size == 1 or (size < ring and ring % size == 0)]
        return self._pick("inner_ring", sizes, 1, used=ring > 1)

    @cached_property
    def _double_rings(self) -> bool:
        return has_ability("double_ring", self.framework)

    def _replicates(self, tp: int, ulysses: int) -> bool:
        """Whether Ulysses exceeds the key/value heads a tensor-parallel rank has."""
        if (tp, ulysses) not in self._replicating:
            replicated = replicates_kv(self.job.architecture, tp, ulysses)
            self._replicating[tp, ulysses] = bool(replicated)
        return self._replicating[tp, ulysses]

    def _halves(self, cp: int) -> bool:
        """Whether the sequence can be cut into the two chunks a rank of a zigzag ring holds."""
        return self.job.workload.seq_len % (2 * cp) == 0

    def _pick(
        self, axis: str, candidates: Sequence[int], idle: int = 0, *, used: bool = True
    ) -> list[int]:
        """Return the values of an axis to try; one where it has no effect, unless pinned."""
        if not used and axis not in self.bounds:
            return [idle]
        if axis == "dp_replicate" and axis in self.bounds:
            wanted = self.bounds.choose(axis, [2**k for k in range(31)])
            return sorted({min(value, 2) for value in wanted})
        wanted = [int(value) for value in self.bounds.choose(axis, candidates)]
        return wanted if used else wanted[:1]

    def _chunks(self, pp: int, schedules: tuple[Schedule, ...]) -> list[list[int]]:
        """Return numbers of chunks per rank that make distinct, legal stages.

        For every schedule and stage split; none for schedules that are not meant.
        """
        if (pp, schedules) not in self._chunked:
            wanted = self.bounds.choose("vp", [1, *INTERLEAVINGS])
            self._chunked[pp, schedules] = [
                [vp for vp in chunks(schedule, wanted) if self._is_split(pp, vp, split, schedule)]
                if schedule in schedules
                else []
                for schedule, split in product(Schedule, StageSplit)
            ]
        return self._chunked[pp, schedules]

    def _is_split(self, pp: int, vp: int, split: int, schedule: Schedule) -> bool:
        """Whether a split is possible, and, balanced, another than the even one."""
        layers, stages = len(self.job.architecture.layers), pp * vp
        if stages > layers:
            return False
        even = layers % stages == 0
        if split == StageSplit.EVEN:
            return even
        if (pp, vp, schedule) not in self._same_split:
            layout = Layout(pp=pp, vp=vp, schedule=schedule, stage_split=StageSplit.BALANCED)
            sizes = stage_sizes(self.job.architecture, self.job.workload, layout)
            self._same_split[pp, vp, schedule] = even and len(set(sizes)) == 1
        pinned = "stage_split" in self.bounds
        return stages > 1 and (pinned or not self._same_split[pp, vp, schedule])

    def _replicas(self, dp: int, ranks: int) -> list[int]:
        """Return HSDP replica counts that leave something to shard over."""
        powers = [2**k for k in range(dp.bit_length())]
        wanted = self.bounds.choose("dp_replicate", powers)
        return [many for many in wanted if dp % many == 0 and (many == 1 or ranks > many)]
