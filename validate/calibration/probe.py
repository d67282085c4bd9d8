"""How many cores there really are: what all ranks get done at once.

Other loads of a machine take cores away, and more at one time than at another; a machine that is
too busy, or too uneven, gives timings that say little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from validate.calibration.item import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from validate.calibration.bench import Bench, Sample

KIND = "probe"
#: Products of one burst, and their side.
PRODUCTS, SIDE = 25, 384
#: Bursts of one round.
BURSTS = 6
#: More than this between the tenth and the ninetieth percentile, over the median, or fewer cores
#: than this: too noisy.
WIDEST, FEWEST = 0.2, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Effective cores of all ranks together: time of cores over time that passed.

    Parameters
    ----------
    median, low, high
        Of all bursts; the tenth and the ninetieth percentile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, bursts: Sequence[Sample], world: int) -> Cores:
        """Return the cores of bursts of so many ranks, each with its mean time of a core."""
        found = [world * burst.seconds / burst.wall_s for burst in bursts]
        low, median, high = np.percentile(found, (10, 50, 90))
        return cls(median=float(median), low=float(low), high=float(high))

    @property
    def noisy(self) -> bool:
        """Whether timings say little."""
        return (self.high - self.low) / self.median > WIDEST or self.median < FEWEST

    def to_dict(self) -> dict[str, float | bool]:
        """Return JSON values."""
        return {"median": self.median, "p10": self.low, "p90": self.high, "noisy": self.noisy}


def items() -> list[Item]:
    """Return the bursts of one round."""
    return [Item.of(KIND, burst=burst) for burst in range(BURSTS)]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return one burst."""
    a, b = bench.tensor(SIDE, SIDE), bench.tensor(SIDE, SIDE)

    def burst() -> None:
        for _ in range(PRODUCTS):
            a @ b

    return burst
