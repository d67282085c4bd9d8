"""Which layers each pipeline rank holds, and the few kinds of rank that makes.

A model of equal layers cut into stages has at most a handful of distinct ranks: the first (with
the embedding), the last (with the head) and those between, which differ by a layer at most. Where
the pipeline is a V, the first rank has both ends of the model; where it runs both ways, the first
and the last rank both have. Memory and time are taken per kind of rank. Of equal ranks the earliest
counts, as none holds more micro-batches in flight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from models.inventory import head_work, layer_work
from models.layer_cuts import split_layers
from models.schedule import PATHS, Path
from models.shape import Shapes, distinct

if TYPE_CHECKING:
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
        columns = [batch.pp, batch.vp, batch.stage_split, PATHS.take(batch.schedule)]
        first, index = distinct(columns)
        axes = zip(*(column[first] for column in columns), strict=True)
        # Layers weigh alike in batches of any size, which share what is kept.
        weighed = replace(workload, global_batch=1)
        cuts = [_ranks(architecture, weighed, *map(int, cut)) for cut in axes]
        width = max(len(ranks) for ranks in cuts)
        padded = [ranks + [(*ranks[0][:-1], 0)] * (width - len(ranks)) for ranks in cuts]
        counts = np.array([[rank[0] for rank in ranks] for ranks in padded], dtype=float)
        rest = np.array([[rank[1:] for rank in ranks] for ranks in padded], dtype=float)
        table = cls(
            counts=counts,
            layers=counts.sum(axis=-1),
            first=rest[..., 0],
            last=rest[..., 1],
            position=rest[..., 2],
            multiplicity=rest[..., 3],
        )
        return table, index

    @classmethod
    def one_by_one(
        cls, architecture: Architecture, batch: LayoutBatch, workload: Workload
    ) -> StageTable:
        """Return the cut of the one layout of a batch, every pipeline rank as a kind of its own."""
        weighed = replace(workload, global_batch=1)
        columns = (batch.pp, batch.vp, batch.stage_split, PATHS.take(batch.schedule))
        held = _held(architecture, weighed, *(int(column[0]) for column in columns))
        counts = np.array([[layers for layers, _, _ in held]], dtype=float)
        first, last = np.array([[ends for _, *ends in held]], dtype=float).transpose(2, 0, 1)
        return cls(
            counts=counts,
            layers=counts.sum(axis=-1),
            first=first,
            last=last,
            position=np.arange(len(held), dtype=float)[None],
            multiplicity=np.ones((1, len(held))),
        )


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


@cache
def _ranks(
    architecture: Architecture, workload: Workload, pp: int, vp: int, split: int, path: int
) -> list[tuple[tuple[int, ...], int, int, int, int]]:
    """Return the distinct ranks: layers of each kind, first?, last?, position, multiplicity."""
    found: dict[tuple[tuple[int, ...], int, int], tuple[int, int]] = {}
    for rank, key in enumerate(_held(architecture, workload, pp, vp, split, path)):
        position, many = found.get(key, (rank, 0))
        found[key] = (position, many + 1)
    return [(*key, *value) for key, value in found.items()]


def _held(
    architecture: Architecture, workload: Workload, pp: int, vp: int, split: int, path: int
) -> list[tuple[tuple[int, ...], int, int]]:
    """Return what every rank holds: layers of each kind, first?, last?."""
    sizes = _sizes(architecture, workload, pp, vp, split, path)
    bounds = [0, *accumulate(sizes)]
    ranks = []
    for rank in range(pp):
        held = _stages(rank, pp, vp, path)
        members: list[int] = []
        for stage in held:
            members += architecture.kind_of_layer[bounds[stage] : bounds[stage + 1]]
        counts = tuple(members.count(kind) for kind in range(len(architecture.kinds)))
        ranks.append((counts, int(0 in held), int(pp * vp - 1 in held)))
    return ranks


def _stages(rank: int, pp: int, vp: int, path: int) -> list[int]:
    """Return the stages that a rank holds."""
    if path == Path.LOOP:
        return list(range(rank, pp * vp, pp))
    return [rank, pp * vp - 1 - rank]
