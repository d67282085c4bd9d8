"""How many layers each pipeline stage holds.

Layers are cut in order. Where every rank holds one stage, the heaviest is as light as it can be.
Where ranks take turns at more stages than there are ranks (interleaved pipelines), a rank is what
all its stages weigh, and a long stage costs most where ranks wait for each other: of a few cuts
that one is taken whose pipeline, walked pass by pass, ends first. One spreads long stages as if
every stage had a rank; the others have them side by side, last, where the fewest micro-batches are
held, with more or fewer layers beside the head.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from itertools import accumulate
from math import ceil, inf
from typing import TYPE_CHECKING

from models.named_axes import StageSplit
from models.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: A backward pass takes about two forward ones; of a step so many rounds of all ranks are walked.
BACKWARD, ROUNDS = 2.0, 3
#: Weights are sums of many numbers: what differs by no more is the same.
_SAME = 1e-9


@cache
def split_layers(
    stages: int, split: int, weights: tuple[float, ...], head: float, ranks: int | None = None
) -> tuple[int, ...]:
    """Return the number of layers of each stage, first to last.

    Parameters
    ----------
    stages
        Pipeline stages, at most as many as layers.
    split
        Even, where the layers divide; otherwise, or when balanced, the heaviest stage (the head
        counted with the last) is as light as it can be.
    weights, head
        Cost of each layer and of the head.
    ranks
        How many ranks take turns at the stages, where these are more.

    Examples
    --------
    Llama-3.1-405B's 126 layers on 16 stages, the published run's 7, 14 x 8, 7:

    >>> split_layers(16, StageSplit.BALANCED, (1.0,) * 126, 0.7)
    (7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7)

    26 layers on 4 ranks of 3 chunks, the last with the head:

    >>> split_layers(12, StageSplit.BALANCED, (1.0,) * 26, 0.8, ranks=4)
    (2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 2)
    """
    count = len(weights)
    if split == StageSplit.EVEN and count % stages == 0:
        return (count // stages,) * stages
    sums = [0.0, *accumulate(weights)]
    limit = _lightest_limit(sums, stages, head)
    spread = tuple(_spread(sums, stages, head, limit))
    if ranks is None or ranks == stages:
        return spread
    return _soonest((*_in_runs(sums, stages), spread), sums, head, ranks)


def _soonest(
    cuts: Iterable[tuple[int, ...]], sums: list[float], head: float, ranks: int
) -> tuple[int, ...]:
    """Return the cut whose interleaved pipeline ends first; of equal ones the first."""
    lengths = {cut: stage_weights(cut, sums, head) for cut in cuts}
    heaviest = {
        cut: max(sum(held[rank::ranks]) for rank in range(ranks)) for cut, held in lengths.items()
    }
    best: tuple[int, ...] = ()
    soonest = inf
    for cut in sorted(lengths, key=lambda each: heaviest[each]):
        if ROUNDS * ranks * (1.0 + BACKWARD) * heaviest[cut] >= soonest:
            break  # nor can those that are heavier
        forward = lengths[cut]
        ended = Turns(ranks, ROUNDS, forward, [BACKWARD * weight for weight in forward]).end()
        if ended < soonest * (1.0 - _SAME):
            best, soonest = cut, ended
    return best


def stage_weights(sizes: Sequence[int], sums: Sequence[float], head: float) -> list[float]:
    """Return the weight of every stage, the head counted with the last.

    Parameters
    ----------
    sizes
        Layers of each.
    sums
        Weights of the first layers: of none, of the first, of the first two, and so on.
    head
        Weight of the head.
    """
    ends = list(accumulate(sizes))
    held = [sums[end] - sums[end - size] for end, size in zip(ends, sizes, strict=True)]
    held[-1] += head
    return held


def _in_runs(sums: list[float], stages: int) -> Iterator[tuple[int, ...]]:
    """Yield cuts whose long stages follow each other, by layers of the last, the most first."""
    layers = len(sums) - 1
    most = min(ceil(layers / stages), layers - stages + 1)
    for last in range(most, 0, -1):
        before = sums[: layers - last + 1]
        limit = _lightest_limit(before, stages - 1, 0.0)
        yield (*_longest_last(before, stages - 1, limit), last)


def _longest_last(sums: list[float], stages: int, limit: float) -> list[int]:
    """Return stages as long as `limit` allows, from the last on, then ones a layer shorter."""
    sizes: list[int] = []
    end = len(sums) - 1
    for left in range(stages - 1, 0, -1):
        start = max(_fill_back(sums, end, limit) or 0, left)
        share = sums[end] / (left + 1)
        lighter = end - start > 1 and sums[end] - sums[start + 1] >= share * (1 - _SAME)
        if lighter and _needed(sums, start + 1, limit) <= left:
            start += 1
        sizes.append(end - start)
        end = start
    return [end, *sizes[::-1]]


def _lightest_limit(sums: list[float], stages: int, head: float) -> float:
    """Return the least weight that the heaviest stage can have, by bisection."""
    low, high = 0.0, sums[-1] + head
    for _ in range(60):
        middle = (low + high) / 2
        start = _fill_back(sums, len(sums) - 1, middle - head)
        enough = start is not None and _needed(sums, start, middle) <= stages - 1
        low, high = (low, middle) if enough else (middle, high)
    return high * (1 + _SAME)


def _fill_back(sums: list[float], end: int, room: float) -> int | None:
    """Return where a stage of at most `room` that ends at `end` starts, or None if none can."""
    start = bisect_left(sums, sums[end] - room - 1e-12 * sums[-1], 0, end)
    return start if start < end else None


def _needed(sums: list[float], end: int, limit: float) -> float:
    """Return the fewest stages of at most `limit` that hold the layers before `end`."""
    stages = 0
    while end > 0:
        start = _fill_back(sums, end, limit)
        if start is None:
            return inf
        stages, end = stages + 1, start
    return stages


def _spread(sums: list[float], stages: int, head: float, limit: float) -> list[int]:
    """Give every stage, last to first, its even share of what is left, within `limit`."""
    sizes: list[int] = []
    end, extra = len(sums) - 1, head
    for left in range(stages - 1, 0, -1):
        share = (sums[end] + extra) / (left + 1)
        fullest = _fill_back(sums, end, limit - extra)
        start = end - 1
        while start > max(fullest or 0, left):
            short = _needed(sums, start, limit) > left
            now, wider = (sums[end] - sums[at] + extra for at in (start, start - 1))
            if not short and wider - share > (share - now) * (1 + _SAME):
                break
            start -= 1
        sizes.append(end - start)
        end, extra = start, 0.0
    return [end, *sizes[::-1]]
