"""The pipeline schedules a search tries."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Schedule
from models.schedule import BOTH_WAYS, CHUNKED, VEE, VEE_CHUNKS, fewest_micro_batches

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Schedules searched without being pinned. GPipe takes as long as 1F1B, and looped BFS as long as
#: interleaved 1F1B where micro-batches come in multiples of the ranks; both hold all of them.
SCHEDULES = tuple(s for s in Schedule if s not in (Schedule.GPIPE, Schedule.LOOPED_BFS))


@cache
def possible(pp: int, micro_batches: int) -> tuple[Schedule, ...]:
    """Return the schedules of so many micro-batches on so many ranks.

    >>> [schedule.label for schedule in possible(4, 7)]
    ['gpipe', '1f1b', 'looped-bfs', 'zb-h1', 'zb-h2', 'zb-v']
    """
    enough = micro_batches >= fewest_micro_batches(np.array(Schedule), pp)
    return tuple(
        schedule
        for schedule in Schedule
        if enough[schedule]
        and (schedule is not Schedule.INTERLEAVED or micro_batches % pp == 0)
        and (not BOTH_WAYS[schedule] or (pp % 2 == 0 and micro_batches % 2 == 0))
    )


def chunks(schedule: Schedule, wanted: Iterable[int]) -> list[int]:
    """Return those numbers of chunks per rank that a schedule can have.

    >>> chunks(Schedule.ZB_V, [1, 2, 3])
    [2]
    """
    if CHUNKED[schedule]:
        return [vp for vp in wanted if vp > 1]
    return [vp for vp in wanted if vp == (VEE_CHUNKS if VEE[schedule] else 1)]
