"""When everything happens if every rank runs its passes in a given order: the longest path.

A pass starts once the rank's last one is done and what it needs has arrived. No queue of events is
needed: passes are walked in an order that respects both, found once per schedule, and times may be
arrays (samples of a jittered step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.simulation.pipeline_order import Action, Pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.simulation.pipeline_order import Order, Pair, Way

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]


class ScheduleError(Exception):
    """An order that never ends: some pass waits for one that comes after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """An order as arrays over steps, in an order in which each comes after what it needs.

    Parameters
    ----------
    rank
        Who runs each step.
    runs
        Its passes: one, or the two of a pair.
    before
        The step that its rank runs before; -1 for the first.
    needs
        The steps that it waits for beside, each with whether that is another rank's.
    """

    rank: Ints
    runs: tuple[tuple[Action, ...], ...]
    before: tuple[int, ...]
    needs: tuple[tuple[tuple[int, bool], ...], ...]

    @classmethod
    def of(cls, order: Order, way: Way) -> Compiled:
        """Compile an order.

        Raises
        ------
        ScheduleError
            If it deadlocks, or a pass needs one that nobody runs.
        """
        return _Compiler(order, way).compiled()

    def times(self, seconds: Array, hop_s: float = 0.0) -> tuple[Array, Array]:
        """Return start and end of every step.

        Parameters
        ----------
        seconds
            Shape ``[steps]`` or ``[steps, samples]``.
        hop_s
            What passing on to another rank takes.
        """
        start, end = np.zeros_like(seconds), np.zeros_like(seconds)
        for at, (before, needs) in enumerate(zip(self.before, self.needs, strict=True)):
            begin: Any = end[before] if before >= 0 else 0.0
            for need, far in needs:
                begin = np.maximum(begin, end[need] + hop_s if far else end[need])
            start[at] = begin
            end[at] = begin + seconds[at]
        return start, end


class _Compiler:
    """Walks an order until nothing is left or nothing can go on."""

    def __init__(self, order: Order, way: Way) -> None:
        self.order, self.way = order, way
        self.done: dict[Action, int] = {}
        self.rank: list[int] = []
        self.runs: list[tuple[Action, ...]] = []
        self.before: list[int] = []
        self.needs: list[tuple[tuple[int, bool], ...]] = []

    def compiled(self) -> Compiled:
        """Return the compiled order."""
        places, last = [0] * len(self.order), [-1] * len(self.order)
        waiting = list(range(len(self.order)))
        while waiting:
            moved = [rank for rank in waiting if self._advance(rank, places, last)]
            waiting = [rank for rank in waiting if places[rank] < len(self.order[rank])]
            if waiting and not moved:
                raise ScheduleError(self._stuck(waiting[0], places[waiting[0]]))
        return Compiled(
            rank=np.array(self.rank, dtype=np.int64),
            runs=tuple(self.runs),
            before=tuple(self.before),
            needs=tuple(self.needs),
        )

    def _advance(self, rank: int, places: list[int], last: list[int]) -> bool:
        """Run what a rank can, and return whether that was anything."""
        first = places[rank]
        steps = self.order[rank]
        while places[rank] < len(steps):
            passes = _passes(steps[places[rank]])
            needs = self._met(passes, rank)
            if needs is None:
                break
            number = len(self.runs)
            self.done.update(dict.fromkeys(passes, number))
            self.rank.append(rank)
            self.runs.append(passes)
            self.before.append(last[rank])
            self.needs.append(needs)
            last[rank] = number
            places[rank] += 1
        return places[rank] > first

    def _met(self, passes: Sequence[Action], rank: int) -> tuple[tuple[int, bool], ...] | None:
        """Return the steps that some passes wait for; None while one is not done."""
        found = []
        for action in passes:
            wanted = self._wanted(action)
            ready = [one for one in wanted if one in self.done]
            if wanted and not ready:
                return None
            found += [(self.done[one], self.way.rank(one) != rank) for one in ready]
        return tuple(found)

    def _wanted(self, action: Action) -> tuple[Action, ...]:
        """Return the passes of which one must be done; empty for none."""
        stage, micro_batch = action.stage, action.micro_batch
        if action.kind is Pass.FORWARD:
            return (Action(Pass.FORWARD, stage - 1, micro_batch),) if stage else ()
        if action.kind is Pass.WEIGHT_GRADIENT:
            return (Action(Pass.INPUT_GRADIENT, stage, micro_batch),)
        if stage == len(self.way.ranks) - 1:
            return (Action(Pass.FORWARD, stage, micro_batch),)
        after = (Pass.BACKWARD, Pass.INPUT_GRADIENT)
        return tuple(Action(kind, stage + 1, micro_batch) for kind in after)

    def _stuck(self, rank: int, place: int) -> str:
        action = _passes(self.order[rank][place])[0]
        return (
            f"deadlock: rank {rank} waits to run {action.kind} of micro-batch {action.micro_batch} "
            f"on stage {action.stage}"
        )


def _passes(step: Action | Pair) -> tuple[Action, ...]:
    return (step,) if isinstance(step, Action) else (step.forward, step.backward)
