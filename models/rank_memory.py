"""What each kind of pipeline rank holds at its peak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.communicators import communicator_bytes
from models.kept import Kept
from models.memory_bill import MemoryBill
from models.named_axes import Recompute, RecomputeMethod
from models.pass_peak import PassPeak
from models.rank_parts import RankParts
from models.schedule import ALWAYS_APART
from models.standing import Standing
from models.state_bytes import (
    end_bytes,
    expert_shard_ranks,
    shard_ranks,
    state_bytes,
    weight_bytes,
)
from models.transit import layer_in_transit, regathers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.layout import Array
    from models.prepared import Prepared
    from models.profile import Profile

#: What the allocator asks of the device and gives back to it are multiples of this (torch
#: documentation, *CUDA semantics*; ``c10/cuda/CUDACachingAllocator.cpp``, ``kSmallBuffer``).
SEGMENT_BYTES = 2.0 * 2**20


class RankMemory:
    """Memory per kind of pipeline rank; lines that are equal on all ranks are taken once."""

    def __init__(self, prepared: Prepared, profile: Profile) -> None:
        self.prepared, self.profile = prepared, profile
        batch, shape = prepared.batch, prepared.shape_index
        block = batch.recompute_method == RecomputeMethod.BLOCK
        partial = (batch.recompute == Recompute.FULL) & (batch.recompute_layers > 0) & block
        self.partial = partial if partial.any() else None
        table = prepared.parameters
        head = table.head[shape] + prepared.copied_head()
        self.params = [kind[shape] for kind in table.layers], table.embedding[shape], head
        self.experts = [kind[shape] for kind in table.experts] if table.has_experts else None
        # FSDP keeps the gathered head between forward and backward.
        held = head * prepared.workload.states.parameter_bytes
        self.gathered_head = np.where(regathers(prepared), held, 0.0)
        self.kept = Kept(prepared)
        self.warm_up = prepared.warm_up()
        self.head_saved = self.kept.loss * self.warm_up.head
        # The embedding keeps a number per token of all micro-batches.
        self.embedding_saved = self.kept.embedding * prepared.micro_batches
        self.logits = prepared.head.working_bytes[shape]
        self.state_bytes = state_bytes(prepared, shard_ranks(prepared))
        self.expert_bytes = state_bytes(prepared, expert_shard_ranks(prepared))
        self.forms = prepared.workload.recipe.quantised
        self.end_bytes = end_bytes(prepared) if prepared.workload.states.end_bytes else None
        self.layer_peaks = self._layer_peaks()
        self.layer_peak: Array = np.max(self.layer_peaks, axis=0)
        buffers = np.max([work.buffer_bytes for work in prepared.layers], axis=0)
        self.buffers = buffers[shape]
        self.in_transit = layer_in_transit(prepared, self.params[0], self.experts)
        self.communicators = communicator_bytes(prepared, profile)
        fixed = profile.context_bytes.value + profile.workspace_bytes.value
        self.beside = fixed + self.communicators
        apart = (prepared.stages.held != prepared.stages.counts).any(axis=(1, 2))
        uneven = apart[prepared.stage_index]
        self.uneven = uneven if uneven.any() else None
        # Gradients of one micro-batch are there from its backward pass on.
        fresh = ~np.isin(batch.zero, prepared.workload.runs_on.gradient_buffers)
        fresh &= prepared.micro_batches == 1
        self.fresh = fresh if fresh.any() else None

    def total(self, rank: int) -> Array:
        """Return the least total of one kind of rank for every layout."""
        parts = RankParts.of(self.prepared, rank)
        weights, gradients, optimizer = self.states(parts)
        peak = self.passes(rank, parts, gradients)
        asked = np.maximum(peak.asked, self._copied(parts))
        return self._held(weights + peak.gradients + optimizer, asked)

    def full(self, rank: int) -> Array:
        """Return the same while all that passes keep is there, which grows with that alone."""
        parts = RankParts.of(self.prepared, rank)
        weights, gradients, optimizer = self.states(parts)
        peak = self._full(rank, parts, gradients)
        return self._held(weights + peak.gradients + optimizer, peak.asked)

    def _held(self, states: Array, asked: Array) -> Array:
        """Return all that is taken of a device, with the least reserve."""
        reserved = asked * (1.0 + self.profile.fragmentation_least.value)
        total: Array = states + self.beside + reserved
        return total

    def standing(self, parts: RankParts) -> Standing:
        """Return what one layout's rank holds at its peaks beside what micro-batches keep."""
        weights, gradients, optimizer = self.states(parts)
        rank = np.zeros(len(self.prepared), dtype=np.intp)
        full = self._full(rank, parts, gradients)
        peak = self.passes(rank, parts, gradients)
        asked = full.logits + full.working + full.buffers + peak.asked - full.asked
        held = weights + peak.gradients + optimizer + self.beside
        copied = np.zeros(len(self.prepared)) + self._copied(parts)
        return Standing(held=float(held[0]), passes=float(asked[0]), update=float(copied[0]))

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
        peak = self.passes(rank, parts, gradients)
        asked, copied = peak.asked, self._copied(parts)
        step = np.maximum(copied - asked, 0.0)
        profile, none = self.profile, np.zeros(len(self.prepared))
        reserve = (asked + copied) * profile.fragmentation.value + np.minimum(asked, copied)
        states = weights + peak.gradients + optimizer
        least = self._held(states, asked + step)
        if capacity is not None:
            taken = states + asked + step + self.beside
            room = np.floor((capacity - taken) / SEGMENT_BYTES) * SEGMENT_BYTES
            reserve = np.maximum(np.minimum(reserve, room), least - taken)
        return MemoryBill(
            parameters=weights,
            gradients=peak.gradients,
            optimizer=optimizer,
            activations=peak.activations,
            logits=peak.logits,
            working=peak.working,
            buffers=peak.buffers,
            step=step,
            fragmentation=reserve,
            context=none + profile.context_bytes.value,
            communicators=self.communicators,
            workspaces=none + profile.workspace_bytes.value,
            stage=stages.look_up(stages.position, cut, rank),
            least=least,
        )

    def passes(self, rank: int | NDArray[np.intp], parts: RankParts, gradients: Array) -> PassPeak:
        """Return what passes need where they need most: while all they keep is there, or at last.

        At last the first layer's backward pass runs and all gradients are there.
        """
        full = self._full(rank, parts, gradients)
        if self.fresh is None:
            return full
        last = self._last(parts, gradients)
        share = self.profile.fragmentation_least.value
        return full.where(~self.fresh | (full.total(share) >= last.total(share)), last)

    def _full(self, rank: int | NDArray[np.intp], parts: RankParts, gradients: Array) -> PassPeak:
        """Return what passes need while all they keep is there."""
        prepared, stages, cut = self.prepared, self.prepared.stages, self.prepared.stage_index
        whole: Array | float = 0.0
        if self.partial is not None:
            whole = np.where(self.partial, 1.0 - prepared.repeated_share(parts.layers), 0.0)
        held = self.as_held(rank, parts)
        kept = self.kept.of_layers(held, whole) + self.kept.sent(parts, prepared.batch.vp)
        position = stages.look_up(stages.position, cut, rank)
        kept *= self.warm_up.in_flight(position)
        kept += parts.first * self.embedding_saved + parts.last * self.head_saved
        working = self._working(parts)
        if self.fresh is not None:  # of the head alone once a layer goes back, none before
            head = parts.last * self.params[2] * self.state_bytes[1] * (working > 0)
            gradients = np.where(self.fresh, np.minimum(head, gradients), gradients)
        return PassPeak(
            gradients=gradients,
            activations=kept,
            logits=parts.last * self.logits,
            working=working,
            buffers=self.buffers + self.transit(parts),
        )

    def as_held(self, rank: int | NDArray[np.intp], parts: RankParts) -> RankParts:
        """Return a rank's layers as often as micro-batches hold them, over how many are held."""
        if self.uneven is None:
            return parts
        stages, cut = self.prepared.stages, self.prepared.stage_index
        # A rank that holds all micro-batches of a step holds them of every stage alike.
        some = ~self.warm_up.all_held(stages.look_up(stages.position, cut, rank))
        return parts.as_held(self.prepared, rank, self.uneven & some)

    def _last(self, parts: RankParts, gradients: Array) -> PassPeak:
        """Return what passes need while one layer is left to go back."""
        own = [
            np.where(count > 0, (saved, saved + peak), 0.0)
            for count, saved, peak in zip(
                parts.counts, self.kept.alone, self.layer_peaks, strict=True
            )
        ]
        kept, needed = np.max(own, axis=0)
        return PassPeak(
            gradients=gradients,
            activations=kept + parts.first * self.embedding_saved,
            logits=np.zeros_like(kept),
            working=needed - kept,
            buffers=self.buffers + self.transit(parts),
        )

    def _working(self, parts: RankParts) -> Array:
        """Return what one layer's backward pass needs beyond all that a loss needs.

        The loss is through with what it keeps before the first of them begins, but where gradients
        of the weights, the head's too, are left for later.
        """
        apart = ALWAYS_APART.take(self.prepared.batch.schedule)
        freed = self.logits + np.where(apart, 0.0, self.kept.loss)
        needed: Array = self.layer_peak - parts.last * freed
        return np.maximum(needed, 0.0)

    def _layer_peaks(self) -> list[Array]:
        """Return what each kind's backward pass needs beyond the saved tensors."""
        shape = self.prepared.shape_index
        peaks: list[Array] = [
            (work.working_bytes + work.saved_bytes())[shape] - kept
            for work, kept in zip(self.prepared.layers, self.kept.alone, strict=True)
        ]
        if self.kept.together is None:
            return peaks
        # All layers of a group are there before the last goes back.
        each = np.max([work.saved_bytes() for work in self.prepared.layers], axis=0)[shape]
        return [peak + (self.kept.together - 1.0) * each for peak in peaks]

    def transit(self, parts: RankParts) -> Array:
        """Return what of a rank's buffers is of parameters and gradients."""
        total: Array = self.in_transit + parts.last * self.gathered_head
        return total

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
