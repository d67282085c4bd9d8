"""Playing a program: streams side by side, sharing links and stealing from compute.

Every task proceeds at a rate: communication at its max-min fair share of the links that others use
at the same moment (:func:`topologies.contention.shares` finds the same), compute at what
communication beside it leaves. Rates change only when a task starts or ends; between two such
moments the rest of each task shrinks evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from models.simulation.timeline import Stream
from topologies.max_min import max_min_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.simulation.program import Program, Task

    Array = NDArray[np.floating[Any]]

#: Tasks with less of them left than this share are done.
DONE = 1e-12

#: What decides how tasks slow each other: whether it computes, what it steals, its load on links.
Kind = tuple[bool, float, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Played:
    """When every task of a program ran.

    Parameters
    ----------
    start_s, end_s
        Shape ``[tasks]``, from the start of the program; when it stopped where one is later.
    left_s
        What of every task was left then, as seconds that it takes alone.
    """

    start_s: Array
    end_s: Array
    left_s: Array

    def end_of(self, numbers: tuple[int, ...]) -> float:
        """Return when the last of some tasks ends; 0 for none."""
        return max((float(self.end_s[number]) for number in numbers), default=0.0)


class Player:
    """Plays programs.

    Parameters
    ----------
    contention
        Whether communication that shares links slows down; otherwise each goes its own speed.
    """

    def __init__(self, *, contention: bool) -> None:
        self.contention = contention
        self.kinds: dict[Kind, int] = {}
        self._rates: dict[tuple[int, ...], list[float]] = {}

    def play(self, program: Program, until: Sequence[int] | None = None) -> Played:
        """Return when every task runs.

        Parameters
        ----------
        program
            The tasks.
        until
            Those that must be done before it stops; None for all.

        Raises
        ------
        RuntimeError
            If tasks wait for each other: a bug of what made the program.
        """
        wanted = range(len(program.tasks)) if until is None else until
        return _Run(self, program).played(set(wanted))

    def kind(self, task: Task) -> int:
        """Return the number of all tasks that slow each other like this one."""
        kind = (task.call.stream is Stream.COMPUTE, task.steal, task.load)
        return self.kinds.setdefault(kind, len(self.kinds))

    def rates(self, kinds: tuple[int, ...]) -> list[float]:
        """Return the rate of each of several tasks that run at the same time, 1 alone."""
        if kinds not in self._rates:
            known = list(self.kinds)
            self._rates[kinds] = self._shared([known[kind] for kind in kinds])
        return self._rates[kinds]

    def _shared(self, kinds: list[Kind]) -> list[float]:
        """Return rates, found once for every set of kinds."""
        sharing = [at for at, (_, _, load) in enumerate(kinds) if load]
        rates = [1.0] * len(kinds)
        if self.contention and len(sharing) > 1:
            load = np.array([kinds[at][2] for at in sharing])
            found = max_min_rates(load, np.ones(load.shape[1]), np.ones(len(sharing)))
            for at, rate in zip(sharing, found, strict=True):
                rates[at] = float(rate)
        left = max(1.0 - sum(steal for _, steal, _ in kinds), 0.0)
        return [
            left if computes else rate for (computes, _, _), rate in zip(kinds, rates, strict=True)
        ]


class _Run:
    """One program while it is played."""

    def __init__(self, player: Player, program: Program) -> None:
        self.player, self.tasks = player, program.tasks
        self.kinds = [player.kind(task) for task in program.tasks]
        many = len(program.tasks)
        self.start, self.end = np.full(many, inf), np.full(many, inf)
        self.left = [0] * many  # tasks that each still waits for
        self.waiting: list[list[int]] = [[] for _ in range(many)]  # who waits for each
        for number, after in enumerate(program.after):
            self.left[number] = len(set(after))
            for needed in set(after):
                self.waiting[needed].append(number)
        self.queues: dict[Stream, list[int]] = {}
        for number, task in enumerate(program.tasks):
            self.queues.setdefault(task.call.stream, []).append(number)
        self.next = dict.fromkeys(self.queues, 0)
        self.running: dict[Stream, int] = {}
        self.rest = {number: task.seconds for number, task in enumerate(program.tasks)}

    def played(self, wanted: set[int]) -> Played:
        clock = 0.0
        while wanted:
            self._start(clock)
            numbers = list(self.running.values())
            rates = self.player.rates(tuple(self.kinds[number] for number in numbers))
            step = min(map(self._takes_s, numbers, rates), default=inf)
            if step == inf:
                raise RuntimeError("tasks wait for each other")
            clock += step
            for number, rate in zip(numbers, rates, strict=True):
                self.rest[number] -= step * rate
                if self.rest[number] <= DONE * self.tasks[number].seconds:
                    self._finish(number, clock)
                    wanted.discard(number)
        left = np.array([self.rest.get(number, 0.0) for number in range(len(self.tasks))])
        return Played(np.minimum(self.start, clock), np.minimum(self.end, clock), left)

    def _start(self, clock: float) -> None:
        """Start on every free stream the next task, if it waits for nothing."""
        for stream, queue in self.queues.items():
            at = self.next[stream]
            if stream in self.running or at == len(queue) or self.left[queue[at]]:
                continue
            number = queue[at]
            self.next[stream] += 1
            self.running[stream] = number
            self.start[number] = clock

    def _takes_s(self, number: int, rate: float) -> float:
        """Return how long a task still takes at a rate: none at all if nothing of it is left."""
        if self.rest[number] <= 0.0:
            return 0.0
        return self.rest[number] / rate if rate > 0.0 else inf

    def _finish(self, number: int, clock: float) -> None:
        self.end[number] = clock
        del self.running[self.tasks[number].call.stream], self.rest[number]
        for waiting in self.waiting[number]:
            self.left[waiting] -= 1
