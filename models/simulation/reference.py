"""Both engines of the event clock once more, as SimPy processes: slower, and plain to read.

:mod:`models.simulation.streams` and :mod:`models.simulation.static_order` walk programs and orders
by hand. Here every stream and every rank is a process that waits for events, so that a queue of
events decides what happens next (simpy.readthedocs.io). Their times must be the same. What no
static order can say, such as ranks that choose what to run next, is played here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from models.simulation.pipeline_order import Action, Pass
from models.simulation.static_order import ScheduleError, Times, deadlock
from models.simulation.streams import Played, Player

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from models.simulation.pipeline_order import Order
    from models.simulation.program import Program
    from models.simulation.static_order import Compiled
    from models.simulation.timeline import Stream

    Array = NDArray[np.floating[Any]]
    Steps = Generator[simpy.Event, Any, None]


def play(program: Program, *, contention: bool) -> Played:
    """Return when every task of a program runs, as :meth:`Player.play` does.

    Parameters
    ----------
    program
        Tasks, each on its stream.
    contention
        Whether communication that shares links slows down.

    Raises
    ------
    RuntimeError
        If tasks wait for each other.
    """
    return _Streams(program, Player(contention=contention)).played()


def times(
    compiled: Compiled, seconds: Array, hop_s: Array | float = 0.0, *, waits: bool = False
) -> Times:
    """Return when every step of an order happens, as :meth:`Compiled.times` does.

    Parameters
    ----------
    compiled
        The order.
    seconds
        Shape ``[steps]``: how long each keeps its rank.
    hop_s
        What passing on to another rank takes; a number, or one for every step.
    waits
        Whether a rank goes on only when what it sends has arrived.

    Raises
    ------
    ScheduleError
        If steps wait for each other.
    """
    return _Ranks(compiled, seconds, hop_s, waits=waits).times()


def greedy(
    limits: Sequence[int],
    micro_batches: int,
    seconds: Callable[[int, Action], float],
    hop_s: float = 0.0,
) -> Order:
    """Return what ranks run if each takes what is ready: a backward pass before a forward one.

    Parameters
    ----------
    limits
        For every pipeline rank, of one stage each: micro-batches that it may hold at a time.
    micro_batches
        Of one step.
    seconds
        How long a pass takes on a rank.
    hop_s
        What passing on to another rank takes; it goes on meanwhile.

    Examples
    --------
    >>> order = greedy([2, 1], 2, lambda rank, action: 1.0)
    >>> [action.kind.value for action in order[0]]
    ['F', 'F', 'B', 'B']
    """
    return _Greedy(limits, micro_batches, seconds, hop_s).order()


class _Streams:
    """One process for each stream of a program."""

    def __init__(self, program: Program, player: Player) -> None:
        self.program, self.player, self.env = program, player, simpy.Environment()
        self.kinds = [player.kind(task) for task in program.tasks]
        many = len(program.tasks)
        self.start, self.end = np.zeros(many), np.zeros(many)
        self.done = [self.env.event() for _ in program.tasks]
        self.running: list[int] = []
        self.changed = self.env.event()  # happens when a task starts or ends

    def played(self) -> Played:
        queues: dict[Stream, list[int]] = {}
        for number, task in enumerate(self.program.tasks):
            queues.setdefault(task.call.stream, []).append(number)
        for queue in queues.values():
            self.env.process(self._stream(queue))
        self.env.run()
        stuck = [number for number, done in enumerate(self.done) if not done.triggered]
        if stuck:
            name = self.program.tasks[stuck[0]].call.name
            raise RuntimeError(f"tasks wait for each other: {name} never ends")
        return Played(self.start, self.end, np.zeros(len(self.done)))

    def _stream(self, queue: list[int]) -> Steps:
        for number in queue:
            for needed in self.program.after[number]:
                yield self.done[needed]
            self.start[number] = self.env.now
            self.running.append(number)
            self._change()
            yield from self._work(number)
            self.end[number] = self.env.now
            self.running.remove(number)
            self._change()
            self.done[number].succeed()

    def _work(self, number: int) -> Steps:
        """Work at one rate until the task is done or another starts or ends, and so on."""
        rest = self.program.tasks[number].seconds
        while rest > 0.0:
            began, rate, changed = self.env.now, self._rate(number), self.changed
            if rate > 0.0:
                finished = self.env.timeout(rest / rate)
                yield finished | changed
                if finished.processed:
                    return
            else:
                yield changed
            rest -= rate * (self.env.now - began)

    def _rate(self, number: int) -> float:
        rates = self.player.rates(tuple(self.kinds[one] for one in self.running))
        return rates[self.running.index(number)]

    def _change(self) -> None:
        """Have all that run look at their rates again."""
        self.changed.succeed()
        self.changed = self.env.event()


class _Ranks:
    """Two processes for each rank: its passes, and what it sends."""

    def __init__(
        self, compiled: Compiled, seconds: Array, hop_s: Array | float, *, waits: bool
    ) -> None:
        self.compiled, self.waits, self.env = compiled, waits, simpy.Environment()
        self.seconds = seconds.tolist()
        self.hops = np.where(compiled.leaving, hop_s, 0.0).tolist()
        many = len(self.seconds)
        self.start, self.end, self.at = [0.0] * many, [0.0] * many, [0.0] * many
        env = self.env
        self.made, self.arrived = ([simpy.Event(env) for _ in range(many)] for _ in range(2))

    def times(self) -> Times:
        for rank in np.unique(self.compiled.rank):
            steps = np.flatnonzero(self.compiled.rank == rank).tolist()
            self.env.process(self._passes(steps))
            self.env.process(self._sends(steps))
        self.env.run()
        stuck = [step for step, made in enumerate(self.made) if not made.triggered]
        if stuck:
            rank, first = self.compiled.rank[stuck[0]], self.compiled.runs[stuck[0]][0]
            raise ScheduleError(deadlock(int(rank), first))
        return Times(np.array(self.start), np.array(self.end), np.array(self.at))

    def _passes(self, steps: list[int]) -> Steps:
        env, made, arrived, waits = self.env, self.made, self.arrived, self.waits
        needs, seconds, start, end = self.compiled.needs, self.seconds, self.start, self.end
        for step in steps:
            for need, far in needs[step]:
                ready = arrived[need] if far else made[need]
                if ready.callbacks is not None:  # SimPy takes them away once it has happened
                    yield ready
            start[step] = env.now
            yield env.timeout(seconds[step])
            made[step].succeed()
            if waits:
                yield arrived[step]
            end[step] = env.now

    def _sends(self, steps: list[int]) -> Steps:
        """Send one thing after the other; what no other rank needs takes no time."""
        env, made, arrived, hops, at = self.env, self.made, self.arrived, self.hops, self.at
        for step in steps:
            yield made[step]
            yield env.timeout(hops[step])
            at[step] = env.now
            arrived[step].succeed()


class _Greedy:
    """One process for each rank, which sleeps while nothing is ready."""

    def __init__(
        self,
        limits: Sequence[int],
        micro_batches: int,
        seconds: Callable[[int, Action], float],
        hop_s: float,
    ) -> None:
        self.limits, self.micro_batches, self.seconds = limits, micro_batches, seconds
        self.hop_s, self.env = hop_s, simpy.Environment()
        self.last = len(limits) - 1
        self.ran: list[list[Action]] = [[] for _ in limits]
        self.forward: list[list[Action]] = [[] for _ in limits]
        self.backward: list[list[Action]] = [[] for _ in limits]
        self.woken = [self.env.event() for _ in limits]

    def order(self) -> Order:
        self.forward[0] = [Action(Pass.FORWARD, 0, each) for each in range(self.micro_batches)]
        for rank in range(len(self.limits)):
            self.env.process(self._rank(rank))
        self.env.run()
        return list(self.ran)

    def _rank(self, rank: int) -> Steps:
        held = 0
        while len(self.ran[rank]) < 2 * self.micro_batches:
            if self.backward[rank]:
                action, held = self.backward[rank].pop(0), held - 1
            elif self.forward[rank] and held < self.limits[rank]:
                action, held = self.forward[rank].pop(0), held + 1
            else:
                self.woken[rank] = self.env.event()
                yield self.woken[rank]
                continue
            yield self.env.timeout(self.seconds(rank, action))
            self.ran[rank].append(action)
            self.env.process(self._pass_on(rank, action))

    def _pass_on(self, rank: int, action: Action) -> Steps:
        """Bring a micro-batch to where it goes next: on, round at the last rank, and back."""
        turns = rank == self.last and action.kind is Pass.FORWARD
        to = rank if turns else rank + (1 if action.kind is Pass.FORWARD else -1)
        if to < 0:
            return
        yield self.env.timeout(0.0 if turns else self.hop_s)
        kind = Pass.BACKWARD if turns else action.kind
        ready = self.forward if kind is Pass.FORWARD else self.backward
        ready[to].append(Action(kind, to, action.micro_batch))
        if not self.woken[to].triggered:
            self.woken[to].succeed()
