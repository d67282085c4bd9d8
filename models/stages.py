"""Which layers each pipeline rank holds, and the few kinds of rank that makes.

A model of equal layers cut into stages has at most a handful of distinct ranks: the first (with
the embedding), the last (with the head) and those between, which differ by a layer at most. Where
the pipeline is a V, the first rank has both ends of the model; where it runs both ways, the first
and the last rank both have. Memory and time are taken per kind of rank. Of equal ranks that counts
which holds most: the earliest, but where their chunks are unequal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING

import numpy as np

from models.held_stages import most_held_of_two
from models.inventory import head_work, layer_work
from models.layer_cuts import split_layers
from models.named_axes import Schedule
from models.schedule import HOLDS_LIKE, PATHS, Path
from models.shape import Shapes, distinct
from models.turns import most_held, passes_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from models.architecture import Architecture
    from models.layout import Array, Layout, LayoutBatch
    from models.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """Kinds of pipeline rank for some ways to cut a model; arrays of shape ``[cuts, ranks]``.

    Cuts with fewer kinds than the widest repeat their first kind with a `multiplicity` of 0.

    Parameters
    ----------
    counts
        Layers of each kind, shape ``[cuts, ranks, kinds]``.
    held
        The same, each as often as micro-batches hold its stage where they hold most, over how
        often they hold any: other than `counts` where a rank's stages are unequal.
    layers
        All layers of the rank.
    first, last
        1 where the rank holds the embedding, or the head; both where it holds either end.
    position
        Earliest pipeline rank of this kind.
    multiplicity
        Pipeline ranks of this kind.
    """

    counts: Array
    held: Array
    layers: Array
    first: Array
    last: Array
    position: Array
    multiplicity: Array

    def look_up(self, column: Array, cut: NDArray[np.intp], rank: int | NDArray[np.intp]) -> Array:
        """Return a column of the table for each layout's cut, on one or on chosen kinds of rank."""
        if isinstance(rank, int):
            return column[:, rank].take(cut)
        return column.ravel().take(cut * self.width + rank)

    @property
    def width(self) -> int:
        """Most kinds of rank of any cut."""
        return int(self.layers.shape[1])

    @classmethod
    def of(
        cls, architecture: Architecture, batch: LayoutBatch, workload: Workload
    ) -> tuple[StageTable, NDArray[np.intp]]:
        """Return the cuts a batch uses, and for each layout the index of its cut."""
        columns = [batch.pp, batch.vp, batch.stage_split, HOLDS_LIKE.take(batch.schedule)]
        first, index = distinct(columns)
        axes = zip(*(column[first] for column in columns), strict=True)
        # Layers weigh alike in batches of any size, which share what is kept.
        weighed = replace(workload, global_batch=1)
        cuts = [_ranks(architecture, weighed, *map(int, cut)) for cut in axes]
        width = max(len(ranks) for ranks in cuts)
        padded = [ranks + [(*ranks[0][:-1], 0)] * (width - len(ranks)) for ranks in cuts]
        return cls._of(padded), index

    @classmethod
    def one_by_one(
        cls, architecture: Architecture, batch: LayoutBatch, workload: Workload
    ) -> StageTable:
        """Return the cut of the one layout of a batch, every pipeline rank as a kind of its own."""
        weighed = replace(workload, global_batch=1)
        columns = (batch.pp, batch.vp, batch.stage_split, HOLDS_LIKE.take(batch.schedule))
        cut = (int(column[0]) for column in columns)
        made = _made(architecture, weighed, *cut)
        return cls._of([[(each, rank, 1) for rank, each in enumerate(made)]])

    @classmethod
    def _of(cls, cuts: Sequence[Sequence[tuple[_Made, int, int]]]) -> StageTable:
        """Return the table of cuts with as many kinds of rank each."""
        counts = _column(cuts, lambda rank: rank[0].counts)
        return cls(
            counts=counts,
            held=_column(cuts, lambda rank: rank[0].held),
            layers=counts.sum(axis=-1),
            first=_column(cuts, lambda rank: rank[0].first),
            last=_column(cuts, lambda rank: rank[0].last),
            position=_column(cuts, lambda rank: rank[1]),
            multiplicity=_column(cuts, lambda rank: rank[2]),
        )


def _column(
    cuts: Sequence[Sequence[tuple[_Made, int, int]]],
    of: Callable[[tuple[_Made, int, int]], float | tuple[float, ...]],
) -> Array:
    return np.array([[of(rank) for rank in ranks] for ranks in cuts], dtype=float)


@cache
def layer_weights(
    architecture: Architecture, workload: Workload
) -> tuple[tuple[float, ...], float]:
    """Return the forward FLOP of every layer, and of the head: what balancing weighs."""
    shapes = Shapes.single(workload)
    kinds = [
        float(layer_work(layer, architecture.hidden, shapes).forward_flop()[0])
        for layer in architecture.kinds
    ]
    head = float(head_work(architecture, shapes).forward_flop()[0])
    return tuple(kinds[kind] for kind in architecture.kind_of_layer), head


def stage_sizes(architecture: Architecture, workload: Workload, layout: Layout) -> tuple[int, ...]:
    """Return the layers of each stage of a pipeline, in the order a micro-batch passes them."""
    path = int(PATHS[layout.schedule])
    return _sizes(architecture, workload, layout.pp, layout.vp, layout.stage_split, path)


def _sizes(
    architecture: Architecture, workload: Workload, pp: int, vp: int, split: int, path: int
) -> tuple[int, ...]:
    weights, head = layer_weights(architecture, workload)
    turns = pp if path == Path.LOOP else None
    return split_layers(pp * vp, split, weights, head, turns)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a rank is made of: layers of each kind, those as they are held, and which ends.

    `most` is how many layers' worth of micro-batches it holds at most, to compare ranks by.
    """

    counts: tuple[int, ...]
    held: tuple[float, ...]
    first: int
    last: int
    most: float


@cache
def _ranks(
    architecture: Architecture, workload: Workload, pp: int, vp: int, split: int, schedule: int
) -> list[tuple[_Made, int, int]]:
    """Return the distinct ranks: what each is made of, position, multiplicity."""
    found: dict[tuple[tuple[int, ...], int, int], tuple[_Made, int, int]] = {}
    for rank, made in enumerate(_made(architecture, workload, pp, vp, split, schedule)):
        key = made.counts, made.first, made.last
        fullest, position, many = found.get(key, (made, rank, 0))
        if made.most > fullest.most:
            fullest, position = made, rank
        found[key] = (fullest, position, many + 1)
    return list(found.values())


def _made(
    architecture: Architecture, workload: Workload, pp: int, vp: int, split: int, schedule: int
) -> list[_Made]:
    """Return what every rank is made of."""
    path = int(PATHS[schedule])
    sizes = _sizes(architecture, workload, pp, vp, split, path)
    bounds = [0, *accumulate(sizes)]
    kinds = range(len(architecture.kinds))
    ranks = []
    for rank in range(pp):
        stages = _stages(rank, pp, vp, path)
        members = [architecture.kind_of_layer[bounds[at] : bounds[at + 1]] for at in stages]
        chunks = [tuple(layers.count(kind) for kind in kinds) for layers in members]
        counts = tuple(map(sum, zip(*chunks, strict=True)))
        if path == Path.LOOP:
            held, most = _as_held(chunks, pp, rank)
        elif len(set(chunks)) == 1:
            held, most = counts, -float(rank)  # all ranks hold as much: the earliest counts
        else:
            held, most = _as_held_of_two(chunks, stages, Schedule(schedule), pp, rank, pp * vp - 1)
        ranks.append(_Made(counts, held, int(0 in stages), int(pp * vp - 1 in stages), most))
    return ranks


def _as_held(
    chunks: Sequence[tuple[int, ...]], pp: int, rank: int
) -> tuple[tuple[float, ...], float]:
    """Return layers of each kind as interleaved micro-batches hold them, and how many in all."""
    vp, layers = len(chunks), [sum(chunk) for chunk in chunks]
    if len(set(chunks)) == 1:
        passes = passes_ahead(pp, vp, rank) + 1.0
        return tuple(vp * kind for kind in chunks[0]), passes * layers[0]
    often = most_held(layers, pp, rank)
    return _weighed(chunks, often, sum(often))


def _as_held_of_two(
    chunks: Sequence[tuple[int, ...]],
    stages: Sequence[int],
    schedule: Schedule,
    pp: int,
    rank: int,
    last: int,
) -> tuple[tuple[float, ...], float]:
    """Return the same of a rank with a stage on the way out and one on the way back."""
    layers = {stage: sum(chunk) for stage, chunk in zip(stages, chunks, strict=True)}
    often, passes = most_held_of_two(schedule, pp, rank, layers, last)
    return _weighed(chunks, [often[stage] for stage in stages], passes)


def _weighed(
    chunks: Sequence[tuple[int, ...]], often: Sequence[int], passes: int
) -> tuple[tuple[float, ...], float]:
    """Return layers of each kind as often as chunks are held of so many passes, and all in all."""
    each = len(chunks) / passes
    held = tuple(each * sum(map(mul, often, kind)) for kind in zip(*chunks, strict=True))
    return held, float(sum(map(mul, often, map(sum, chunks))))


def _stages(rank: int, pp: int, vp: int, path: int) -> list[int]:
    """Return the stages that a rank holds."""
    if path == Path.LOOP:
        return list(range(rank, pp * vp, pp))
    return [rank, pp * vp - 1 - rank]
