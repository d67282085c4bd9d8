"""What was measured of one thing, over all rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from validate.calibration.item import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one thing.

    Parameters
    ----------
    item
        The thing.
    seconds, wall_s
        Of each round, per call: of the device, and that passed.
    calls
        In each round's burst.
    """

    item: Item
    seconds: tuple[float, ...]
    wall_s: tuple[float, ...]
    calls: int

    @property
    def t(self) -> float:
        """Median of the device's seconds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """Tenth and ninetieth percentile of the device's seconds."""
        low, high = np.percentile(self.seconds, (10, 90))
        return float(low), float(high)

    @property
    def wall(self) -> float:
        """Median of the seconds that passed."""
        return float(np.median(self.wall_s))


def of_kind(found: Iterable[Measurement], *kinds: str) -> list[Measurement]:
    """Return the measurements of some kinds."""
    return [each for each in found if each.item.kind in kinds]


def medians(found: Iterable[Measurement]) -> NDArray[np.float64]:
    """Return the median seconds of each."""
    return np.array([each.t for each in found])
