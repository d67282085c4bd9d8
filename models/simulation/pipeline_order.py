"""The order in which every pipeline rank runs its passes: one function for each schedule.

An order is a list of :class:`Action` per rank. Stages are places along the way of a micro-batch
through the model; which rank holds which stage is the schedule's :class:`Way`. Backward passes are
whole (``B``), or cut into the gradient of the input (``I``) and of the weights (``W``), which may
wait (Qi et al., arXiv:2401.10241).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pass(StrEnum):
    """One pass of a micro-batch through one stage."""

    FORWARD = "F"
    BACKWARD = "B"
    INPUT_GRADIENT = "I"
    WEIGHT_GRADIENT = "W"


class Action(NamedTuple):
    """What a rank does next.

    Parameters
    ----------
    kind
        The pass.
    stage
        Place along the way of the micro-batch, from 0.
    micro_batch
        Which one.
    """

    kind: Pass
    stage: int
    micro_batch: int


@dataclass(frozen=True, slots=True)
class Way:
    """Which rank holds each stage that a micro-batch passes.

    Parameters
    ----------
    ranks
        Rank of each stage, in order.
    chunks
        Stages that a rank holds.
    turned
        From this micro-batch on they go the other way; None for none.
    """

    ranks: tuple[int, ...]
    chunks: int
    turned: int | None = None

    def rank(self, action: Action) -> int:
        """Return who runs a pass."""
        turned = self.turned is not None and action.micro_batch >= self.turned
        return self.ranks[-1 - action.stage if turned else action.stage]

    @classmethod
    def loop(cls, pp: int, chunks: int) -> Way:
        """Return the way that goes through all ranks once for every chunk.

        >>> Way.loop(2, 2).ranks
        (0, 1, 0, 1)
        """
        return cls(tuple(range(pp)) * chunks, chunks)

    @classmethod
    def both_ways(cls, pp: int, micro_batches: int) -> Way:
        """Return the way of half of the micro-batches; the other half goes against it."""
        return cls(tuple(range(pp)), 1, turned=micro_batches // 2)

    @classmethod
    def vee(cls, pp: int) -> Way:
        """Return the way to the last rank and back.

        >>> Way.vee(3).ranks
        (0, 1, 2, 2, 1, 0)
        """
        return cls((*range(pp), *reversed(range(pp))), 2)


class Pair(NamedTuple):
    """A forward and a backward pass that a rank runs as one, sharing its kernels' time.

    Parameters
    ----------
    forward, backward
        Neither starts before both can, and both are done together.
    """

    forward: Action
    backward: Action


#: For each rank what it runs, in order.
Order = list["Sequence[Action | Pair]"]


def gpipe(pp: int, micro_batches: int) -> Order:
    """Return all forward passes, then all backward ones (Huang et al., arXiv:1811.06965)."""
    return looped_bfs(pp, micro_batches, 1)


def looped_bfs(pp: int, micro_batches: int, chunks: int) -> Order:
    """Return all micro-batches through a chunk, then the next (Lamy-Poirier, arXiv:2211.05953)."""
    order: Order = []
    for rank in range(pp):
        stages = [chunk * pp + rank for chunk in range(chunks)]
        ahead = [Action(Pass.FORWARD, s, m) for s in stages for m in range(micro_batches)]
        back = [Action(Pass.BACKWARD, s, m) for s in reversed(stages) for m in range(micro_batches)]
        order.append(ahead + back)
    return order


def one_f_one_b(pp: int, micro_batches: int) -> Order:
    """Return as few forward passes ahead as possible (Narayanan et al., arXiv:1806.03377)."""
    return interleaved(pp, micro_batches, 1)


def interleaved(pp: int, micro_batches: int, chunks: int) -> Order:
    """Return interleaved 1F1B; with one chunk, plain 1F1B (Narayanan et al., arXiv:2104.04473).

    A rank runs ``2 (pp - rank - 1) + (chunks - 1) pp`` forward passes ahead (``pp - rank - 1``
    with one chunk), then one forward and one backward pass in turn; micro-batches take turns in
    groups of `pp` (Megatron-LM core/pipeline_parallel/schedules.py).
    """
    total = micro_batches * chunks
    order: Order = []
    for rank in range(pp):
        ahead = pp - rank - 1
        if chunks > 1:
            ahead = 2 * ahead + (chunks - 1) * pp
        ahead = min(ahead, total)
        actions = [_turn(Pass.FORWARD, pp, chunks, rank, turn) for turn in range(ahead)]
        for turn in range(total - ahead):
            actions.append(_turn(Pass.FORWARD, pp, chunks, rank, ahead + turn))
            actions.append(_turn(Pass.BACKWARD, pp, chunks, rank, turn))
        last = range(total - ahead, total)
        actions += [_turn(Pass.BACKWARD, pp, chunks, rank, turn) for turn in last]
        order.append(actions)
    return order


def zero_bubble_h1(pp: int, micro_batches: int, chunks: int = 1) -> Order:
    """Return 1F1B whose weight gradients fill the drain (Qi et al., arXiv:2401.10241, ZB-H1).

    The gradient of the weights waits for as many backward passes as there are ranks before: memory
    stays that of 1F1B.
    """
    total = micro_batches * chunks
    order: Order = []
    for rank in range(pp):
        ahead = min((chunks - 1) * pp + pp - 1 - rank, total)
        actions = [_turn(Pass.FORWARD, pp, chunks, rank, turn) for turn in range(ahead)]
        for turn in range(total):
            if ahead + turn < total:
                actions.append(_turn(Pass.FORWARD, pp, chunks, rank, ahead + turn))
            actions.append(_turn(Pass.INPUT_GRADIENT, pp, chunks, rank, turn))
            if turn >= rank:
                actions.append(_turn(Pass.WEIGHT_GRADIENT, pp, chunks, rank, turn - rank))
        waiting = range(max(total - rank, 0), total)
        actions += [_turn(Pass.WEIGHT_GRADIENT, pp, chunks, rank, turn) for turn in waiting]
        order.append(actions)
    return order


def zero_bubble_h2(pp: int, micro_batches: int) -> Order:
    """Return the schedule without bubbles on any rank (Qi et al., arXiv:2401.10241, ZB-H2).

    Ranks run ``2 (pp - rank) - 1`` forward passes ahead, about twice those of 1F1B; gradients of
    the weights wait for ``pp - 1`` backward passes at least, and fill the drain.
    """
    order: Order = []
    for rank in range(pp):
        ahead = min(2 * (pp - rank) - 1, micro_batches)
        actions = [Action(Pass.FORWARD, rank, turn) for turn in range(ahead)]
        delay = 2 * rank
        for turn in range(micro_batches):
            actions.append(Action(Pass.INPUT_GRADIENT, rank, turn))
            if ahead + turn < micro_batches:
                if turn >= delay:
                    actions.append(Action(Pass.WEIGHT_GRADIENT, rank, turn - delay))
                actions.append(Action(Pass.FORWARD, rank, ahead + turn))
            elif turn >= delay:
                actions.append(Action(Pass.WEIGHT_GRADIENT, rank, turn - delay))
        waiting = range(max(micro_batches - delay, 0), micro_batches)
        actions += [Action(Pass.WEIGHT_GRADIENT, rank, turn) for turn in waiting]
        order.append(actions)
    return order


def _turn(kind: Pass, pp: int, chunks: int, rank: int, turn: int) -> Action:
    """Return the action of a rank's n-th turn: groups of `pp` micro-batches, chunk by chunk."""
    group, place = divmod(turn, pp * chunks)
    chunk, offset = divmod(place, pp)
    if kind is not Pass.FORWARD:
        chunk = chunks - 1 - chunk
    return Action(kind, chunk * pp + rank, group * pp + offset)
