"""The stages of one layout's pipeline: which layers each holds, and which ranks hold them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Recompute, RecomputeMethod
from models.rank_parts import RankParts
from models.stages import stage_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.prepared import Prepared
    from models.simulation.pipeline_order import Way


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline.

    Parameters
    ----------
    kinds
        Kind of each of its layers, in order.
    repeated
        Whether each is recomputed in full.
    embedding, head
        Whether it holds these.
    """

    kinds: tuple[int, ...]
    repeated: tuple[bool, ...]
    embedding: bool
    head: bool


def stages_of(prepared: Prepared, way: Way) -> list[Stage]:
    """Return the stages that a micro-batch passes, in order.

    Parameters
    ----------
    prepared
        One layout with its inventory.
    way
        Which rank holds each.
    """
    architecture, batch = prepared.architecture, prepared.batch
    many = len(way.ranks)
    sizes = stage_sizes(architecture, prepared.workload, batch.layout(0))
    bounds = [0, *accumulate(sizes)]
    repeated = _repeated(prepared, way, bounds)
    return [
        Stage(
            kinds=architecture.kind_of_layer[bounds[at] : bounds[at + 1]],
            repeated=repeated[at],
            embedding=at == 0,
            head=at == many - 1,
        )
        for at in range(many)
    ]


def _repeated(prepared: Prepared, way: Way, bounds: Sequence[int]) -> list[tuple[bool, ...]]:
    """Return which layers of each stage are recomputed, spread evenly over those of a rank."""
    batch = prepared.batch
    full = batch.recompute[0] == Recompute.FULL
    uniform = batch.recompute_method[0] == RecomputeMethod.UNIFORM
    wanted = 0 if uniform else int(batch.recompute_layers[0])
    found: list[tuple[bool, ...]] = [()] * len(way.ranks)
    for rank in set(way.ranks):
        stages = [at for at, holder in enumerate(way.ranks) if holder == rank]
        layers = sum(bounds[at + 1] - bounds[at] for at in stages)
        many = min(wanted or layers, layers) if full else 0
        place = 0
        for at in stages:
            own = range(place, place + bounds[at + 1] - bounds[at])
            found[at] = tuple((j + 1) * many // layers > j * many // layers for j in own)
            place = own.stop
    return found


def held_by(rank: int, way: Way) -> list[int]:
    """Return the stages that a rank holds, those of both directions."""
    own = {at for at, holder in enumerate(way.ranks) if holder == rank}
    if way.turned is not None:
        own |= {len(way.ranks) - 1 - at for at in own}
    return sorted(own)


def parts_of(stages: Sequence[Stage], kinds: int) -> RankParts:
    """Return what some stages are made of together."""
    layers = [kind for stage in stages for kind in stage.kinds]
    return RankParts(
        counts=tuple(np.array([float(layers.count(kind))]) for kind in range(kinds)),
        first=np.array([float(any(stage.embedding for stage in stages))]),
        last=np.array([float(any(stage.head for stage in stages))]),
    )
