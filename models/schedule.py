"""What pipeline schedules have in common: arrays to look the schedules of layouts up in."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Schedule

if TYPE_CHECKING:
    from models.layout import Bools, Ints, LayoutBatch


class Path(IntEnum):
    """How a micro-batch goes through the ranks: which of them hold which stages."""

    LOOP = 0  # through all of them, once for every chunk
    VEE = 1  # to the last and back
    BOTH_WAYS = 2  # half of the micro-batches from the first, half from the last


#: Model chunks of a rank where the pipeline is a V.
VEE_CHUNKS = 2


def _those(*schedules: Schedule) -> Bools:
    return np.array([schedule in schedules for schedule in Schedule])


#: Several chunks per rank, as many as one likes.
CHUNKED = _those(Schedule.INTERLEAVED, Schedule.LOOPED_BFS)
#: Two chunks per rank, on the way there and on the way back.
VEE = _those(Schedule.ZB_V, Schedule.DUALPIPE_V)
#: Several chunks per rank at all.
SEVERAL_CHUNKS = CHUNKED | VEE
#: Each rank holds two stages, one for either half of the micro-batches.
BOTH_WAYS = _those(Schedule.DUALPIPE)
#: Weight gradients apart from the rest of the backward pass, in every micro-batch or in some.
APART = _those(
    Schedule.ZB_H1, Schedule.ZB_H2, Schedule.ZB_V, Schedule.DUALPIPE, Schedule.DUALPIPE_V
)
#: Weight gradients apart in every micro-batch.
ALWAYS_APART = APART & ~_those(Schedule.DUALPIPE, Schedule.DUALPIPE_V)
#: A forward pass runs beside a backward one of another micro-batch. The few passes that fill and
#: drain the pipeline have no such partner, and are taken as if they had.
PAIRED = _those(Schedule.DUALPIPE, Schedule.DUALPIPE_V)
#: Ranks wait for each send, instead of sending beside the next pass.
WAITING = _those(Schedule.GPIPE, Schedule.ONE_F_ONE_B)
#: For each schedule one that holds micro-batches of a rank's stages in the same order.
HOLDS_LIKE = np.where(VEE | BOTH_WAYS, [*Schedule], Schedule.INTERLEAVED)
#: The :class:`Path` of each schedule.
PATHS = np.where(VEE, Path.VEE, np.where(BOTH_WAYS, Path.BOTH_WAYS, Path.LOOP))

#: Micro-batches that fill a pipeline: so many times its ranks, and so many more.
_FILLING = np.array([(0, 1)] * len(Schedule))
_FILLING[[Schedule.ZB_H2, Schedule.ZB_V]] = 2, -1
_FILLING[[Schedule.DUALPIPE, Schedule.DUALPIPE_V]] = 2, 0


def paired_passes(batch: LayoutBatch) -> Bools:
    """Return which layouts' tokens travel to experts beside another micro-batch's pass."""
    paired: Bools = (PAIRED.take(batch.schedule) | (batch.expert_overlap == 1)) & (batch.ep > 1)
    return paired


def fewest_micro_batches(schedule: Ints | int, pp: Ints | int) -> Ints:
    """Return how many micro-batches schedules need to fill a pipeline.

    ZB-V ``2 pp - 1`` (pytorch ScheduleZBVZeroBubble), ZB-H2 as many as it runs ahead, DualPipe and
    DualPipeV ``2 pp`` (deepseek-ai/DualPipe@3da1bbe dualpipe.py).

    >>> int(fewest_micro_batches(Schedule.ZB_V, 4))
    7
    """
    times, more = _FILLING[schedule].T
    fewest: Ints = times * pp + more
    return fewest
