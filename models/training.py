"""The analytical clock: seconds of one training step, in closed form, for every layout at once.

A step is the pipeline, then what of the gradient reduction and the parameter gathering is not
hidden, the optimizer, and what the host adds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from models.interval import widening
from models.named_axes import Recompute
from models.operation import Axis
from models.part_times import PartClock, Spent
from models.pass_tables import PassTables
from models.pipeline import PassSeconds, PipelineClock
from models.rank_parts import RankParts
from models.schedule import ALWAYS_APART, APART, paired_passes
from models.step_ends import StepEnds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared
    from topologies.fabric import Fabric


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one step by what they go into, on the pipeline rank that sets the pace.

    Parameters
    ----------
    compute, recompute
        Kernels of forward and backward and of quantising weights, and of what is computed again.
    tp, cp, ep, pp, dp
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
    ep: Array
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
        return self.tp + self.cp + self.ep + self.pp + self.dp


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
        clock, batch, modes = (
            PartClock(device, fabric, prepared.shapes),
            prepared.batch,
            prepared.modes,
        )
        paired = paired_passes(batch)
        steal = clock.steal(Axis.EP) if paired.any() else None
        self.layers = [
            PassTables.of(clock.times(work, modes.sets), steal) for work in prepared.layers
        ]
        self.embedding = PassTables.of(clock.times(prepared.embedding), steal)
        self.head = PassTables.of(clock.times(prepared.head), steal)
        self.pipeline = PipelineClock(prepared, device, fabric)
        #: Where each layout finds its times: after those of all shapes are those of paired passes.
        self.shape = shape = prepared.shape_index
        if steal is not None:
            self.shape = shape = shape + paired * len(prepared.shapes)
        self.partial = bool(np.any(batch.recompute_layers))
        self.again = [table.repeated_total[shape, prepared.mode_index] for table in self.layers]
        self.whole_or_apart = 2 * shape + ALWAYS_APART.take(batch.schedule)
        self.forward = self.per_part("forward", shape)
        layers, embedding, head = self.per_part("backward", self.whole_or_apart)
        if not self.partial:  # what is recomputed is so in every layer
            layers = [own + again for own, again in zip(layers, self.again, strict=True)]
        self.backward = layers, embedding, head

    def per_part(self, phase: str, index: NDArray[np.intp]) -> tuple[list[Array], Array, Array]:
        """Return a phase's seconds of each kind of layer and of the two ends, per layout."""
        return (
            [getattr(table, phase).take(index) for table in self.layers],
            getattr(self.embedding, phase).take(index),
            getattr(self.head, phase).take(index),
        )

    def step(self) -> StepTime:
        """Return the time of every layout."""
        prepared = self.prepared
        passes = self._passes()
        slowest = np.argmax(passes.both, axis=0)
        pace, pipeline = passes.both.max(axis=0), self.pipeline.seconds(passes)
        parts = RankParts.of(prepared, slowest)
        busy = self._busy(slowest, parts)
        turns = prepared.micro_batches * self.pipeline.share
        compute, recompute, tp, cp, ep = (turns * kind for kind in busy)
        steady = prepared.micro_batches * pace
        pp = np.maximum(steady - compute - recompute - tp - cp - ep, 0.0)
        bubble = np.maximum(pipeline - steady, 0.0)
        data = StepEnds(self, (busy[0] + busy[1]) / sum(busy)).latest(passes)
        spent = {
            "compute": compute + data.casting,
            "recompute": recompute,
            "tp": tp,
            "cp": cp,
            "ep": ep,
            "pp": pp,
            "bubble": bubble,
            "dp": data.gathering + data.reducing,
            "optimizer": data.optimizer,
            "overhead": prepared.host_s(self.device.profile),
        }
        total = sum(spent.values(), start=np.zeros(len(prepared)))
        sent = spent["tp"] + spent["cp"] + spent["ep"] + spent["pp"] + spent["dp"]
        wider = widening(total - sent, sent, self.device.profile)
        return StepTime(**spent, low=total / wider, high=total * wider)

    def _passes(self) -> PassSeconds:
        """Return one micro-batch's passes through every kind of rank, sends included."""
        kinds = range(self.prepared.stages.width)
        parts = [RankParts.of(self.prepared, rank) for rank in kinds]
        sent = [
            self.pipeline.sending(parts[rank], *self.computed(parts[rank], rank)) for rank in kinds
        ]
        forward, backward = (np.stack(passes) for passes in zip(*sent, strict=True))
        inputs, weights = self._apart(backward)
        return PassSeconds(forward=forward, backward=backward, inputs=inputs, weights=weights)

    def _apart(self, backward: Array) -> tuple[Array, Array]:
        """Return the backward passes in two, for the layouts that run some of them so."""
        inputs, weights = np.zeros(backward.shape), np.zeros(backward.shape)
        rows = np.flatnonzero(APART.take(self.prepared.batch.schedule))
        if len(rows):
            those = self.prepared.take(rows)
            shape, share = self.shape[rows], self.pipeline.share[rows]
            whole = ~ALWAYS_APART.take(those.batch.schedule)
            for rank in range(those.stages.width):
                parts = RankParts.of(those, rank)
                later, unhidden = (
                    parts.sum(*self.per_part(phase, shape)) * share
                    for phase in ("weights", "unhidden")
                )
                weights[rank, rows] = later
                inputs[rank, rows] = backward[rank, rows] - later + whole * unhidden
        return inputs, weights

    def computed(self, parts: RankParts, rank: int | NDArray[np.intp]) -> tuple[Array, Array]:
        """Return one micro-batch's passes through one kind of rank, without hops."""
        forward, backward = parts.sum(*self.forward), parts.sum(*self.backward)
        if self.partial:
            backward += parts.sum_layers(self.again) * self.repeats(rank)
        if self.pipeline.both_ways:
            forward, backward = forward * self.pipeline.share, backward * self.pipeline.share
        return forward, backward

    def repeats(self, rank: int | NDArray[np.intp]) -> Array | float:
        """Return the share of a rank's layers whose recomputation counts."""
        if not self.partial:
            return 1.0
        stages, batch = self.prepared.stages, self.prepared.batch
        layers = stages.look_up(stages.layers, self.prepared.stage_index, rank)
        share = self.prepared.repeated_share(layers)
        return np.where(batch.recompute == Recompute.FULL, share, 1.0)

    def _busy(self, rank: NDArray[np.intp], parts: RankParts) -> tuple[Array, ...]:
        """Return compute, recompute, tp, cp and ep seconds of one micro-batch on named ranks."""
        shape, mode = self.shape, self.prepared.mode_index
        repeats = self.repeats(rank)
        spent, again = [], []
        for kind in range(len(fields(Spent))):
            layers = [table.both[self.whole_or_apart, kind] for table in self.layers]
            ends = (end.both[self.whole_or_apart, kind] for end in (self.embedding, self.head))
            spent.append(parts.sum(layers, *ends))
            repeated = [table.repeated[shape, mode, kind] for table in self.layers]
            again.append(parts.sum_layers(repeated) * repeats)
        waits = (own + repeated for own, repeated in zip(spent[1:], again[1:], strict=True))
        return (spent[0], again[0], *waits)
