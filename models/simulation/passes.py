"""Passes of one micro-batch through one stage, layer by layer, with what runs beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from models.named_axes import Recompute
from models.simulation.beside import Beside, Run
from models.simulation.operations import Phase
from models.simulation.pipeline_order import Pass
from models.simulation.program import Program
from models.simulation.timeline import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.prepared import Prepared
    from models.simulation.operations import Operations
    from models.simulation.program import Task
    from models.simulation.stages import Stage
    from models.simulation.streams import Player
    from models.simulation.timeline import Call

#: Less than this share of what is gathered is nothing to wait for.
LEAST = 1e-9

#: What a pass runs of every layer.
_PHASES = {
    Pass.FORWARD: Phase.FORWARD,
    Pass.BACKWARD: Phase.BACKWARD,
    Pass.INPUT_GRADIENT: Phase.INPUT_GRADIENT,
    Pass.WEIGHT_GRADIENT: Phase.WEIGHT_GRADIENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """What a rank does beside a pass.

    Parameters
    ----------
    gathers
        Parameters of every bucket, in the order in which layers need them; empty for none.
    reductions
        Gradients of every bucket, in the order in which layers make them; empty for none.
    ahead
        Buckets gathered ahead of the one in use; None for as fast as the links allow.
    waits
        Whether the pass ends only when its gradients are reduced.
    lead_s
        How long before the pass its parameters may be gathered; below 0, how long after its start
        others still are.
    send
        What was made in the pass before, on its way to another rank; None for nothing.
    """

    gathers: tuple[Task, ...] = ()
    reductions: tuple[tuple[Task, ...], ...] = ()
    ahead: int | None = None
    waits: bool = False
    lead_s: float = 0.0
    send: Task | None = None


ALONE = Company()


@dataclass(slots=True)
class PassRun:
    """How one pass runs.

    Parameters
    ----------
    seconds
        Until the next pass may start.
    tail_s, tail_steal
        How long its gradients are still reduced after that, and which share of the compute rate
        that takes of what the rank runs meanwhile.
    send_s
        How long what the pass before made is on its way.
    runs
        Offset and run of everything played.
    early
        What was gathered before the pass began, and how long before it could begin.
    """

    seconds: float = 0.0
    tail_s: float = 0.0
    tail_steal: float = 0.0
    send_s: float = 0.0
    runs: list[tuple[float, Run]] = field(default_factory=list)
    early: tuple[tuple[Task, ...], float] = ((), 0.0)


class Passes:
    """Passes of one layout.

    Parameters
    ----------
    operations
        Tasks of every part.
    prepared
        The layout with its inventory.
    player
        Plays programs.
    attention
        Work of core attention over that of whole sequences.
    """

    def __init__(
        self, operations: Operations, prepared: Prepared, player: Player, attention: float = 1.0
    ) -> None:
        self.operations, self.prepared, self.attention = operations, prepared, attention
        self.beside = Beside(player)
        self._parts: dict[tuple[str, Phase], Program] = {}
        self._buckets: dict[tuple[object, ...], Program] = {}

    def run(self, stage: Stage, kind: Pass, company: Company = ALONE) -> PassRun:
        """Return how a pass runs in some company."""
        return _Pass(self, self.buckets(stage, kind), company).run()

    def buckets(self, stage: Stage, kind: Pass) -> list[Program]:
        """Return what a pass runs, bucket by bucket in its order."""
        layers = range(max(len(stage.kinds), 1))
        order = layers if kind is Pass.FORWARD else reversed(layers)
        return [self._bucket(stage, at, kind) for at in order]

    def _bucket(self, stage: Stage, at: int, kind: Pass) -> Program:
        """Return one layer's part of a pass, with the embedding and the head at the ends."""
        last = at >= len(stage.kinds) - 1
        ends = stage.embedding and at == 0, stage.head and last
        layer = stage.kinds[at] if stage.kinds else None
        repeated = bool(stage.repeated and stage.repeated[at])
        key = (layer, repeated, ends, kind)
        if key not in self._buckets:
            parts = self._layer(layer, kind, repeated=repeated)
            if ends[0]:
                parts.insert(0, self._part("embedding", _PHASES[kind]))
            if ends[1]:
                parts.append(self._part("head", _PHASES[kind]))
            program = Program()
            for part in parts if kind is Pass.FORWARD else _backwards(parts):
                program.append(part)
            self._buckets[key] = program
        return self._buckets[key]

    def _layer(self, layer: int | None, kind: Pass, *, repeated: bool) -> list[Program]:
        """Return a layer's programs, last first where the pass goes backward."""
        if layer is None:
            return []
        found = [self._part(str(layer), _PHASES[kind])]
        if kind in (Pass.BACKWARD, Pass.INPUT_GRADIENT):
            selective = self.prepared.batch.recompute[0] == Recompute.SELECTIVE
            if repeated or selective:
                again = Phase.REPEATED if repeated else Phase.REPEATED_SELECTIVE
                found.append(self._part(str(layer), again))
        return found

    def _part(self, name: str, phase: Phase) -> Program:
        if (name, phase) not in self._parts:
            prepared = self.prepared
            ends = {"embedding": prepared.embedding, "head": prepared.head}
            work = ends[name] if name in ends else prepared.layers[int(name)]
            self._parts[name, phase] = self.operations.program(work, phase, self.attention)
        return self._parts[name, phase]


def _backwards(parts: Sequence[Program]) -> list[Program]:
    return list(reversed(parts))


class _Pass:
    """One pass while it is played."""

    def __init__(self, passes: Passes, buckets: list[Program], company: Company) -> None:
        self.beside, self.buckets, self.company = passes.beside, buckets, company
        self.found = PassRun()
        self.queue: list[Task] = []
        self.gathered = 0  # buckets whose gathering was queued
        self.calls = {task.call for task in company.gathers}
        self.clock = 0.0

    def run(self) -> PassRun:
        company, found = self.company, self.found
        self._gather_to(0)
        self._head_start()
        if company.send is not None:  # made only now: nothing of it has a head start
            self.queue.insert(0, company.send)
        for at, bucket in enumerate(self.buckets):
            self._await(at)
            if company.ahead is not None:
                self._gather_to(at + company.ahead)
            self._play(bucket)
            if company.reductions:
                self.queue += company.reductions[at]
        found.seconds = self.clock
        self._drain()
        found.tail_s = 0.0 if company.waits else self.clock - found.seconds
        if company.waits:
            found.seconds = self.clock
        return found

    def _gather_to(self, bucket: int) -> None:
        """Queue the gathering of all buckets up to one, or of all where nothing limits it."""
        wanted = len(self.company.gathers) if self.company.ahead is None else bucket + 1
        self.queue += self.company.gathers[self.gathered : wanted]
        self.gathered = max(self.gathered, min(wanted, len(self.company.gathers)))

    def _head_start(self) -> None:
        """Take off what was gathered while the rank waited for its first micro-batch.

        Or wait for what is gathered before.
        """
        company = self.company
        if company.lead_s < 0 and company.gathers:
            late = replace(company.gathers[0], seconds=-company.lead_s)
            self.queue.insert(0, late)
        early, self.queue = _split(self.queue, self.calls, company.lead_s)
        self.found.early = tuple(early), company.lead_s

    def _await(self, at: int) -> None:
        """Wait until a bucket's parameters are there."""
        behind = sum(task.seconds for task in self.company.gathers[at + 1 : self.gathered])
        left = sum(task.seconds for task in self.queue if task.call in self.calls)
        if left - behind > LEAST * left:
            waited, self.queue = _split(self.queue, self.calls, left - behind)
            self._wait(waited)

    def _wait(self, tasks: list[Task]) -> None:
        program = Program()
        for task in tasks:
            program.issue(task, ())
        program.front = tuple(range(len(tasks)))
        run = self.beside.once(program)
        self.found.runs.append((self.clock, run))
        self.clock += run.seconds

    def _play(self, bucket: Program) -> None:
        run = self.beside.run(bucket, self.queue)
        self.found.runs.append((self.clock, run))
        self._note_send(run)
        self.clock += run.seconds
        self.queue = list(run.left)

    def _note_send(self, run: Run) -> None:
        """Note when what the pass before made has arrived, if it has in this run."""
        if self.company.send is None:
            return
        sent = [at for at, task in enumerate(run.program.tasks) if task.call.stream is Stream.SEND]
        if sent and not any(task.call.stream is Stream.SEND for task in run.left):
            self.found.send_s = self.clock + run.played.end_of(tuple(sent))

    def _drain(self) -> None:
        """Let what is left run out, the send apart: nothing waits for it here."""
        rest = [task for task in self.queue if task.call.stream is not Stream.SEND]
        if rest:
            left_s = sum(task.seconds for task in rest)
            taken_s = sum(task.seconds * task.steal for task in rest)
            self.found.tail_steal = taken_s / left_s if left_s else 0.0
            self._wait(rest)


def _split(
    queue: Sequence[Task], calls: set[Call], seconds: float
) -> tuple[list[Task], list[Task]]:
    """Return a queue's first part, with so many seconds of certain calls, and the rest."""
    first: list[Task] = []
    rest = list(queue)
    while seconds > 0 and rest:
        task = rest.pop(0)
        counts = task.call in calls
        taken = min(task.seconds, seconds) if counts else task.seconds
        first.append(replace(task, seconds=taken))
        if taken < task.seconds:
            rest.insert(0, replace(task, seconds=task.seconds - taken))
        seconds -= taken if counts else 0.0
    return first, rest
