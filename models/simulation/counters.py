"""Counters of a simulated step: memory in use, and how busy every class of links is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.kept import Kept
from models.memory import capacity_bytes, standing
from models.named_axes import Recompute
from models.simulation.pipeline_order import Pass
from models.simulation.stages import held_by, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.profile import Profile
    from models.simulation.static_order import Times
    from models.simulation.step import StepSimulation
    from models.simulation.timeline import Call
    from models.standing import Standing
    from topologies.group_links import GroupLinks

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]

#: The passes after which what a micro-batch kept is free.
_FREES = (Pass.BACKWARD, Pass.WEIGHT_GRADIENT)


def memory(simulation: StepSimulation, times: Times) -> tuple[tuple[Array, Array], ...]:
    """Return for every pipeline rank times, and the bytes in use from each on.

    Activations come with a micro-batch's forward pass through a stage and go when its gradients of
    the weights are done. Where a device is short of memory its allocator gives back what it caches,
    as in the bill (:func:`~models.memory.memory_bill`).
    """
    device = simulation.device
    profile, capacity = device.profile, capacity_bytes(device.accelerator, device.profile)
    return tuple(
        (when, _in_use(beside, kept, profile, capacity))
        for beside, (when, kept) in zip(_beside(simulation), _kept(simulation, times), strict=True)
    )


def _in_use(beside: Standing, kept: Array, profile: Profile, capacity: float) -> Array:
    """Return what a rank has of its device beside so much that its micro-batches keep.

    What the allocator caches for the optimizer's step is there from the step before on; where
    memory is short it comes at the end.
    """
    ample = beside.held + (beside.passes + kept + beside.update) * (
        1.0 + profile.fragmentation.value
    )
    if ample.max() <= capacity:
        return ample
    held = 1.0 + profile.fragmentation_least.value
    short = beside.held + (beside.passes + kept) * held
    short[-1] = max(short[-1], beside.held + beside.update * held)
    return short


def _beside(simulation: StepSimulation) -> list[Standing]:
    """Return what every pipeline rank holds beside what its micro-batches keep."""
    kinds = len(simulation.prepared.layers)
    ranks = [
        parts_of([simulation.stages[stage] for stage in held_by(rank, simulation.way)], kinds)
        for rank in range(len(simulation.pipeline))
    ]
    return standing(simulation.prepared, simulation.device.profile, ranks)


def _kept(simulation: StepSimulation, times: Times) -> Iterator[tuple[Array, Array]]:
    """Yield for every pipeline rank times, and what its micro-batches keep from each on."""
    prepared, kinds = simulation.prepared, len(simulation.prepared.layers)
    account, full = Kept(prepared), prepared.batch.recompute[0] == Recompute.FULL
    kept = [
        account.stage(parts_of([stage], kinds), 1.0 - _repeated(stage.repeated) if full else 0.0)
        for stage in simulation.stages
    ]
    changes: list[list[tuple[float, float]]] = [[] for _ in simulation.pipeline]
    for at, actions in enumerate(simulation.compiled.runs):
        for action in actions:
            rank = simulation.ranks[at]
            if action.kind is Pass.FORWARD:
                changes[rank].append((float(times.start[at]), kept[action.stage]))
            elif action.kind in _FREES:
                changes[rank].append((float(times.end[at]), -kept[action.stage]))
    for own in changes:
        when, much = (np.array(column) for column in zip(*sorted(own), strict=True))
        yield np.concatenate([[0.0], when]), np.concatenate([[0.0], np.cumsum(much)])


def _repeated(layers: Sequence[bool]) -> float:
    """Return the share of some layers that are recomputed."""
    return sum(layers) / len(layers) if layers else 0.0


def links(
    loads: dict[Call, tuple[float, ...]],
    names: Sequence[str],
    calls: Sequence[Call],
    columns: tuple[Ints, Ints, Array, Array],
) -> tuple[tuple[str, int, Array, Array], ...]:
    """Return for every class of links and rank times, and the share of it in use from each on.

    Where collectives together ask for more than a class has, all of it is in use.

    Parameters
    ----------
    loads
        For every call that communicates its share of every class while it runs alone.
    names
        Of the classes.
    calls
        What spans are.
    columns
        Rank, call, start and end of every span.
    """
    rank, call, start, end = columns
    taken = np.zeros((len(calls), len(names)))
    for number, each in enumerate(calls):
        if each in loads:
            taken[number] = loads[each]
    found = []
    for place, name in enumerate(names):
        used = np.flatnonzero((taken[call, place] > 0) & (end > start))
        for one in np.unique(rank[used]):
            mine = used[rank[used] == one]
            share = taken[call[mine], place]
            found.append((name, int(one), *_steps(start[mine], end[mine], share)))
    return tuple(found)


def _steps(start: Array, end: Array, share: Array) -> tuple[Array, Array]:
    """Return the moments at which a sum of shares changes, and the sum, up to 1, from each on."""
    when, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    change = np.bincount(place, weights=np.concatenate([share, -share]))
    return when, np.clip(np.cumsum(change), 0.0, 1.0)


def class_names(group: GroupLinks) -> list[str]:
    """Return the names of all classes of links, in the order of loads."""
    found = []
    for crossing in group.crossings:
        many = crossing.taken.shape[0]
        name = crossing.tier.name
        found += [name] if many == 1 else [f"{name} {place}" for place in range(many)]
    return found
