"""When everything happens if every rank runs its passes in a given order: the longest path.

A pass starts once the rank's last one is done and what it needs has arrived. No queue of events is
needed: passes are walked in an order that respects both, found once per schedule, and times may be
arrays (samples of a jittered step).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.simulation.pipeline_order import Action, Pass
from topologies.errors import MeshwrightError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.simulation.pipeline_order import Order, Pair, Way

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]


class ScheduleError(MeshwrightError):
    """An order that never ends: some pass waits for one that comes after it, or for none."""


class Times(NamedTuple):
    """When the steps of an order happen, each in the shape of their seconds."""

    start: Array
    end: Array
    arrived: Array


@dataclass(frozen=True, kw_only=True)
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
            return self._numbers(seconds, hops, waits=waits)
        rows = self._columns(list(seconds), list(hops), waits=waits)
        return Times(*(np.array(row) for row in rows))

    @cached_property
    def _first_needs(self) -> tuple[list[int], list[bool], list[tuple[tuple[int, bool], ...]]]:
        """The first step that each waits for, if it is another rank's, and what else."""
        firsts = [needs[0] if needs else (-1, False) for needs in self.needs]
        more = [needs[1:] for needs in self.needs]
        return [step for step, _ in firsts], [far for _, far in firsts], more

    def _numbers(self, seconds: Array, hops: Array, *, waits: bool) -> Times:
        many = len(seconds)
        start: list[float] = []
        # One more than there are steps, the last of them: what first steps follow.
        end, arrived = [0.0] * (many + 1), [0.0] * (many + 1)
        columns = seconds.tolist(), hops.tolist()
        steps = zip(range(many), self.before, *self._first_needs, *columns, strict=True)
        for step, before, need, far, more, taken, hop_s in steps:
            begin = end[before]
            ready = arrived[need] if far else end[need]
            if ready > begin:
                begin = ready
            if more:
                begin = max(begin, *(arrived[at] if away else end[at] for at, away in more))
            start.append(begin)
            done = begin + taken
            sent = arrived[before]
            if done > sent:  # calling the built-in max takes twice as long
                sent = done
            sent += hop_s
            arrived[step] = sent
            end[step] = sent if waits else done
        began, sent_at = np.fromiter(start, float, many), np.fromiter(arrived, float, many)
        return Times(began, sent_at if waits else began + seconds, sent_at)

    def _columns(
        self, seconds: list[Array], hops: list[Array], *, waits: bool
    ) -> tuple[list[Array], list[Array], list[Array]]:
        nothing = np.zeros_like(seconds[0])
        start: list[Array] = []
        end: list[Array] = []
        arrived: list[Array] = []
        for before, needs, taken, hop_s in zip(self.before, self.needs, seconds, hops, strict=True):
            begin, sent = (end[before], arrived[before]) if before >= 0 else (nothing, nothing)
            for need, far in needs:
                begin = np.maximum(begin, arrived[need] if far else end[need])
            done = begin + taken
            sent = np.maximum(done, sent) + hop_s
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
                raise self._stuck([(rank, self.order[rank][places[rank]]) for rank in waiting])
        return Compiled(
            rank=np.array(self.rank, dtype=np.int64),
            runs=tuple(self.runs),
            before=tuple(self.before),
            needs=tuple(self.needs),
            leaving=self._leaving(),
        )

    def _stuck(self, steps: Sequence[tuple[int, Action | Pair]]) -> ScheduleError:
        """Return why ranks cannot run their next steps: what is missing, or who waits for whom."""
        run = {one for own in self.order for step in own for one in _passes(step)}
        waiting = [
            (rank, action, wanted)
            for rank, step in steps
            for action in _passes(step)
            if (wanted := self._wanted(action)) and self.done.keys().isdisjoint(wanted)
        ]
        missing = [
            f"rank {rank} waits to run {named(action)} for {named(wanted[0])}, which no rank runs: "
            "add it to the order"
            for rank, action, wanted in waiting
            if run.isdisjoint(wanted)
        ]
        return ScheduleError("\n".join(missing) or deadlock(*waiting[0][:2]))

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


def named(action: Action) -> str:
    """Return what a pass is called in messages.

    >>> named(Action(Pass.BACKWARD, 1, 0))
    'B of micro-batch 0 on stage 1'
    """
    return f"{action.kind} of micro-batch {action.micro_batch} on stage {action.stage}"


def deadlock(rank: int, action: Action) -> str:
    """Return what is wrong where a rank waits for ever.

    >>> deadlock(1, Action(Pass.BACKWARD, 1, 0))
    'deadlock: rank 1 waits to run B of micro-batch 0 on stage 1, and others for it: reorder them'
    """
    return f"deadlock: rank {rank} waits to run {named(action)}, and others for it: reorder them"


def _passes(step: Action | Pair) -> tuple[Action, ...]:
    return (step,) if isinstance(step, Action) else (step.forward, step.backward)
