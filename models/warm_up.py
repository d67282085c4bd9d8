"""How many micro-batches' activations pipeline ranks hold at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Schedule

if TYPE_CHECKING:
    from models.layout import Array, Bools, LayoutBatch

#: What the first rank and the model's last stage hold: so many times ``pp``, and so many more.
_HELD = np.full((len(Schedule), 4), (1.0, 0.0, 0.0, 1.0))
_HELD[[Schedule.GPIPE, Schedule.LOOPED_BFS]] = 0.0, np.inf, 0.0, np.inf  # all there are
_HELD[Schedule.ZB_H1] = 1.0, 0.0, 1.0, 0.0
_HELD[Schedule.ZB_H2] = 2.0, -1.0, 2.0, -1.0
_HELD[Schedule.DUALPIPE] = 0.5, 0.5, 0.0, 1.0
_HELD[Schedule.DUALPIPE_V] = 1.0, 0.5, 0.0, 1.0
_FIRST_TIMES, _FIRST_MORE, _HEAD_TIMES, _HEAD_MORE = np.ascontiguousarray(_HELD.T)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Micro-batches pipeline ranks hold at once, in whole-rank units; one entry per layout.

    They are held from their forward pass until the gradients of the weights are taken.

    Parameters
    ----------
    first, fewer
        What the first pipeline rank would hold, and how many fewer each further one.
    most
        Micro-batches of a step: none holds more.
    head
        What the model's last stage holds.
    """

    first: Array
    fewer: Array
    most: Array
    head: Array

    @classmethod
    def of(cls, batch: LayoutBatch, micro_batches: Array) -> WarmUp:
        """Return what the schedule of each layout has pipeline ranks hold.

        GPipe and looped BFS hold all; 1F1B ``pp - position`` (Narayanan et al., arXiv:2104.04473
        section 2.2); interleaved ``(2 (pp - position - 1) + (v - 1) pp + 1) / v`` (Megatron-LM's
        warm-up count). The others hold as much on every rank: ZB-H1 and ZB-V ``pp`` and ZB-H2
        ``2 pp - 1`` (Qi et al., arXiv:2401.10241 and 2405.15362), DualPipe ``pp + 1`` of either of
        the two stages of a rank (DeepSeek-AI, arXiv:2412.19437 table 2), DualPipeV ``2 pp + 1`` of
        its chunks. None holds more than there are. The last stage's backward pass follows its
        forward pass at once, but gradients of its weights may wait for more micro-batches. Where
        tokens travel to experts beside another pass, what a forward pass keeps comes as what the
        backward pass beside it needs goes, and no more is held.
        """
        schedule, pp = batch.schedule, batch.pp
        first = _FIRST_TIMES.take(schedule) * pp + _FIRST_MORE.take(schedule)
        head = _HEAD_TIMES.take(schedule) * pp + _HEAD_MORE.take(schedule)
        chunks = (2.0 * (pp - 1.0) + (batch.vp - 1.0) * pp + 1.0) / batch.vp
        interleaved = schedule == Schedule.INTERLEAVED
        waning = schedule == Schedule.ONE_F_ONE_B
        return cls(
            first=np.where(interleaved, chunks, first),
            fewer=np.where(interleaved, 2.0 / batch.vp, waning * 1.0),
            most=micro_batches,
            head=np.minimum(head, micro_batches),
        )

    def in_flight(self, position: Array) -> Array:
        """Return what the rank at a position of the pipeline holds."""
        return np.minimum(self.first - self.fewer * position, self.most)

    def all_held(self, position: Array) -> Bools:
        """Return where the rank at a position holds all micro-batches of a step at once."""
        found: Bools = self.first - self.fewer * position >= self.most
        return found
