"""How long ranks of a pipeline wait for each other: closed forms of the longest paths.

A step of a pipeline ends when its longest chain of passes and hops does. For every schedule the
few chains that can be the longest are written here by what they have beyond the passes of one rank;
the longest of them is the bubble. Found by walking orders of :mod:`models.simulation.schedules`
pass by pass, which the tests repeat for other numbers. Without hops they are the published bubbles:
ZB-H1 ``(p - 1) (F + I - W)`` and ZB-H2 ``(p - 1) (F + I - 2 W)`` (Qi et al., arXiv:2401.10241
table 2), DualPipe ``(p / 2 - 1) (F&B + B - 3 W)`` (DeepSeek-AI, arXiv:2412.19437 table 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.layout import Array, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Seconds of one micro-batch's passes through one stage; arrays over layouts.

    Parameters
    ----------
    forward, backward
        The passes, the backward one whole.
    inputs, weights
        The backward pass in two: gradients of the input, and of the weights.
    hop
        From one rank to the next.
    """

    forward: Array
    backward: Array
    inputs: Array
    weights: Array
    hop: Array


def bubble(schedule: Schedule, pp: Array, many: Array, vp: Array, turn: Turn) -> Array:
    """Return what a rank waits for in a step, where all stages take as long.

    Parameters
    ----------
    schedule
        One that :data:`BUBBLES` has.
    pp, many, vp
        Pipeline ranks, micro-batches, and model chunks of a rank.
    turn
        Seconds of a stage's passes.

    Returns
    -------
    Array
        The step less ``many vp`` forward and backward passes of a rank.
    """
    return BUBBLES[schedule](pp, many, vp, turn)


def looped_bfs(pp: Array, many: Array, vp: Array, turn: Turn) -> Array:
    """Return the bubble where all micro-batches run through a chunk before the next one.

    A chunk waits for the first micro-batch to come round if there are few of them.
    """
    total = np.zeros_like(turn.hop)
    for pass_s in (turn.forward, turn.backward):
        round_s = pp * (pass_s + turn.hop)
        total += (pp - 1.0) * (pass_s + turn.hop)
        total += (vp - 1.0) * np.maximum(round_s - many * pass_s, 0.0)
    return total


def zero_bubble_h1(pp: Array, many: Array, _vp: Array, turn: Turn) -> Array:
    """Return the bubble of 1F1B's memory with weight gradients in the drain.

    Between neighbours forward and backward passes follow each other at once and only weight
    gradients hide hops: round trips through more ranks have more hops and fewer of them.
    """
    f, i, w, hop = turn.forward, turn.inputs, turn.weights, turn.hop
    rest, waves, lacking = pp - 1.0, pp - 1.0 + many, np.maximum(pp - many, 0.0)
    few = many <= pp
    trips = np.ceil(waves / pp)
    turned = np.where(few, many - 3.0, rest)
    return _longest(
        lacking * f + rest * (i + 2.0 * hop),
        rest * (f + 2.0 * hop) + lacking * i + turned * hop,
        rest * (f + i) + (trips - few - many) * w + 2.0 * np.maximum(waves - trips, rest) * hop,
        np.where(few, 0.0, rest * (f + i - w + 4.0 * hop)),
    )


def zero_bubble_h2(pp: Array, _many: Array, _vp: Array, turn: Turn) -> Array:
    """Return the bubble of twice 1F1B's memory with weight gradients in the drain."""
    f, i, w, hop = turn.forward, turn.inputs, turn.weights, turn.hop
    rest = pp - 1.0
    return rest * _longest(f + hop, i - f + 2.0 * hop, f + i - 2.0 * w + 2.0 * hop)


def zero_bubble_v(pp: Array, _many: Array, _vp: Array, turn: Turn) -> Array:
    """Return the bubble of a V in 1F1B's memory with weight gradients in the drain."""
    f, i, w, hop = turn.forward, turn.inputs, turn.weights, turn.hop
    rest = pp - 1.0
    spared = (2.0 * pp - 1.0) * w
    return _longest(
        i + (pp - 2.0) * w + 3.0 * rest * hop,
        rest * (i + 5.0 * hop) - w,
        rest * (i + 5.0 * hop) - 2.0 * hop,
        rest * (2.0 * i + 6.0 * hop) - spared,
        rest * (2.0 * (i - w) + 6.0 * hop) - 2.0 * hop,
        (pp - 2.0) * f + i + rest * 5.0 * hop - 2.0 * hop,
        rest * (f + 5.0 * hop) - w,
        rest * (f + i + 6.0 * hop) - spared,
        (2.0 * pp - 3.0) * f - (pp - 2.0) * i + rest * 3.0 * hop - 2.0 * hop,
        rest * (2.0 * f + 4.0 * hop) - spared,
    )


def dual_pipe_v(pp: Array, many: Array, _vp: Array, turn: Turn) -> Array:
    """Return the bubble of a V whose ranks run forward beside backward passes.

    A pair starts when both passes can, so that all but one of ``pp`` hops delay it.
    """
    rounds = many - np.ceil((many - 1.0) / pp)
    return _dual(pp, 2.0 * rounds + pp - 3.0, 2.0 * (pp - 1.0), turn)


def dual_pipe(pp: Array, many: Array, _vp: Array, turn: Turn) -> Array:
    """Return the bubble of two pipelines against each other: that of a V of half as many ranks."""
    half, each = pp / 2.0, many / 2.0
    hops = 2.0 * each - np.ceil((each - 1.0) / half) + 2.0 * (half - 1.0)
    return _dual(half, hops, half - 1.0, turn)


def _dual(ranks: Array, hops: Array, further: Array, turn: Turn) -> Array:
    """Return the longest chain of eight phases; `ranks` up to where the two ways meet."""
    f, i, w, hop = turn.forward, turn.inputs, turn.weights, turn.hop
    rest, apart = ranks - 1.0, i + w - turn.backward
    late = rest * (i - w + hop)
    turned = (ranks - 1.0) * i - ranks * f + further * hop
    return (
        2.0 * rest * f
        + ranks * apart
        + hops * hop
        + _longest(late * 0.0, late, turned, turned + late)
    )


def turning(schedule: Ints, pp: Ints, inputs: Array, weights: Array) -> Array:
    """Return how long before the end a rank has all weight gradients of one of its two stages.

    On the rank of a V, or of a pipeline both ways, where that is the shortest: found like the
    bubbles, for schedules that run weight gradients apart. Rank 0 alone would have more time: it
    starts with one stage and ends with it.

    Parameters
    ----------
    schedule, pp
        Of each layout; what is returned for schedules with one stage a rank means nothing.
    inputs, weights
        Seconds of the two parts of a stage's backward pass, the first with the hop that follows it.
    """

    def dual(ranks: Array) -> Array:
        halfway = np.ceil(ranks / 2.0) * inputs - ranks % 2 * weights
        found: Array = np.minimum(weights + (ranks - 1.0) * (inputs - weights), halfway)
        return found

    both_ways = np.where(pp == 2, inputs + weights, dual(pp / 2.0))
    zero_bubble = (2.0 * pp - 3.0) * weights - (pp - 2.0) * inputs
    found: Array = np.select(
        [schedule == Schedule.ZB_V, schedule == Schedule.DUALPIPE_V],
        [np.maximum(zero_bubble, inputs - weights), dual(pp * 1.0)],
        both_ways,
    )
    return found


def _longest(*chains: Array) -> Array:
    return reduce(np.maximum, chains)


#: The closed form of each schedule that has one here.
BUBBLES: dict[Schedule, Callable[[Array, Array, Array, Turn], Array]] = {
    Schedule.LOOPED_BFS: looped_bfs,
    Schedule.ZB_H1: zero_bubble_h1,
    Schedule.ZB_H2: zero_bubble_h2,
    Schedule.ZB_V: zero_bubble_v,
    Schedule.DUALPIPE: dual_pipe,
    Schedule.DUALPIPE_V: dual_pipe_v,
}
