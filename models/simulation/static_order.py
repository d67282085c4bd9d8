"""When everything happens if every rank runs its passes in a given order: the longest path.

A pass starts once the rank's last one is done and what it needs has arrived. No queue of events is
needed: passes are walked in an order that respects both, found once per schedule, and times may be
arrays (samples of a jittered step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.simulation.pipeline_order import Action, Pass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from models.simulation.pipeline_order import Order, Pair, Way

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]


class ScheduleError(Exception):
    """An order that never ends: some pass waits for one that comes after it."""


class Times(NamedTuple):
    """When the steps of an order happen, each in the shape of their seconds."""

    start: Array
    end: Array
    arrived: Array


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
    leaving
        Whether it makes what another rank needs.
    """

    rank: Ints
    runs: tuple[tuple[Action, ...], ...]
    before: tuple[int, ...]
    needs: tuple[tuple[tuple[int, bool], ...], ...]
    leaving: NDArray[np.bool_]

    @classmethod
    def of(cls, order: Order, way: Way) -> Compiled:
        """Compile an order.

        Raises
        ------
        ScheduleError
            If it deadlocks, or a pass needs one that nobody runs.
        """
        return _Compiler(order, way).compiled()

    def times(self, seconds: Array, hop_s: Array | float = 0.0, *, waits: bool = False) -> Times:
        """Return when every step starts, ends, and has arrived where it is needed.

        Parameters
        ----------
        seconds
            Shape ``[steps]`` or ``[steps, samples]``.
        hop_s
            What passing on to another rank takes; a number, or for every step as `seconds`.
        waits
            Whether a rank goes on only when what it sends has arrived. Otherwise it sends beside
            its next passes, one thing after the other.

        Returns
        -------
        Times
            Of all steps; `end` is when the rank may go on.
        """
        leaving = self.leaving.reshape(-1, *[1] * (seconds.ndim - 1))
        hops = np.where(np.broadcast_to(leaving, seconds.shape), hop_s, 0.0)
        if seconds.ndim == 1:  # plain numbers are faster than arrays of one
            rows = self._walk(seconds.tolist(), hops.tolist(), _later, waits=waits)
        else:
            rows = self._walk(list(seconds), list(hops), np.maximum, waits=waits)
        return Times(*(np.array(row) for row in rows))

    def _walk(
        self, seconds: list[Any], hops: list[Any], later: Callable[..., Any], *, waits: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        start: list[Any] = []
        end: list[Any] = []
        arrived: list[Any] = []
        steps = zip(self.before, self.needs, seconds, hops, strict=True)
        for before, needs, taken, hop_s in steps:
            if before >= 0:
                begin, sent = end[before], arrived[before]
            else:
                begin = sent = 0.0 * taken
            for need, far in needs:
                begin = later(begin, arrived[need] if far else end[need])
            done = begin + taken
            sent = later(done, sent) + hop_s
            start.append(begin)
            arrived.append(sent)
            end.append(sent if waits else done)
        return start, end, arrived


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
                step = self.order[waiting[0]][places[waiting[0]]]
                raise ScheduleError(deadlock(waiting[0], _passes(step)[0]))
        return Compiled(
            rank=np.array(self.rank, dtype=np.int64),
            runs=tuple(self.runs),
            before=tuple(self.before),
            needs=tuple(self.needs),
            leaving=self._leaving(),
        )

    def _leaving(self) -> NDArray[np.bool_]:
        leaving = np.zeros(len(self.runs), dtype=np.bool_)
        leaving[[need for needs in self.needs for need, far in needs if far]] = True
        return leaving

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


def deadlock(rank: int, action: Action) -> str:
    """Return what is wrong where a rank waits for ever.

    >>> deadlock(1, Action(Pass.BACKWARD, 1, 0))
    'deadlock: rank 1 waits to run B of micro-batch 0 on stage 1'
    """
    return (
        f"deadlock: rank {rank} waits to run {action.kind} of micro-batch {action.micro_batch} "
        f"on stage {action.stage}"
    )


def _passes(step: Action | Pair) -> tuple[Action, ...]:
    return (step,) if isinstance(step, Action) else (step.forward, step.backward)


def _later(one: float, other: float) -> float:
    """Return the later of two times; calling the built-in ``max`` takes twice as long."""
    return one if one > other else other  # noqa: FURB136
