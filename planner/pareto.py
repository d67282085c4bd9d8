"""What nothing beats: layouts by time and memory while searching, plans by any figures after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from models.layout import LayoutBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Array, Bools
    from planner.plans import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Layouts of which none is both faster and smaller, fastest first.

    Parameters
    ----------
    layouts
        The layouts.
    step_s, nbytes
        Their step times, which rise, and the memory of their fullest ranks, which falls.
    """

    layouts: LayoutBatch
    step_s: Array
    nbytes: Array

    @classmethod
    def empty(cls) -> Self:
        """Return the front of nothing."""
        return cls(layouts=LayoutBatch.of([]), step_s=np.zeros(0), nbytes=np.zeros(0))

    def joined(self, batch: LayoutBatch, step_s: Array, nbytes: Array) -> Self:
        """Return the front of these layouts and others."""
        promising = np.flatnonzero(step_s < self._to_beat(nbytes))
        if not len(promising):
            return self
        layouts = LayoutBatch.concatenate([self.layouts, batch.take(promising)])
        time = np.concatenate([self.step_s, step_s[promising]])
        size = np.concatenate([self.nbytes, nbytes[promising]])
        order = np.lexsort((size, time))
        smallest_before = np.minimum.accumulate(np.concatenate([[np.inf], size[order][:-1]]))
        front = order[size[order] < smallest_before]
        return type(self)(layouts=layouts.take(front), step_s=time[front], nbytes=size[front])

    def _to_beat(self, nbytes: Array) -> Array:
        """Return the least time of the front's layouts that need no more than so many bytes."""
        time = np.concatenate([[np.inf], self.step_s[::-1]])
        found: Array = time[np.searchsorted(self.nbytes[::-1], nbytes, side="right")]
        return found


def unbeaten(figures: Array) -> Bools:
    """Return which rows no other row beats: as small in every column and smaller in one.

    Parameters
    ----------
    figures
        Shape ``[rows, columns]``; smaller is better.

    Examples
    --------
    >>> unbeaten(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0]]))
    array([ True,  True, False])
    """
    one, other = figures[:, None, :], figures[None, :, :]
    as_small, smaller = np.all(other <= one, axis=-1), np.any(other < one, axis=-1)
    found: Bools = ~np.any(as_small & smaller, axis=1)
    return found


def unbeaten_plans(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Return the plans that no other beats in step time, memory, accelerators and cost at once.

    Where one of them has no price, cost is left out.
    """
    if not plans:
        return ()
    columns = [
        [plan.step_time_s for plan in plans],
        [plan.memory_total_bytes for plan in plans],
        [float(plan.gpus) for plan in plans],
    ]
    costs = [plan.cost_usd_per_step for plan in plans]
    known = [cost for cost in costs if cost is not None]
    if len(known) == len(costs):
        columns.append(known)
    keep = unbeaten(np.array(columns).T)
    return tuple(plan for plan, kept in zip(plans, keep, strict=True) if kept)
