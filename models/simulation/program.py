"""What one rank does, as tasks on streams: the smallest thing the event clock plays.

A stream runs its tasks in the order they were issued, each once the tasks it waits for are done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.simulation.timeline import Call


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a stream runs.

    Parameters
    ----------
    call
        What it is, and on which stream.
    seconds
        How long it takes alone.
    steal
        Share of the compute rate that it takes while it runs.
    load
        Share of every class of links that it keeps busy at full speed; empty for none.
    """

    call: Call
    seconds: float
    steal: float = 0.0
    load: tuple[float, ...] = ()


@dataclass(slots=True)
class Program:
    """Tasks with what each waits for, in the order of their issue.

    Parameters
    ----------
    tasks, after
        Tasks, and for each the numbers of those that must be done before it starts.
    front
        What the next task waits for if nothing else is said: all that the last step started.
    """

    tasks: list[Task] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    front: tuple[int, ...] = ()

    def issue(self, task: Task, after: tuple[int, ...]) -> int:
        """Add a task that nothing waits for yet, and return its number."""
        self.tasks.append(task)
        self.after.append(after)
        return len(self.tasks) - 1

    def together(self, tasks: Iterable[Task]) -> None:
        """Start tasks together once the last ones are done; the next wait for all of them."""
        started = tuple(self.issue(task, self.front) for task in tasks)
        if started:
            self.front = started

    def wait_for(self, numbers: tuple[int, ...]) -> None:
        """Have what comes next wait for some tasks too."""
        self.front += numbers

    def append(self, other: Program) -> None:
        """Run another program once this one's last tasks are done."""
        shift = len(self.tasks)
        for task, after in zip(other.tasks, other.after, strict=True):
            self.tasks.append(task)
            self.after.append(tuple(number + shift for number in after) or self.front)
        if other.tasks:
            self.front = tuple(number + shift for number in other.front)
