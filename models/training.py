"""The analytical clock: seconds of one training step, in closed form, for every layout at once.

A step is the pipeline (1F1B, GPipe or interleaved), then what of the gradient reduction and the
parameter gathering is not hidden, the optimizer, and what the host adds. With stages of unequal
length the pipeline takes ``sum over ranks of (F + B) / v + (m - 1/v) max (F + B)``, which is
``(m + (p - 1) / v) (F + B)`` for equal ones (Narayanan et al., arXiv:2104.04473 section 2.2); GPipe
takes forward and backward apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from models import collectives
from models.data_parallel import DataParallelClock, Pass
from models.dtype import BF16
from models.inventory import full_attention_flop, model_flop
from models.layout import Recompute, Schedule, strides
from models.overlap import beside
from models.part_times import PartClock, PartTimes
from models.rank_parts import RankParts
from topologies.collective import Collective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared
    from topologies.fabric import Fabric

#: Standard normal deviate of the 90th percentile: intervals run from the 10th to the 90th.
P90 = 1.2816


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one step by what they go into, on the pipeline rank that sets the pace.

    Parameters
    ----------
    compute, recompute
        Kernels of forward and backward, and of what is computed again.
    tp, cp, pp, dp
        Exposed communication of each axis.
    bubble
        Waiting for other pipeline ranks.
    optimizer, overhead
        The optimizer's step, and what the host adds.
    low, high
        10th and 90th percentile of the step.
    """

    compute: Array
    recompute: Array
    tp: Array
    cp: Array
    pp: Array
    bubble: Array
    dp: Array
    optimizer: Array
    overhead: Array
    low: Array
    high: Array

    @property
    def total(self) -> Array:
        """Seconds of the step."""
        return sum((getattr(self, part) for part in PARTS), start=np.zeros(len(self.compute)))

    @property
    def exposed(self) -> Array:
        """Communication that nothing hides."""
        return self.tp + self.cp + self.pp + self.dp


#: What a step goes into, in the order people read it.
PARTS: tuple[str, ...] = tuple(f.name for f in fields(StepTime) if f.name not in ("low", "high"))


def step_time(prepared: Prepared, device: Device, fabric: Fabric) -> StepTime:
    """Return the time of every layout.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    device
        Accelerator and profile.
    fabric
        The cluster's links.
    """
    return StepClock(prepared, device, fabric).step()


class StepClock:
    """Seconds per kind of pipeline rank, put together into steps."""

    def __init__(self, prepared: Prepared, device: Device, fabric: Fabric) -> None:
        self.prepared, self.device, self.fabric = prepared, device, fabric
        clock = PartClock(device, fabric, prepared.shapes)
        self.layers = [_Tables.of(clock.times(work)) for work in prepared.layers]
        self.embedding = _Tables.of(clock.times(prepared.embedding))
        self.head = _Tables.of(clock.times(prepared.head))
        self.interleaved = prepared.batch.schedule == Schedule.INTERLEAVED
        self.hop, self.steal = self._hop()
        self.sent = np.where(self.interleaved, prepared.batch.vp * self.hop, self.hop)
        shape, mode = prepared.shape_index, prepared.batch.recompute
        self.partial = bool(np.any(prepared.batch.recompute_layers))
        self.again = [table.repeated_total[shape, mode] for table in self.layers]
        self.forward = self._per_part("forward")
        layers, embedding, head = self._per_part("backward")
        if not self.partial:  # what is recomputed is so in every layer
            layers = [own + again for own, again in zip(layers, self.again, strict=True)]
        self.backward = layers, embedding, head

    def _per_part(self, phase: str) -> tuple[list[Array], Array, Array]:
        """Return a phase's seconds of each kind of layer and of the two ends, per layout."""
        shape = self.prepared.shape_index
        return (
            [getattr(table, phase)[shape] for table in self.layers],
            getattr(self.embedding, phase)[shape],
            getattr(self.head, phase)[shape],
        )

    def step(self) -> StepTime:
        """Return the time of every layout."""
        prepared, batch = self.prepared, self.prepared.batch
        ranks = range(prepared.stages.width)
        passes = [self._passes(rank) for rank in ranks]
        forward = np.stack([pass_s for pass_s, _ in passes])
        backward = np.stack([pass_s for _, pass_s in passes])
        slowest = np.argmax(forward + backward, axis=0)
        pipeline = self._pipeline(forward, backward)
        parts = RankParts.of(prepared, slowest)
        busy = self._busy(slowest, parts)
        many = prepared.micro_batches
        compute, recompute, tp, cp = (many * kind for kind in busy)
        steady = many * (forward + backward).max(axis=0)
        pp = np.maximum(steady - compute - recompute - tp - cp, 0.0)
        bubble = np.maximum(pipeline - steady, 0.0)
        ends = RankParts.of(prepared, 0)
        data = DataParallelClock(prepared, self.device, self.fabric, ends)
        spent = {
            "compute": compute,
            "recompute": recompute,
            "tp": tp,
            "cp": cp,
            "pp": pp,
            "bubble": bubble,
            "dp": data.exposed(*self._beside_gradients(ends), (busy[0] + busy[1]) / sum(busy)),
            "optimizer": data.optimizer(),
            "overhead": np.full(len(batch), self.device.profile.step_s.value),
        }
        low, high = self._interval(spent)
        return StepTime(**spent, low=low, high=high)

    def _passes(self, rank: int) -> tuple[Array, Array]:
        """Return one micro-batch's passes through one kind of rank, hops included."""
        parts = RankParts.of(self.prepared, rank)
        forward, backward = self._computed(parts, rank)
        onwards, back = self._sending(forward), self._sending(backward)
        # The last stage sends nothing on and the first nothing back, but for other chunks.
        forward = forward + np.where(self.interleaved, 1.0, 1.0 - parts.last) * onwards
        return forward, backward + np.where(self.interleaved, 1.0, 1.0 - parts.first) * back

    def _computed(self, parts: RankParts, rank: int) -> tuple[Array, Array]:
        """Return one micro-batch's passes through one kind of rank, without hops."""
        forward, backward = parts.sum(*self.forward), parts.sum(*self.backward)
        if self.partial:
            backward += parts.sum_layers(self.again) * self._repeats(rank)
        return forward, backward

    def _beside_gradients(self, parts: RankParts) -> tuple[Pass, Pass]:
        """Return the passes of the first rank that gradients and parameters hide behind."""
        found = []
        for busy, (_, embedding, head) in zip(
            self._computed(parts, 0), (self.forward, self.backward), strict=True
        ):
            layers = busy - parts.first * embedding - parts.last * head
            found.append(Pass(busy, layers / parts.layers + parts.last * head))
        return found[0], found[1]

    def _repeats(self, rank: int | NDArray[np.intp]) -> Array | float:
        """Return the share of a rank's layers whose recomputation counts."""
        if not self.partial:
            return 1.0
        stages, batch = self.prepared.stages, self.prepared.batch
        layers = stages.look_up(stages.layers, self.prepared.stage_index, rank)
        share = self.prepared.repeated_share(layers)
        return np.where(batch.recompute == Recompute.FULL, share, 1.0)

    def _busy(self, rank: NDArray[np.intp], parts: RankParts) -> tuple[Array, Array, Array, Array]:
        """Return compute, recompute, tp and cp seconds of one micro-batch on the named ranks."""
        shape, mode = self.prepared.shape_index, self.prepared.batch.recompute
        repeats = self._repeats(rank)
        spent, again = [], []
        for kind in range(3):
            layers = [table.both[shape, kind] for table in self.layers]
            ends = self.embedding.both[shape, kind], self.head.both[shape, kind]
            spent.append(parts.sum(layers, *ends))
            repeated = [table.repeated[shape, mode, kind] for table in self.layers]
            again.append(parts.sum_layers(repeated) * repeats)
        return spent[0], again[0], spent[1] + again[1], spent[2] + again[2]

    def _pipeline(self, forward: Array, backward: Array) -> Array:
        batch, many = self.prepared.batch, self.prepared.micro_batches
        stages, cut = self.prepared.stages, self.prepared.stage_index
        both = forward + backward
        slowest = both.max(axis=0)
        once: Array = np.zeros_like(slowest)
        for rank in range(stages.width):
            once += stages.look_up(stages.multiplicity, cut, rank) * both[rank]
        steady: Array = many * slowest + (once - slowest) / batch.vp
        # Filling and draining, every hop is waited for, whatever hides those in between.
        hops = 2.0 * (batch.vp * batch.pp - 1.0)
        fill: Array = np.where(self.interleaved, hops * self.hop, 0.0)
        gpipe = batch.schedule == Schedule.GPIPE
        if not gpipe.any():
            return steady + fill
        apart = once + (many - 1.0) * (forward.max(axis=0) + backward.max(axis=0))
        return np.where(gpipe, apart, steady) + fill

    def _hop(self) -> tuple[Array, Array]:
        """Return the time to send one micro-batch's activations on, and what it steals hidden."""
        prepared, meshes = self.prepared, self.prepared.meshes
        width = prepared.architecture.hidden * BF16
        nbytes = prepared.shapes.tokens * width / prepared.shapes.norm_shard
        links = self.fabric.links((meshes.pp * 1.0, strides(meshes).pp))
        cost = collectives.cost(Collective.SHIFT, links, self.device.profile)
        steal = collectives.steal(links, self.device.profile)
        hop = cost.seconds(nbytes[prepared.shape_index], prepared.mesh_index)
        return hop, steal[prepared.mesh_index]

    def _sending(self, busy: Array) -> Array:
        """Return what a pass that keeps a rank `busy` waits for its sends.

        1F1B and GPipe wait for each; interleaving sends every chunk's output, hidden behind the
        other chunks as far as they last (Megatron's overlap_p2p_comm).
        """
        hidden = beside(self.sent, busy, self.steal)
        return np.where(self.interleaved, hidden, self.sent)

    def _interval(self, parts: dict[str, Array]) -> tuple[Array, Array]:
        """Return the 10th and 90th percentile: compute and communication err apart."""
        profile = self.device.profile
        sent = parts["tp"] + parts["cp"] + parts["pp"] + parts["dp"]
        total = sum(parts.values(), start=np.zeros_like(sent))
        computed = (total - sent) * profile.compute_spread.value
        spread = np.hypot(computed, sent * profile.communication_spread.value) / total
        return total * np.exp(-P90 * spread), total * np.exp(P90 * spread)


@dataclass(frozen=True, slots=True)
class _Tables:
    """One part's seconds as tables over shapes (and recomputation modes)."""

    forward: Array
    backward: Array
    both: Array
    repeated: Array
    repeated_total: Array

    @classmethod
    def of(cls, times: PartTimes) -> _Tables:
        nothing = np.zeros_like(times.forward.stacked())
        modes = [nothing, times.repeated_selective.stacked(), times.repeated.stacked()]
        repeated = np.stack(modes, axis=1)
        return cls(
            forward=times.forward.total,
            backward=times.backward.total,
            both=times.forward.stacked() + times.backward.stacked(),
            repeated=repeated,
            repeated_total=repeated.sum(axis=-1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What users compare steps by; arrays over layouts.

    Parameters
    ----------
    tokens_per_s_per_gpu
        Tokens of the step over its time and the accelerators.
    tflops_per_gpu, mfu
        FLOP that MFU counts, per second and accelerator in 1e12, and over the dense peak.
    mfu_full_attention
        The same with attention counted unmasked, for comparison with published figures.
    """

    tokens_per_s_per_gpu: Array
    tflops_per_gpu: Array
    mfu: Array
    mfu_full_attention: Array


def rates(prepared: Prepared, step_s: Array, device: Device) -> Rates:
    """Return throughput and utilisation of steps that take `step_s` seconds."""
    per_gpu = 1.0 / (step_s * prepared.batch.gpus)
    counted = model_flop(prepared.architecture, prepared.workload) * per_gpu
    unmasked = full_attention_flop(prepared.architecture, prepared.workload) * per_gpu
    peak = device.accelerator.bf16_flops.value
    return Rates(
        tokens_per_s_per_gpu=prepared.workload.tokens_per_step * per_gpu,
        tflops_per_gpu=counted / 1e12,
        mfu=counted / peak,
        mfu_full_attention=unmasked / peak,
    )
