"""One training step of one layout on the event clock.

A rank of every pipeline stage is played; ranks that differ in nothing but their place along the
other axes do the same at the same time. Every distinct pass is played on the streams of its rank
(:mod:`models.simulation.passes`), then all passes in the schedule's order by the longest path
(:mod:`models.simulation.static_order`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.named_axes import Schedule
from models.recompute_modules import RecomputeModules
from models.schedule import WAITING, paired_passes
from models.simulation.gradients import Gradients
from models.simulation.operations import Operations
from models.simulation.passes import Passes
from models.simulation.schedules import ordered
from models.simulation.sends import send_task
from models.simulation.stages import held_by, stages_of
from models.simulation.static_order import Compiled
from models.simulation.step_runs import PipelineRank, StepRuns
from models.simulation.streams import Player

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.compute import Device
    from models.prepared import Prepared
    from models.simulation.static_order import Times
    from topologies.fabric import Fabric

    Array = NDArray[np.floating[Any]]

#: Less than this share of a step is nothing.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A simulated step; arrays over pipeline ranks.

    Parameters
    ----------
    step_s
        All of it.
    pipeline_s
        From its start to the end of the last pass.
    idle_s
        What each rank waits for others until the last pass of all.
    bubble_s
        The same between the rank's own first and last pass.
    last_s
        When the last pass of each is done.
    tail_s
        How long each reduces gradients after that.
    reduced_s
        From the start of the step until all gradients are there.
    optimizer_s, overhead_s
        What follows once all gradients are there.
    """

    step_s: float
    pipeline_s: float
    idle_s: Array
    bubble_s: Array
    last_s: Array
    tail_s: Array
    reduced_s: float
    optimizer_s: float
    overhead_s: float


class StepSimulation:
    """A step that can be played.

    Parameters
    ----------
    prepared
        One layout with its inventory.
    device, fabric
        Accelerator with profile, links.
    contention
        Whether what shares links slows down.
    slower
        The links of some pipeline ranks, where those are others.
    attention
        Work of core attention over that of whole sequences.
    async_ulysses
        Whether Ulysses exchanges a tensor beside the projection of the next one.

    Raises
    ------
    SpecError
        If the layout's schedule cannot be.
    """

    def __init__(
        self,
        prepared: Prepared,
        device: Device,
        fabric: Fabric,
        *,
        contention: bool = True,
        slower: Mapping[int, Fabric] | None = None,
        attention: float = 1.0,
        async_ulysses: bool = False,
    ) -> None:
        batch = prepared.batch
        self.prepared, self.device, self.fabric = prepared, device, fabric
        self.contention, self.slower = contention, slower or {}
        self.async_ulysses = async_ulysses
        self.schedule = Schedule(int(batch.schedule[0]))
        self.micro_batches = int(prepared.micro_batches[0])
        pp, vp = int(batch.pp[0]), int(batch.vp[0])
        order, self.way = ordered(self.schedule, pp, self.micro_batches, vp)
        self.compiled = Compiled.of(order, self.way)
        self.stages = stages_of(prepared, self.way)
        self.waits = bool(WAITING[self.schedule])
        links = [self.slower.get(rank, fabric) for rank in range(pp)]
        player = Player(contention=contention)
        passes = {
            which: Passes(
                Operations(
                    device,
                    which,
                    prepared.shapes,
                    async_ulysses=async_ulysses,
                    paired=bool(paired_passes(batch)[0]),
                    modules=RecomputeModules(int(batch.recompute_modules[0])),
                ),
                prepared,
                player,
                attention,
            )
            for which in set(links)
        }
        held = [[self.stages[at] for at in held_by(rank, self.way)] for rank in range(pp)]
        self.pipeline = [
            PipelineRank(
                passes=passes[which],
                send=send_task(prepared, device, which),
                gradients=Gradients(prepared, device, which, own),
                own_links=which is not fabric,
            )
            for which, own in zip(links, held, strict=True)
        ]
        self.ranks = self.compiled.rank.tolist()
        self.runs = StepRuns(
            prepared=prepared,
            compiled=self.compiled,
            stages=self.stages,
            pipeline=self.pipeline,
            waits=self.waits,
        ).runs()

    def with_attention(self, share: float) -> StepSimulation:
        """Return the same step with a share of core attention's work."""
        return StepSimulation(
            self.prepared,
            self.device,
            self.fabric,
            contention=self.contention,
            slower=self.slower,
            attention=share,
            async_ulysses=self.async_ulysses,
        )

    @cached_property
    def seconds(self) -> Array:
        """How long every step of the schedule keeps its rank, sends apart."""
        own = np.array([sum(run.seconds for run in runs) for runs in self.runs])
        return own + self._taken_after(own)

    def _taken_after(self, own: Array) -> Array:
        """Return how much longer steps take while gradients of earlier ones are still reduced."""
        taken = np.zeros(len(own))
        if not any(runs[-1].tail_s * runs[-1].tail_steal for runs in self.runs):
            return taken
        times = self.times(own)
        free, steal = np.zeros(len(self.pipeline)), np.zeros(len(self.pipeline))
        for at in np.argsort(times.start, kind="stable"):
            rank, last = self.ranks[at], self.runs[at][-1]
            start, end = float(times.start[at]), float(times.end[at])
            taken[at] = steal[rank] * max(min(float(free[rank]), end) - start, 0.0)
            if last.tail_s:
                free[rank] = max(float(free[rank]), end) + last.tail_s
                steal[rank] = last.tail_steal
        return taken

    @cached_property
    def send_s(self) -> Array:
        """How long what every step makes is on its way."""
        found = np.array([self.pipeline[rank].send.seconds for rank in self.ranks])
        for at, before in enumerate(self.compiled.before):
            if before >= 0 and self.runs[at][0].send_s:
                found[before] = self.runs[at][0].send_s
        return found

    def times(self, seconds: Array | None = None) -> Times:
        """Return when every step of the schedule happens."""
        taken = self.seconds if seconds is None else seconds
        send_s = self.send_s.reshape(-1, *[1] * (taken.ndim - 1))
        return self.compiled.times(taken, send_s, waits=self.waits)

    def step(self) -> Step:
        """Return the step."""
        times, seconds = self.times(), self.seconds
        pipeline_s = float(times.end.max())
        own = [self.compiled.rank == rank for rank in range(len(self.pipeline))]
        busy = np.array([seconds[mine].sum() for mine in own])
        first = np.array([times.start[mine].min() for mine in own])
        last = np.array([times.end[mine].max() for mine in own])
        ends = self._ends(times)
        reduced = float(ends.max()) + max(each.gradients.between_s for each in self.pipeline)
        optimizer_s = max(each.gradients.optimizer_s for each in self.pipeline)
        overhead_s = float(self.prepared.host_s(self.device.profile)[0])
        return Step(
            step_s=reduced + optimizer_s + overhead_s,
            pipeline_s=pipeline_s,
            idle_s=_beyond_rounding(pipeline_s - busy, pipeline_s),
            bubble_s=_beyond_rounding(last - first - busy, pipeline_s),
            last_s=last,
            tail_s=ends - last,
            reduced_s=reduced,
            optimizer_s=optimizer_s,
            overhead_s=overhead_s,
        )

    def _ends(self, times: Times) -> Array:
        """Return when every rank has reduced its gradients, which it does one after the other."""
        free = np.zeros(len(self.pipeline))
        for at in np.argsort(times.end, kind="stable"):
            rank, runs = self.ranks[at], self.runs[at]
            tail = runs[-1].tail_s
            free[rank] = max(free[rank], float(times.end[at])) + tail
        return free


def _beyond_rounding(seconds: Array, of: float) -> Array:
    """Return differences of sums, and 0 where they are nothing but rounding."""
    return np.where(seconds > ROUNDING * of, seconds, 0.0)
