"""How many micro-batches ranks of two stages hold of either when they hold most.

A rank whose pipeline is a V, or runs both ways, holds more micro-batches of the stage that these
reach first than of the other; with stages of unequal layers that is not what either holds on
average. It is counted in the order in which the rank runs its passes.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from models.schedule import SEVERAL_CHUNKS, VEE_CHUNKS, fewest_micro_batches
from models.simulation.pipeline_order import Action, Pass
from models.simulation.schedules import ordered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.named_axes import Schedule
    from models.simulation.pipeline_order import Order, Pair

#: Passes after which nothing is kept of a micro-batch.
_LAST = (Pass.BACKWARD, Pass.WEIGHT_GRADIENT)


@cache
def _order(schedule: Schedule, pp: int) -> Order:
    """Return a step of enough micro-batches for all ranks to hold as many as they ever do."""
    vp = VEE_CHUNKS if SEVERAL_CHUNKS[schedule] else 1
    return ordered(schedule, pp, int(fewest_micro_batches(schedule, pp)) + 2 * pp, vp)[0]


def most_held_of_two(
    schedule: Schedule, pp: int, rank: int, layers: Mapping[int, int], last: int
) -> tuple[dict[int, int], int]:
    """Return how many micro-batches of each stage a rank holds when it holds most.

    A rank with the last stage does so while it has what the loss needs beside.

    Parameters
    ----------
    schedule, pp, rank
        What the pipeline runs, and where.
    layers
        Of each of its stages, by number.
    last
        The stage that ends in the loss.

    Returns
    -------
    tuple
        Of each stage when most layers' activations are held, and of all together when most passes'
        are.

    Examples
    --------
    A V's first rank runs seven micro-batches through the first stage before the last one's begins:

    >>> from models.named_axes import Schedule
    >>> most_held_of_two(Schedule.ZB_V, 4, 0, {0: 5, 7: 1}, last=7)
    ({0: 7, 7: 1}, 8)
    """
    held: Counter[int] = Counter()
    best, most, passes = dict.fromkeys(layers, 0), 0, 0
    for step in _order(schedule, pp)[rank]:
        actions = _actions(step)
        held.update(each.stage for each in actions if each.kind is Pass.FORWARD)
        passes = max(passes, held.total())
        much = sum(held[stage] * each for stage, each in layers.items())
        if much > most and (last not in layers or held[last]):
            most, best = much, {stage: held[stage] for stage in layers}
        held.subtract(each.stage for each in actions if each.kind in _LAST)
    return best, passes


def _actions(step: Action | Pair) -> Sequence[Action]:
    return [step] if isinstance(step, Action) else step
