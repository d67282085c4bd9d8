"""The memory bill: what the fullest rank of each layout holds at its peak, line by line.

States are the workload's (:mod:`models.model_states`): parameters, gradients, what the optimizer
keeps. They are sharded over the data- and context-parallel ranks together, as those hold the same
weights (ZeRO, arXiv:1910.02054 section 3). Quantised weights are kept in all forms that passes read
(:mod:`models.precision`). Activations are the inventory's saved tensors times the micro-batches in
flight. At the peak either the loss is being taken or one layer's backward pass runs, whichever
needs more; where the optimizer's step, when nothing is kept of the passes, needs more than that, it
is the peak. Its copy of gradients is larger than any block that passes leave to the allocator,
which holds both.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.memory_bill import MemoryBill
from models.named_axes import Recompute, RecomputeMethod
from models.rank_parts import RankParts
from models.state_bytes import (
    end_bytes,
    expert_shard_ranks,
    shard_ranks,
    state_bytes,
    weight_bytes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.layout import Array
    from models.operation import Work
    from models.prepared import Prepared
    from models.profile import Profile
    from models.recompute_modes import RecomputeModes
    from topologies.accelerator import Accelerator

#: Layers whose parameters FSDP holds gathered: the running one and the next.
GATHERED_LAYERS = 2.0
#: What the allocator asks of the device and gives back to it are multiples of this (torch
#: documentation, *CUDA semantics*; ``c10/cuda/CUDACachingAllocator.cpp``, ``kSmallBuffer``).
SEGMENT_BYTES = 2.0 * 2**20


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
    ranks = _Ranks(prepared, profile)
    totals = np.stack([ranks.total(rank) for rank in range(prepared.stages.width)])
    return ranks.bill(np.argmax(totals, axis=0), capacity)


class _Ranks:
    """Memory per kind of pipeline rank; lines that are equal on all ranks are taken once."""

    def __init__(self, prepared: Prepared, profile: Profile) -> None:
        self.prepared, self.profile = prepared, profile
        batch, shape = prepared.batch, prepared.shape_index
        mode, modes = prepared.mode_index, prepared.modes
        self.spared = [_spared(work)[shape] for work in prepared.layers]
        block = batch.recompute_method == RecomputeMethod.BLOCK
        partial = (batch.recompute == Recompute.FULL) & (batch.recompute_layers > 0) & block
        self.partial = partial if partial.any() else None
        table = prepared.parameters
        head = table.head[shape] + prepared.copied_head()
        self.params = [kind[shape] for kind in table.layers], table.embedding[shape], head
        self.experts = [kind[shape] for kind in table.experts] if table.has_experts else None
        sharded = (batch.zero == 3) & (shard_ranks(prepared) > 1)
        # FSDP keeps the gathered head between forward and backward; with pipeline stages all
        # parameters stay gathered and are billed as parameters.
        self.regathers = sharded & (batch.pp == 1)
        held = head * prepared.workload.states.parameter_bytes
        self.gathered_head = np.where(self.regathers, held, 0.0)
        self.whole_gradients = (batch.zero >= 2) & (shard_ranks(prepared) > 1)
        self.saved = [_kept(work, modes)[shape, mode] for work in prepared.layers]
        self.together = prepared.together()
        if self.together is not None:
            self.saved = [kept / self.together for kept in self.saved]
        self.warm_up = prepared.warm_up()
        self.head_saved = prepared.head.saved_bytes()[shape] * self.warm_up.head
        # The embedding keeps a number per token of all micro-batches.
        self.embedding_saved = prepared.embedding.saved_bytes()[shape] * prepared.micro_batches
        self.logits = prepared.head.working_bytes[shape]
        self.state_bytes = state_bytes(prepared, shard_ranks(prepared))
        self.expert_bytes = state_bytes(prepared, expert_shard_ranks(prepared))
        self.forms = prepared.workload.recipe.quantised
        self.end_bytes = end_bytes(prepared) if prepared.workload.states.end_bytes else None
        self.layer_peak = self._layer_peak()
        self.communication = self._communication()
        self.communicators = self._communicators()
        fixed = profile.context_bytes.value + profile.workspace_bytes.value
        self.beside = fixed + self.communicators
        self.stage_output = self._stage_output()

    def total(self, rank: int, *, step: bool = True) -> Array:
        """Return the least total of one kind of rank for every layout; of passes, or the `step`."""
        parts = RankParts.of(self.prepared, rank)
        activations, logits, working, buffers = self._dynamic(rank, parts)
        asked = activations + logits + working + buffers
        states = reduce(np.add, self.states(parts))
        if step and self.prepared.workload.step_bytes:
            asked = np.maximum(asked, self._copied(parts))
        return states + self.beside + asked * (1.0 + self.profile.fragmentation_least.value)

    def states(self, parts: RankParts) -> tuple[Array, Array, Array]:
        """Return parameters, gradients and what the optimizer keeps of a rank, in bytes."""
        layers, *_ = self.params
        params = parts.sum(*self.params)
        weights, gradients, optimizer = (params * nbytes for nbytes in self.state_bytes)
        if self.forms:
            shards = shard_ranks(self.prepared)
            weights += parts.sum_layers(layers) * weight_bytes(self.prepared, shards)
        if self.end_bytes is not None:
            optimizer += (params - parts.sum_layers(layers)) * self.end_bytes
        if self.experts is None:
            return weights, gradients, optimizer
        experts = parts.sum_layers(self.experts)
        held, summed, kept = self.expert_bytes
        if self.forms:
            held = held + weight_bytes(self.prepared, expert_shard_ranks(self.prepared))
        return weights + experts * held, gradients + experts * summed, optimizer + experts * kept

    def bill(self, rank: NDArray[np.intp], capacity: float | None) -> MemoryBill:
        """Return all lines for the kind of rank each layout names."""
        stages, cut = self.prepared.stages, self.prepared.stage_index
        parts = RankParts.of(self.prepared, rank)
        weights, gradients, optimizer = self.states(parts)
        activations, logits, working, buffers = self._dynamic(rank, parts)
        asked = activations + logits + working + buffers
        copied = self._copied(parts)
        step = np.maximum(copied - asked, 0.0)
        profile, none = self.profile, np.zeros(len(self.prepared))
        reserve = (asked + copied) * profile.fragmentation.value + np.minimum(asked, copied)
        if capacity is not None:
            taken = reduce(np.add, (weights, gradients, optimizer, asked, step, self.beside))
            least = (asked + step) * profile.fragmentation_least.value
            room = np.floor((capacity - taken) / SEGMENT_BYTES) * SEGMENT_BYTES
            reserve = np.maximum(np.minimum(reserve, room), least)
        return MemoryBill(
            parameters=weights,
            gradients=gradients,
            optimizer=optimizer,
            activations=activations,
            logits=logits,
            working=working,
            buffers=buffers,
            step=step,
            fragmentation=reserve,
            context=none + profile.context_bytes.value,
            communicators=self.communicators,
            workspaces=none + profile.workspace_bytes.value,
            stage=stages.look_up(stages.position, cut, rank),
        )

    def _dynamic(
        self, rank: int | NDArray[np.intp], parts: RankParts
    ) -> tuple[Array, Array, Array, Array]:
        """Return activations, logits, working memory and buffers."""
        prepared, stages, cut = self.prepared, self.prepared.stages, self.prepared.stage_index
        kept = parts.sum_layers(self.saved)
        if self.partial is not None:
            layers = stages.look_up(stages.layers, cut, rank)
            share = np.where(self.partial, 1.0 - prepared.repeated_share(layers), 0.0)
            kept += share * parts.sum_layers(self.spared)
        position = stages.look_up(stages.position, cut, rank)
        if self.stage_output is not None:
            kept += self.stage_output * (1.0 - parts.last)
        kept *= self.warm_up.in_flight(position)
        kept += parts.first * self.embedding_saved + parts.last * self.head_saved
        logits = parts.last * self.logits
        working: Array = np.maximum(self.layer_peak - logits, 0.0)
        return kept, logits, working, self.communication + parts.last * self.gathered_head

    def _layer_peak(self) -> Array:
        """Return what one layer's backward pass needs beyond the saved tensors."""
        shape, mode = self.prepared.shape_index, self.prepared.mode_index
        peaks = [
            (work.working_bytes + work.saved_bytes())[:, None] - _kept(work, self.prepared.modes)
            for work in self.prepared.layers
        ]
        peak: Array = np.max(peaks, axis=0)[shape, mode]
        if self.together is not None:  # all layers of a group are there before the last goes back
            each = np.max([work.saved_bytes() for work in self.prepared.layers], axis=0)
            peak = peak + (self.together - 1.0) * each[shape]
        return peak

    def _communication(self) -> Array:
        shape, states = self.prepared.shape_index, self.prepared.workload.states
        buffers: Array = np.max([work.buffer_bytes for work in self.prepared.layers], axis=0)
        layers, *_ = self.params
        if self.experts is not None:
            # Experts that no other rank holds are never sent: they are whole where they are.
            sent = np.where(expert_shard_ranks(self.prepared) > 1, 1.0, 0.0)
            layers = [own + sent * each for own, each in zip(layers, self.experts, strict=True)]
        layer: Array = np.max(layers, axis=0)
        whole_bytes = self.prepared.workload.recipe.kept_bytes.value
        gathered = np.where(self.regathers, GATHERED_LAYERS * whole_bytes, 0.0)
        gradients = np.where(self.whole_gradients, states.reduced_bytes, 0.0)
        total: Array = buffers[shape] + layer * (gathered + gradients)
        return total

    def _communicators(self) -> Array:
        """Return the buffers of all groups of a rank: of its axes, of a model's ranks, of all."""
        batch = self.prepared.batch
        axes = (batch.tp, batch.ulysses, batch.ring, batch.inner_ring, batch.pp, batch.dp)
        groups = np.where(batch.gpus > 1, 1.0, 0.0) + ((batch.tp > 1) & (batch.pp > 1))
        for axis in axes:
            groups += axis > 1
        if self.experts is not None:
            for axis in (batch.ep, batch.etp):
                groups += axis > 1
        sets = self.prepared.workload.runs_on.group_sets
        return groups * sets * self.profile.group_bytes.value

    def _stage_output(self) -> Array | None:
        """Return what a micro-batch's outputs take that a rank sent on, where they are kept."""
        if not self.prepared.workload.runs_on.keeps_sent:
            return None
        sent = self.prepared.sent_bytes()[self.prepared.shape_index]
        return sent * self.prepared.batch.vp * (self.prepared.batch.pp > 1)

    def _copied(self, parts: RankParts) -> Array | float:
        """Return what the optimizer's step copies and computes of the parameters it updates."""
        copied = self.prepared.workload.step_bytes
        if not copied:
            return 0.0
        sharded = self.prepared.batch.zero >= 1
        layers, *ends = self.params
        share = np.where(sharded, 1.0 / shard_ranks(self.prepared), 1.0)
        found: Array = parts.sum(layers, *ends) * share
        if self.experts is not None:
            share = np.where(sharded, 1.0 / expert_shard_ranks(self.prepared), 1.0)
            found += parts.sum_layers(self.experts) * share
        return found * copied


def _kept(work: Work, modes: RecomputeModes) -> Array:
    """Return a layer's saved bytes by recomputation mode, shape ``[shapes, modes]``."""
    return modes.table(work.saved_bytes(), work.input_bytes, work.selective_bytes)


def _spared(work: Work) -> Array:
    """Return what full recomputation of a layer does not keep."""
    return work.saved_bytes() - work.input_bytes


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
    ranks = _Ranks(everything, profile)
    stages, cut = prepared.stages, prepared.stage_index
    fewest = np.zeros(len(prepared))
    for rank in range(stages.width):
        layers = stages.look_up(stages.layers, cut, rank)
        held = ranks.warm_up.in_flight(stages.look_up(stages.position, cut, rank))
        spared = RankParts.of(prepared, rank).sum_layers(ranks.spared) * held
        room = capacity - ranks.total(rank, step=False)
        kept = np.floor(layers * room / (spared * (1.0 + profile.fragmentation_least.value)) + 1e-9)
        fits = ranks.total(rank) <= capacity
        fewest = np.maximum(fewest, np.where(fits, layers - kept, np.inf))
    return fewest


def standing_bytes(prepared: Prepared, profile: Profile, parts: RankParts, reserve: float) -> float:
    """Return what a rank of one layout holds whatever it is doing.

    Parameters
    ----------
    prepared
        The layout with its inventory.
    profile
        Context and communicator parameters.
    parts
        What the rank is made of.
    reserve
        What the allocator holds beyond what is asked for, as a share of it.
    """
    ranks = _Ranks(prepared, profile)
    states = reduce(np.add, ranks.states(parts))
    logits = parts.last * ranks.logits
    asked = logits + np.maximum(ranks.layer_peak - logits, 0.0) + ranks.communication
    asked = asked + parts.last * ranks.gathered_head
    total = states + ranks.beside + asked * (1.0 + reserve)
    return float(total[0])


def kept_bytes(prepared: Prepared, parts: RankParts, repeated: float, reserve: float) -> float:
    """Return what a micro-batch keeps in a stage of one layout from its forward pass on.

    Parameters
    ----------
    prepared
        The layout with its inventory.
    parts
        What the stage is made of.
    repeated
        Share of its layers that are recomputed in full.
    reserve
        What the allocator holds beyond what is asked for, as a share of it.
    """
    shape, mode, modes = prepared.shape_index, prepared.mode_index, prepared.modes
    kept = parts.sum_layers([_kept(work, modes)[shape, mode] for work in prepared.layers])
    if prepared.batch.recompute[0] == Recompute.FULL:
        spared = parts.sum_layers([_spared(work)[shape] for work in prepared.layers])
        kept = kept + (1.0 - repeated) * spared
    together = prepared.together()
    kept = kept if together is None else kept / together
    kept = kept + parts.first * prepared.embedding.saved_bytes()[shape]
    kept = kept + parts.last * prepared.head.saved_bytes()[shape]
    return float(kept[0]) * (1.0 + reserve)
