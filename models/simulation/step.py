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

from models.layout import Schedule
from models.schedule import WAITING
from models.simulation.gradients import Gradients
from models.simulation.operations import Operations
from models.simulation.passes import ALONE, Company, Passes, PassRun
from models.simulation.pipeline_order import Pass
from models.simulation.schedules import ordered
from models.simulation.sends import send_task
from models.simulation.stages import held_by, stages_of
from models.simulation.static_order import Compiled
from models.simulation.streams import Player

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.compute import Device
    from models.prepared import Prepared
    from models.simulation.pipeline_order import Action
    from models.simulation.static_order import Times
    from topologies.fabric import Fabric

    Array = NDArray[np.floating[Any]]

#: Less than this share of a step is nothing.
ROUNDING = 1e-9
#: Passes after which gradients of the weights are there.
_MAKES_GRADIENTS = (Pass.BACKWARD, Pass.WEIGHT_GRADIENT)


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
                Operations(device, which, prepared.shapes, async_ulysses=async_ulysses),
                prepared,
                player,
                attention,
            )
            for which in set(links)
        }
        self.passes = [passes[which] for which in links]
        self.sends = [send_task(prepared, device, which) for which in links]
        held = [[self.stages[at] for at in held_by(rank, self.way)] for rank in range(pp)]
        self.gradients = [
            Gradients(prepared, device, which, own) for which, own in zip(links, held, strict=True)
        ]
        self.ranks = self.compiled.rank.tolist()
        self.leaving = self.compiled.leaving
        self.runs = self._runs()

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

    @property
    def seconds(self) -> Array:
        """How long every step of the schedule keeps its rank, sends apart."""
        return np.array([sum(run.seconds for run in runs) for runs in self.runs])

    @property
    def send_s(self) -> Array:
        """How long what every step makes is on its way."""
        found = np.array([self.sends[rank].seconds for rank in self.ranks])
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
        own = [self.compiled.rank == rank for rank in range(len(self.gradients))]
        busy = np.array([seconds[mine].sum() for mine in own])
        first = np.array([times.start[mine].min() for mine in own])
        last = np.array([times.end[mine].max() for mine in own])
        ends = self._ends(times)
        reduced = float(ends.max()) + max(each.between_s for each in self.gradients)
        optimizer_s = max(each.optimizer_s for each in self.gradients)
        overhead_s = float(self.device.profile.step_s.value)
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
        free = np.zeros(len(self.gradients))
        for at in np.argsort(times.end, kind="stable"):
            rank, runs = self.ranks[at], self.runs[at]
            tail = runs[-1].tail_s
            free[rank] = max(free[rank], float(times.end[at])) + tail
        return free

    # ------------------------------------------------------------------------------------- company

    def _runs(self) -> list[list[PassRun]]:
        """Return how every step of the schedule runs, pair by pair of its passes."""
        cache: dict[tuple[object, ...], PassRun] = {}
        gathering, reducing = self._special()
        found = []
        for at, actions in enumerate(self.compiled.runs):
            rank = self.ranks[at]
            sends = not self.waits and self._sends(self.compiled.before[at])
            runs = []
            for place, action in enumerate(actions):
                gathers, reduces = (at, action) in gathering, (at, action) in reducing
                key = (
                    self.stages[action.stage],
                    action.kind,
                    rank if gathers or reduces or rank in self.slower else None,
                    gathers,
                    reduces,
                    self._lead_s(at, action) if gathers and not self._every else 0.0,
                    sends and not place,
                )
                if key not in cache:
                    cache[key] = self._run(rank, action, key)
                runs.append(cache[key])
            found.append(runs)
        return found

    def _run(self, rank: int, action: Action, key: tuple[Any, ...]) -> PassRun:
        _, _, _, gathers, reduces, lead, sends = key
        stage = self.stages[action.stage]
        if not (gathers or reduces or sends or self._every):
            return self.passes[rank].run(stage, action.kind)
        gradients, forward = self.gradients[rank], action.kind is Pass.FORWARD
        gathered = gradients.gathers(stage) if gathers else []
        reduced = gradients.reductions(stage) if reduces else []
        company = Company(
            gathers=tuple(gathered if forward else reversed(gathered)),
            reductions=tuple(tuple(tasks) for tasks in reversed(reduced)),
            ahead=1 if self._every else None,
            waits=self._waits_for_gradients,
            lead_s=lead,
            send=self.sends[rank] if sends else None,
        )
        return self.passes[rank].run(stage, action.kind, company)

    def _lead_s(self, at: int, action: Action) -> float:
        """Return how long the links are free to gather a stage's parameters before its first pass.

        The rank's stages are gathered one after the other, in the order in which they start.
        """
        rank = self.ranks[at]
        before = {
            self.stages[other.stage]
            for step in range(at)
            if self.ranks[step] == rank
            for other in self.compiled.runs[step]
        } - {self.stages[action.stage]}
        gradients = self.gradients[rank]
        taken = [task.seconds for stage in before for task in gradients.gathers(stage)]
        return float(self._starts[at] - sum(taken))

    @cached_property
    def _starts(self) -> Array:
        """Return when every step starts if nothing runs beside the passes."""
        alone: dict[tuple[object, ...], float] = {}
        seconds = np.zeros(len(self.compiled.runs))
        for at, actions in enumerate(self.compiled.runs):
            for action in actions:
                rank = self.ranks[at]
                key = (self.stages[action.stage], action.kind, rank in self.slower)
                if key not in alone:
                    stage = self.stages[action.stage]
                    alone[key] = self.passes[rank].run(stage, action.kind, ALONE).seconds
                seconds[at] += alone[key]
        send_s = np.array([self.sends[rank].seconds for rank in self.ranks])
        return self.compiled.times(seconds, send_s, waits=self.waits).start

    def _special(self) -> tuple[set[tuple[int, Action]], set[tuple[int, Action]]]:
        """Return the passes beside which parameters are gathered, and gradients reduced.

        Those of the first micro-batch and of the last through every stage of a rank, or all.
        """
        zero = int(self.prepared.batch.zero[0])
        gathers: dict[object, tuple[int, Action]] = {}
        reduces: dict[object, tuple[int, Action]] = {}
        for at, actions in enumerate(self.compiled.runs):
            for action in actions:
                # Both directions of DualPipe have stages of their own on every rank.
                own = (self.ranks[at], action.stage)
                every = (*own, action.micro_batch, action.kind)
                makes = action.kind in _MAKES_GRADIENTS
                if zero and (self._every or action.kind is Pass.FORWARD):
                    gathers.setdefault(every if self._every else own, (at, action))
                if makes:
                    reduces[every if zero >= 2 else own] = (at, action)
        return set(gathers.values()), set(reduces.values())

    @property
    def _every(self) -> bool:
        """Whether parameters are gathered for every pass."""
        batch = self.prepared.batch
        return bool(batch.zero[0] == 3 and batch.pp[0] == 1)

    @property
    def _waits_for_gradients(self) -> bool:
        """Whether a pass ends only when its gradients are reduced: with ZeRO-2 and 3."""
        return bool(self.prepared.batch.zero[0] >= 2)

    def _sends(self, step: int) -> bool:
        """Return whether a step makes what another rank needs."""
        return step >= 0 and bool(self.leaving[step])


def _beyond_rounding(seconds: Array, of: float) -> Array:
    """Return differences of sums, and 0 where they are nothing but rounding."""
    return np.where(seconds > ROUNDING * of, seconds, 0.0)
