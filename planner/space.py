"""The space of layouts: every legal one for a job, as batches of arrays.

Enumerated are all tp x ulysses x ring x pp x dp that use every accelerator; micro-batches that are
powers of two; every ZeRO stage and every power-of-two HSDP replica count; both context-parallel
methods, both placements of a hybrid, the rank orders that differ; flat rings and, where the
framework has them, double rings whose windows are powers of two; even stages, and balanced ones
where they differ; interleaving by 2 to 8 chunks, and every other schedule that the framework runs;
no, selective and full recomputation, and full recomputation of the fewest layers that fit (found in
closed form: more are never faster).

Left out unless pinned, because they are never faster nor smaller than what is in: GPipe (against
1F1B), looped BFS (against interleaved 1F1B), contiguous rings where the sequence can be cut in
zigzag, more recomputed layers than needed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from models.framework import has_ability, rank_orders, runnable
from models.layout import (
    AXES,
    CpMethod,
    CpPlacement,
    Kernels,
    LayoutBatch,
    RankOrder,
    Recompute,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.legality import mesh_legal, options_legal, replicates_kv
from models.rank_order import distinct_orders
from models.schedule import SEVERAL_CHUNKS
from models.stages import layer_weights, split_layers
from planner.schedules import SCHEDULES, chunks, possible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.layout import Ints
    from models.legality import Job
    from planner.bounds import Bounds

#: Layouts evaluated together: large enough to amortise NumPy's calls, small enough for the cache.
BATCH = 65_536
INTERLEAVINGS = range(2, 9)
LARGEST_MICRO_BATCH = 64
#: Marks a layout whose number of recomputed layers is still to be found.
FEWEST = -1
MESH_AXES = ("tp", "ulysses", "ring", "pp", "dp")
OPTION_AXES = tuple(axis for axis in AXES if axis not in MESH_AXES and axis != "micro_batch")

#: The options of one mesh and micro-batch: a column for each of OPTION_AXES.
Options = dict[str, "Ints"]


@dataclass(slots=False)
class Space:
    """All legal layouts of a job within bounds, that a framework can run.

    Parameters
    ----------
    job
        Model, workload and accelerators.
    bounds
        Pins and bounds on axes.
    framework
        Name of a framework, ``any`` or ``unrestricted``.
    refused
        Filled while enumerating: how many combinations each axis' rules turned away.
    """

    job: Job
    bounds: Bounds
    framework: str
    refused: Counter[str] = field(default_factory=Counter)

    def batches(self) -> Iterator[LayoutBatch]:
        """Yield the legal layouts, whole meshes at a time, about :data:`BATCH` in each."""
        waiting: list[tuple[tuple[int, ...], Options]] = []
        size = 0
        for mesh in self.meshes():
            for micro_batch in self._micro_batches(mesh):
                options = self._options(mesh, micro_batch)
                length = len(options["zero"])
                if length:
                    waiting.append(((*mesh, micro_batch), options))
                    size += length
            if size >= BATCH:
                yield from self._join(waiting)
                waiting, size = [], 0
        if waiting:
            yield from self._join(waiting)

    def meshes(self) -> list[tuple[int, ...]]:
        """Return every legal mesh: tp, ulysses, ring, pp, dp; few pipeline ranks first.

        Batches of few pipeline ranks have few kinds of rank, which makes them quick to cost.
        """
        rows = np.array(list(self._factorisations()), dtype=np.int32).reshape(-1, len(MESH_AXES))
        columns = {axis: np.full(len(rows), 1, dtype=np.int32) for axis in AXES}
        columns |= dict(zip(MESH_AXES, rows.T, strict=True))
        batch = LayoutBatch(**columns)
        lawful = mesh_legal(batch, self.job, self.refused) & self.bounds.allows("cp", batch.cp)
        found = [tuple(map(int, row)) for row in rows[lawful]]
        return sorted(found, key=lambda mesh: mesh[MESH_AXES.index("pp")])

    def _factorisations(self) -> Iterator[tuple[int, ...]]:
        """Yield tp, ulysses, ring, pp, dp whose product is the number of accelerators."""
        job = self.job
        heads = max(kind.mixer.heads for kind in job.architecture.kinds)
        for tp in self._divisors("tp", job.gpus, heads):
            for ulysses in self._divisors("ulysses", job.gpus // tp, heads // tp):
                cp_left = job.gpus // (tp * ulysses)
                for ring in self._divisors("ring", cp_left, job.workload.seq_len):
                    pp_left = cp_left // ring
                    for pp in self._divisors("pp", pp_left, len(job.architecture.layers)):
                        dp = pp_left // pp
                        if dp in self.bounds.choose("dp", [dp]):
                            yield tp, ulysses, ring, pp, dp

    def _divisors(self, axis: str, number: int, most: int) -> list[int]:
        found = [value for value in divisors(number) if value <= most]
        return [value for value in self.bounds.choose(axis, found) if number % value == 0]

    def _micro_batches(self, mesh: tuple[int, ...]) -> list[int]:
        powers = [2**k for k in range(LARGEST_MICRO_BATCH.bit_length())]
        share, rest = divmod(self.job.workload.global_batch, mesh[-1])
        wanted = self.bounds.choose("micro_batch", powers)
        fitting = [size for size in wanted if rest == 0 and share % size == 0]
        self.refused["micro_batch"] += len(wanted) - len(fitting)
        return fitting

    def _join(self, blocks: Sequence[tuple[tuple[int, ...], Options]]) -> Iterator[LayoutBatch]:
        """Yield one batch of blocks, each a mesh with a micro-batch and its options, or none."""
        lengths = [len(options["zero"]) for _, options in blocks]
        heads = np.repeat(np.array([head for head, _ in blocks], dtype=np.int32), lengths, axis=0)
        columns = dict(zip((*MESH_AXES, "micro_batch"), heads.T.copy(), strict=True))
        for axis in OPTION_AXES:
            columns[axis] = np.concatenate([options[axis] for _, options in blocks])
        batch = LayoutBatch(**columns)
        lawful = options_legal(batch, self.job, self.refused)
        if lawful.all():
            yield batch
        elif lawful.any():
            yield batch.take(lawful)

    def _options(self, mesh: tuple[int, ...], micro_batch: int) -> Options:
        """Return all options of a mesh; meshes that differ in degrees only share them."""
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
        )
        if key not in self._option_cache:
            self._option_cache[key] = self._expand(mesh, schedules)
        return self._option_cache[key]

    @cached_property
    def _option_cache(self) -> dict[tuple[object, ...], Options]:
        return {}

    @cached_property
    def _choice_cache(self) -> dict[tuple[int, ...], LayoutBatch]:
        return {}

    def _expand(self, mesh: tuple[int, ...], schedules: tuple[Schedule, ...]) -> Options:
        """Return the choices of a mesh with every number of chunks and of replicas."""
        tp, ulysses, ring, pp, dp = mesh
        replicates, halves = self._replicates(tp, ulysses), self._halves(ulysses * ring)
        flags = (tp > 1, ulysses > 1, ring > 1, pp > 1, dp > 1, replicates, halves)
        key = (*flags, *self._inner_rings(ring))
        if key not in self._choice_cache:
            self._choice_cache[key] = self._choices(mesh)
        choices = self._choice_cache[key]
        replicas = self._replicas(dp, dp * ulysses * ring)
        rows: list[Ints] = []
        several: list[Ints] = []
        for schedule, split, replicated in product(schedules, StageSplit, (False, True)):
            alike = (choices.schedule == schedule) & (choices.stage_split == split)
            chosen = np.flatnonzero(alike & ((choices.dp_replicate > 1) == replicated))
            several_chunks = self._chunks(pp, schedule, split)
            shards = [many for many in replicas if (many > 1) == replicated]
            pairs = np.array(list(product(several_chunks, shards)), dtype=np.int32).reshape(-1, 2)
            rows.append(np.repeat(chosen.astype(np.int32), len(pairs)))
            several.append(np.tile(pairs, (len(chosen), 1)))
        index = np.concatenate(rows)
        options = {axis: getattr(choices, axis).take(index) for axis in OPTION_AXES}
        options["vp"], options["dp_replicate"] = np.concatenate(several).T
        return options

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
            "cp_method": self._pick("cp_method", list(CpMethod), CpMethod.P2P, used=ring > 1),
            "inner_ring": self._inner_rings(ring),
            "sequence_order": self._pick("sequence_order", [order]),
            "cp_placement": self._pick("cp_placement", list(CpPlacement), 0, used=both),
            "tp_sp": self._pick("tp_sp", [0, 1], 0, used=tp > 1),
            "recompute": self._pick("recompute", list(Recompute)),
            "recompute_layers": self._pick("recompute_layers", [0, FEWEST]),
            "schedule": self._pick("schedule", SCHEDULES, Schedule.ONE_F_ONE_B, used=pp > 1),
            "stage_split": self._pick("stage_split", list(StageSplit), 0, used=pp > 1),
            "zero": self._pick("zero", [0, 1, 2, 3], 0, used=dp * ulysses * ring > 1),
            "dp_replicate": self._pick("dp_replicate", [1, 2], 1, used=replicable),
            "rank_order": self._rank_orders(ulysses * ring, dp, pp),
        }
        table = np.array(list(product(*axes.values())), dtype=np.int32).reshape(-1, len(axes))
        columns = dict(zip(axes, table.T.copy(), strict=True))
        columns["vp"] = np.where(SEVERAL_CHUNKS[columns["schedule"]], 2, 1).astype(np.int32)
        for axis, degree in zip((*MESH_AXES, "micro_batch"), (*mesh, 1), strict=True):
            columns[axis] = np.full(len(table), degree, dtype=np.int32)
        batch = LayoutBatch(**columns)
        meant = (batch.recompute == Recompute.FULL) | (batch.recompute_layers == 0)
        meant &= (batch.dp_replicate == 1) | (batch.zero >= 1)
        meant &= (batch.cp_method == CpMethod.P2P) | (
            (batch.ulysses == 1) & (batch.inner_ring == 1)
        )
        batch = batch.take(meant)
        return batch.take(runnable(batch, self.job.architecture, self.framework))

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

    @cached_property
    def _replicating(self) -> dict[tuple[int, int], bool]:
        return {}

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

    def _chunks(self, pp: int, schedule: Schedule, split: int) -> list[int]:
        """Return numbers of chunks per rank that make distinct, legal stages."""
        wanted = chunks(schedule, self.bounds.choose("vp", [1, *INTERLEAVINGS]))
        return [vp for vp in wanted if self._is_split(pp * vp, split)]

    def _is_split(self, stages: int, split: int) -> bool:
        """Whether a split is possible, and, balanced, another than the even one."""
        layers = len(self.job.architecture.layers)
        if stages > layers:
            return False
        even = layers % stages == 0
        if split == StageSplit.EVEN:
            return even
        if stages not in self._same_split:
            weights = layer_weights(self.job.architecture, self.job.workload)
            sizes = split_layers(stages, StageSplit.BALANCED, *weights)
            self._same_split[stages] = even and len(set(sizes)) == 1
        pinned = "stage_split" in self.bounds
        return stages > 1 and (pinned or not self._same_split[stages])

    @cached_property
    def _same_split(self) -> dict[int, bool]:
        return {}

    def _replicas(self, dp: int, ranks: int) -> list[int]:
        """Return HSDP replica counts that leave something to shard over."""
        powers = [2**k for k in range(dp.bit_length())]
        wanted = self.bounds.choose("dp_replicate", powers)
        return [many for many in wanted if dp % many == 0 and (many == 1 or ranks > many)]


def divisors(number: int) -> list[int]:
    """Return all divisors, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [value for value in range(1, int(number**0.5) + 1) if number % value == 0]
    return sorted({*small, *(number // value for value in small)})
