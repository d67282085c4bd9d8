"""The record of a simulated step: every span of every rank that was played."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.expert_mesh import expert_stride
from models.layout import strides
from models.sequence_parallel.sent import INSIDE
from models.simulation.counters import class_names, links, memory
from models.simulation.pipeline_order import Pass
from models.simulation.timeline import RECEIVING, SENDING, Call, Stream, Timeline
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.simulation.passes import PassRun
    from models.simulation.pipeline_order import Action
    from models.simulation.program import Task
    from models.simulation.static_order import Times
    from models.simulation.step import StepSimulation

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Spans:
    """Some spans as columns; times from the start of what they belong to."""

    call: Ints
    start_s: Array
    end_s: Array

    @classmethod
    def of(cls, rows: Iterable[tuple[int, float, float]]) -> _Spans:
        listed = list(rows)
        columns = list(zip(*listed, strict=True)) if listed else [(), (), ()]
        return cls(
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=float),
            np.array(columns[2], dtype=float),
        )


def record(simulation: StepSimulation) -> Timeline:
    """Return the timeline of a step.

    Of equal ranks one is recorded, that of every pipeline stage whose other coordinates are 0.
    """
    return _Recorder(simulation).timeline()


class _Recorder:
    """A timeline while it is put together."""

    def __init__(self, simulation: StepSimulation) -> None:
        self.simulation = simulation
        self.times: Times = simulation.times()
        self.calls: dict[Call, int] = {}
        self.loads: dict[Call, tuple[float, ...]] = {}
        self.templates: dict[int, _Spans] = {}
        self.columns: list[tuple[Ints, Ints, Array, Array, Ints, Ints]] = []
        self.passes: list[int] = []  # number of the first span of every step
        self.count = 0

    def timeline(self) -> Timeline:
        simulation = self.simulation
        for at in range(len(simulation.runs)):
            self._step(at)
        flows = self._sends()
        ended = max(float(end.max()) for _, _, _, end, _, _ in self.columns if len(end))
        self._after(max(ended, simulation.step().reduced_s))
        rank, call, start, end, micro_batch, chunk = (
            np.concatenate(column) for column in zip(*self.columns, strict=True)
        )
        calls = tuple(self.calls)
        start, end = _in_turn(calls, rank, call, start, end)
        batch = simulation.prepared.batch
        apart = int(strides(batch).pp[0])
        return Timeline(
            calls=calls,
            ranks=tuple(place * apart for place in range(len(simulation.pipeline))),
            world_size=int(batch.gpus[0]),
            rank=rank,
            call=call,
            start_s=start,
            end_s=end,
            micro_batch=micro_batch,
            chunk=chunk,
            flows=flows,
            memory=memory(simulation, self.times),
            links=links(self.loads, self._classes(), calls, (rank, call, start, end)),
            step_s=max(float(end.max()), simulation.step().step_s),
            groups=self._groups(),
        )

    # --------------------------------------------------------------------------------------- passes

    def _step(self, at: int) -> None:
        """Add the spans of one step of the schedule."""
        simulation = self.simulation
        rank, offset = simulation.ranks[at], float(self.times.start[at])
        self.passes.append(self.count)
        actions = simulation.compiled.runs[at]
        for action, run in zip(actions, simulation.runs[at], strict=True):
            stages = len(simulation.stages)
            chunk = action.stage * simulation.way.chunks // stages
            spans = self._template(run)
            self._add(rank, spans, offset, action.micro_batch, chunk)
            self._early(rank, run, offset, chunk)
            offset += run.seconds

    def _template(self, run: PassRun) -> _Spans:
        if id(run) not in self.templates:
            self.templates[id(run)] = _Spans.of(self._played(run))
        return self.templates[id(run)]

    def _played(self, run: PassRun) -> Iterable[tuple[int, float, float]]:
        """Yield call, start and end of all that a pass played, what went on over layers as one."""
        open_span: tuple[int, float, float] | None = None
        for offset, part in run.runs:
            rows = zip(part.program.tasks, part.played.start_s, part.played.end_s, strict=True)
            for task, start, end in rows:
                if end <= start or task.call.stream is Stream.SEND:
                    continue
                self._note(task)
                span = (self._number(task.call), offset + float(start), offset + float(end))
                if task.call.stream is not Stream.DP:
                    yield span
                elif open_span and open_span[0] == span[0] and span[1] <= open_span[2]:
                    open_span = (span[0], open_span[1], span[2])
                else:
                    if open_span:
                        yield open_span
                    open_span = span
                if task.call.stream is Stream.DP and not any(
                    task.call == left.call for left in part.left
                ):
                    yield open_span  # type: ignore[misc]
                    open_span = None

    def _early(self, rank: int, run: PassRun, offset: float, chunk: int) -> None:
        """Add what was gathered before a pass began."""
        tasks, lead_s = run.early
        clock, rows = max(offset - lead_s, 0.0), []
        for task in tasks:
            rows.append((self._number(task.call), clock, clock + task.seconds))
            clock += task.seconds
        self._add(rank, _Spans.of(rows), 0.0, -1, chunk)

    def _add(self, rank: int, spans: _Spans, offset: float, micro_batch: int, chunk: int) -> None:
        many = len(spans.call)
        self.columns.append(
            (
                np.full(many, rank),
                spans.call,
                spans.start_s + offset,
                spans.end_s + offset,
                np.full(many, micro_batch),
                np.full(many, chunk),
            )
        )
        self.count += many

    def _note(self, task: Task) -> None:
        """Note the load of a call."""
        if task.load:
            self.loads[task.call] = task.load

    def _classes(self) -> list[str]:
        """Return the names of the classes of links that loads speak of."""
        return class_names(self.simulation.fabric.links((np.ones(1), np.ones(1))))

    def _number(self, call: Call) -> int:
        return self.calls.setdefault(call, len(self.calls))

    # ---------------------------------------------------------------------------- between the ranks

    def _sends(self) -> tuple[tuple[int, int], ...]:
        """Add every send with its receipt, and return the pairs."""
        simulation, flows = self.simulation, []
        if max(each.send.seconds for each in simulation.pipeline) <= 0:
            return ()
        sent = {}
        for at, need, action in self._needed():
            forward = action.kind is Pass.FORWARD
            rank, until = simulation.ranks[need], float(self.times.arrived[need])
            since = until - float(simulation.send_s[need])
            send = simulation.pipeline[rank].send
            if (need, forward) not in sent:
                stream = Stream.SEND if forward else Stream.SEND_BACK
                call = _renamed(send.call, stream, forward=forward)
                sent[need, forward] = self._one(call, rank, since, until, action.micro_batch)
                self._note(replace(send, call=call))
            stream = Stream.RECEIVE if forward else Stream.RECEIVE_BACK
            call = _renamed(send.call, stream, forward=forward)
            here = self._one(call, simulation.ranks[at], since, until, action.micro_batch)
            flows.append((sent[need, forward], here))
        return tuple(flows)

    def _needed(self) -> Iterable[tuple[int, int, Action]]:
        """Yield steps, the steps of other ranks that they wait for, and whose pass it is."""
        compiled = self.simulation.compiled
        for at, (actions, needs) in enumerate(zip(compiled.runs, compiled.needs, strict=True)):
            waiting = (a for a in actions if a.kind is not Pass.FORWARD or a.stage > 0)
            for action, (need, far) in zip(waiting, needs, strict=True):
                if far:
                    forward = action.kind is Pass.FORWARD
                    yield (
                        at,
                        need,
                        next(
                            made
                            for made in compiled.runs[need]
                            if (made.kind is Pass.FORWARD) == forward
                        ),
                    )

    def _one(self, call: Call, rank: int, since: float, until: float, micro_batch: int) -> int:
        number = self.count
        self._add(rank, _Spans.of([(self._number(call), since, until)]), 0.0, micro_batch, -1)
        return number

    def _after(self, reduced_s: float) -> None:
        """Add what every rank does once all passes are done, and all gradients are there."""
        call = Call(name="optimizer", stream=Stream.COMPUTE, phase="optimizer")
        for rank, own in enumerate(self.simulation.pipeline):
            optimizer_s, left = own.gradients.optimizer_s, own.gradients.apart()
            since = reduced_s - sum(task.seconds for task in left)
            for task in left:
                self._one(task.call, rank, since, since + task.seconds, -1)
                since += task.seconds
            if optimizer_s > 0:
                self._one(call, rank, reduced_s, reduced_s + optimizer_s, -1)

    def _groups(self) -> dict[tuple[int, int], list[int]]:
        """Return the ranks of every group that a recorded rank is in."""
        batch = self.simulation.prepared.batch
        apart = strides(batch)
        found = {}
        for number, call in enumerate(self.calls):
            if call.collective is None:
                continue
            for place in range(len(self.simulation.pipeline)):
                first = place * int(apart.pp[0])
                members = _members(call, batch, apart)
                if members:
                    found[place, number] = sorted(first + offset for offset in members)
        return found


def _members(call: Call, batch: Any, apart: Any) -> list[int]:  # noqa: ANN401
    """Return the ranks of a call's group, counted from the first; empty where it varies."""
    if call.stream is Stream.TP:
        return _run(int(batch.tp[0]), int(apart.tp[0]))
    if call.stream is Stream.CP and call.collective is Collective.ALL_TO_ALL:
        return _run(int(batch.ulysses[0]), int(apart.ulysses[0]))
    if call.stream is Stream.CP and call.name.startswith(INSIDE):
        return _run(int(batch.inner_ring[0]), int(apart.inner_ring[0]))
    if call.stream in (Stream.CP, Stream.CP_OUTER):
        return _run(int(batch.ring[0] // batch.inner_ring[0]), int(apart.ring[0]))
    if call.stream in (Stream.EP, Stream.EP_INSIDE):
        return _expert_members(call, batch)
    if call.stream is Stream.DP:
        inner = int(batch.dp[0] // batch.dp_replicate[0])
        across = call.name.endswith("replicas")
        if across:
            return _run(int(batch.dp_replicate[0]), int(apart.dp[0]) * inner)
        outer = _run(inner, int(apart.dp[0]))
        return [a + b for a in outer for b in _run(int(batch.cp[0]), int(apart.cp[0]))]
    return []


def _expert_members(call: Call, batch: Any) -> list[int]:  # noqa: ANN401
    """Return the ranks of a group of experts, which its size and stream tell apart."""
    spread, cut = int(batch.ep[0]), int(batch.etp[0])
    apart = int(expert_stride(batch, "ep")[0])
    if call.collective is not Collective.ALL_TO_ALL:
        return _run(cut, 1)
    across = call.stream is Stream.EP and call.group < spread
    return _run(call.group, apart * (spread // call.group) if across else apart)


def _run(size: int, stride: int) -> list[int]:
    return [place * stride for place in range(size)]


def _renamed(call: Call, stream: Stream, *, forward: bool) -> Call:
    what = "activations" if forward else "gradients"
    verb = "send" if stream in SENDING else "receive"
    return Call(
        name=f"{verb} {what}",
        stream=stream,
        collective=call.collective,
        nbytes=call.nbytes,
        group=call.group,
        phase="forward" if forward else "backward",
    )


#: Spans that overlap by less than this share of their time do so by rounding.
ROUNDING = 1e-9
#: Streams on which one thing may be due before another is done: it then waits its turn.
_QUEUED = (Stream.DP, *SENDING, *RECEIVING)


def _in_turn(
    calls: tuple[Call, ...], rank: Ints, call: Ints, start: Array, end: Array
) -> tuple[Array, Array]:
    """Return the times with spans of a queue one after the other, and no rounding between any."""
    streams = np.array([each.stream for each in calls])[call]
    start, end = start.copy(), end.copy()
    for lane in np.unique(rank * len(Stream) + streams):
        mine = np.flatnonzero(rank * len(Stream) + streams == lane)
        mine = mine[np.argsort(start[mine], kind="stable")]
        if Stream(lane % len(Stream)) in _QUEUED:
            lengths = end[mine] - start[mine]
            # Each starts when due or when all before it are done: a running maximum of slack.
            done = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
            start[mine] = np.maximum.accumulate(start[mine] - done) + done
            end[mine] = start[mine] + lengths
        following = start[mine[1:]]
        rounded = end[mine[:-1]] - following <= ROUNDING * following
        end[mine[:-1]] = np.where(rounded, np.minimum(end[mine[:-1]], following), end[mine[:-1]])
    return start, end
