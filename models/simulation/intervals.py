"""Stretches of time as arrays: their union, and how long one union lies under another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals in order of time that neither overlap nor touch.

    Parameters
    ----------
    start_s, end_s
        Shape ``[intervals]``.
    """

    start_s: Array
    end_s: Array

    @classmethod
    def union(cls, start_s: Array, end_s: Array) -> Intervals:
        """Return what any intervals cover together.

        >>> Intervals.union(np.array([4.0, 0.0, 1.0]), np.array([5.0, 2.0, 3.0])).end_s.tolist()
        [3.0, 5.0]
        """
        order = np.argsort(start_s, kind="stable")
        start, reached = start_s[order], np.maximum.accumulate(end_s[order])
        opens = np.ones(len(start), dtype=bool)
        opens[1:] = start[1:] > reached[:-1]
        closes = np.ones(len(start), dtype=bool)
        closes[:-1] = opens[1:]
        return cls(start[opens], reached[closes])

    @property
    def length_s(self) -> float:
        """How long they last together."""
        return float(np.sum(self.end_s - self.start_s))

    def under_s(self, other: Intervals) -> float:
        """Return how long these last while others do, too.

        >>> one = Intervals(np.array([0.0, 4.0]), np.array([2.0, 6.0]))
        >>> one.under_s(Intervals(np.array([1.0]), np.array([5.0])))
        2.0
        """
        return self._split(other)[0]

    def alone_s(self, other: Intervals) -> float:
        """Return how long these last while others do not.

        >>> one = Intervals(np.array([0.0, 4.0]), np.array([2.0, 6.0]))
        >>> one.alone_s(Intervals(np.array([1.0]), np.array([6.0])))
        1.0
        """
        return self._split(other)[1]

    def _split(self, other: Intervals) -> tuple[float, float]:
        """Return how long these last with and without the others."""
        edges = np.concatenate((self.start_s, self.end_s, other.start_s, other.end_s))
        mine, others = len(self.start_s), len(other.start_s)
        order = np.argsort(edges, kind="stable")
        gaps = np.diff(edges[order])
        inside = np.cumsum(np.repeat((1, -1, 0, 0), (mine, mine, others, others))[order])[:-1] > 0
        covered = np.cumsum(np.repeat((0, 0, 1, -1), (mine, mine, others, others))[order])[:-1] > 0
        return float(np.sum(gaps[inside & covered])), float(np.sum(gaps[inside & ~covered]))
