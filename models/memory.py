"""The memory bill: what the fullest rank of each layout holds at its peak, line by line.

States are the workload's (:mod:`models.model_states`): parameters, gradients, what the optimizer
keeps. They are sharded over the data- and context-parallel ranks together, as those hold the same
weights (ZeRO, arXiv:1910.02054 section 3). Quantised weights are kept in all forms that passes read
(:mod:`models.precision`). Activations are the inventory's saved tensors times the micro-batches in
flight. At the peak either the loss is being taken or one layer's backward pass runs, whichever
needs more: the first of them while all activations are there or, where gradients come only with
these passes, the last, with all gradients. Where the optimizer's step, when nothing is kept of the
passes, needs more than that, it is the peak. Its copy of gradients is larger than any block that
passes leave to the allocator, which holds both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.rank_memory import RankMemory
from models.rank_parts import RankParts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Array
    from models.memory_bill import MemoryBill
    from models.prepared import Prepared
    from models.profile import Profile
    from models.standing import Standing
    from topologies.accelerator import Accelerator


def capacity_bytes(accelerator: Accelerator, profile: Profile) -> float:
    """Return what a job may use of one device."""
    return accelerator.hbm_bytes.value - profile.driver_bytes.value


def memory_bill(prepared: Prepared, profile: Profile, capacity: float | None = None) -> MemoryBill:
    """Return the bill of every layout.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    profile
        Context, communicator and allocator parameters.
    capacity
        What a job may use of one device; None for more than it asks for. Where that is short the
        allocator gives back what it caches before it fails (torch documentation, *CUDA semantics*),
        so the reserve shrinks to what it cannot give back.
    """
    ranks = RankMemory(prepared, profile)
    totals = np.stack([ranks.total(rank) for rank in range(prepared.stages.width)])
    return ranks.bill(np.argmax(totals, axis=0), capacity)


def fewest_repeated_layers(prepared: Prepared, profile: Profile, capacity: float) -> Array:
    """Return the fewest layers per stage to recompute in full so that every rank fits.

    Memory falls linearly with the number of recomputed layers, so the number is solved for, not
    searched. Layouts must have full recomputation; infinite where even all layers do not suffice.

    Returns
    -------
    Array
        Whole numbers; 0 or less where nothing needs to be recomputed but one layer's working
        memory, as if it were, fits.
    """
    everything = prepared.with_recompute_layers(np.zeros_like(prepared.batch.recompute_layers))
    ranks = RankMemory(everything, profile)
    stages, cut = prepared.stages, prepared.stage_index
    fewest = np.zeros(len(prepared))
    for rank in range(stages.width):
        layers = stages.look_up(stages.layers, cut, rank)
        held = ranks.warm_up.in_flight(stages.look_up(stages.position, cut, rank))
        parts = ranks.as_held(rank, RankParts.of(prepared, rank))
        spared = parts.sum_layers(ranks.kept.spared) * held
        room = capacity - ranks.full(rank)
        kept = np.floor(layers * room / (spared * (1.0 + profile.fragmentation_least.value)) + 1e-9)
        fits = ranks.total(rank) <= capacity
        fewest = np.maximum(fewest, np.where(fits, layers - kept, np.inf))
    return fewest


def transit_bytes(prepared: Prepared, profile: Profile) -> Array:
    """Return what of the first rank's buffers is of parameters and gradients, not of tokens."""
    return RankMemory(prepared, profile).transit(RankParts.of(prepared, 0))


def standing(prepared: Prepared, profile: Profile, ranks: Sequence[RankParts]) -> list[Standing]:
    """Return what ranks of one layout hold at their peaks beside what micro-batches keep.

    Parameters
    ----------
    prepared
        The layout with its inventory.
    profile
        Context and communicator parameters.
    ranks
        What each is made of.
    """
    memory = RankMemory(prepared, profile)
    return [memory.standing(parts) for parts in ranks]
