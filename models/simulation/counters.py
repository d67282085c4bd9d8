"""Counters of a simulated step: memory in use, and how busy every class of links is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.memory import capacity_bytes, kept_bytes, standing
from models.simulation.pipeline_order import Pass
from models.simulation.stages import held_by, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.simulation.static_order import Times
    from models.simulation.step import StepSimulation
    from models.simulation.timeline import Call
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
    ample = _in_use(simulation, times, profile.fragmentation.value, cached=True)
    if all(bytes_.max() <= capacity for _, bytes_ in ample):
        return ample
    short = _in_use(simulation, times, profile.fragmentation_least.value, cached=False)
    return tuple(
        much if much[1].max() <= capacity else least
        for much, least in zip(ample, short, strict=True)
    )


def _in_use(
    simulation: StepSimulation, times: Times, reserve: float, *, cached: bool
) -> tuple[tuple[Array, Array], ...]:
    """Return :func:`memory` where the allocator holds such a share beyond what is asked for.

    What it caches for the optimizer's step is there from the step before on, or comes at the end.
    """
    prepared, profile = simulation.prepared, simulation.device.profile
    kinds = len(prepared.layers)
    held = 1.0 + reserve
    kept = [
        kept_bytes(prepared, parts_of([stage], kinds), _repeated(stage.repeated)) * held
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
    found = []
    for rank, own in enumerate(changes):
        stages = [simulation.stages[stage] for stage in held_by(rank, simulation.way)]
        beside = standing(prepared, profile, parts_of(stages, kinds))
        when, much = (np.array(column) for column in zip(*sorted(own), strict=True))
        in_use = beside.held + beside.passes * held + np.concatenate([[0.0], np.cumsum(much)])
        if cached:
            in_use += beside.update * held
        else:
            in_use[-1] = max(in_use[-1], beside.held + beside.update * held)
        found.append((np.concatenate([[0.0], when]), in_use))
    return tuple(found)


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
