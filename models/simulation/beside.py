"""A run of layers beside what the rank does on its own account: gradients, parameters, sends.

Layers are alike, and so is what runs beside each of them once a pass has got going. Every distinct
pair of a layer's program and the tasks beside it is played once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.simulation.program import Program, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.simulation.streams import Played, Player

#: A backlog of more than this many times what a program takes alone is played as this much.
LONG = 16.0
#: Digits in which two backlogs are the same.
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Run:
    """One program with tasks beside it, from its start until its own tasks are done.

    Parameters
    ----------
    seconds
        Until then.
    program, played
        What ran, the tasks beside it last; and when.
    left
        What of the tasks beside it is left then.
    """

    seconds: float
    program: Program
    played: Played
    left: tuple[Task, ...]


class Beside:
    """Plays programs with tasks beside them."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self._runs: dict[tuple[object, ...], Run] = {}

    def run(self, program: Program, queue: Sequence[Task]) -> Run:
        """Return a program's run beside some tasks, each stream's in order.

        Parameters
        ----------
        program
            Identified by itself: ask with the same object for the same work.
        queue
            Tasks that may start at once, on streams that the program does not use.
        """
        tasks = [task for task in queue if task.seconds > 0]
        short, cut = self._shortened(program, tasks)
        key = (id(program), *((task.call, round(task.seconds, DIGITS)) for task in short))
        if key not in self._runs:
            self._runs[key] = self._played(program, short)
        found = self._runs[key]
        if not cut:
            return found
        last = replace(tasks[-1], seconds=cut + sum(task.seconds for task in found.left))
        return replace(found, left=(last,))

    def once(self, program: Program) -> Run:
        """Return the run of a program that will not be asked for again."""
        return self._played(program, [])

    def _shortened(self, program: Program, tasks: list[Task]) -> tuple[list[Task], float]:
        """Return the tasks, a long backlog of one kind cut short, and what was cut off."""
        backlog = sum(task.seconds for task in tasks)
        if len({task.call for task in tasks}) != 1 or not program.tasks:
            return tasks, 0.0
        limit = LONG * self.run(program, ()).seconds
        if backlog <= limit:
            return tasks, 0.0
        return [replace(tasks[-1], seconds=limit)], backlog - limit

    def _played(self, program: Program, queue: list[Task]) -> Run:
        whole = Program(list(program.tasks), list(program.after), program.front)
        numbers = tuple(whole.issue(task, ()) for task in queue)
        played = self.player.play(whole, until=program.front)
        left_s = [float(played.left_s[number]) for number in numbers]
        left = (replace(task, seconds=rest) for task, rest in zip(queue, left_s, strict=True))
        rest = tuple(task for task in left if task.seconds > 0)
        return Run(played.end_of(program.front), whole, played, rest)
