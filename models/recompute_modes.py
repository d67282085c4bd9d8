"""The ways to recompute that a batch of layouts uses: columns of tables over shapes of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Recompute
from models.recompute_modules import RecomputeModules

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.layout import Array, LayoutBatch

#: All sets of modules there are.
_SETS = 1 << len(RecomputeModules)


@dataclass(frozen=True, slots=True)
class RecomputeModes:
    """Distinct ways to recompute; columns are nothing, whole layers, then sets of modules.

    Parameters
    ----------
    sets
        The sets of modules that selective recomputation repeats somewhere in a batch.
    """

    sets: tuple[RecomputeModules, ...]

    @classmethod
    def of(cls, batch: LayoutBatch) -> tuple[RecomputeModes, NDArray[np.intp]]:
        """Return the modes of a batch, and each layout's column."""
        full = batch.recompute == Recompute.FULL
        # A number for every mode: no recomputation, full, and the sets.
        code = np.where(batch.recompute == Recompute.SELECTIVE, batch.recompute_modules + 2, full)
        used = np.bincount(code, minlength=_SETS + 2)[2:].nonzero()[0]
        column = np.zeros(_SETS + 2, dtype=np.intp)
        column[1] = 1
        column[used + 2] = np.arange(2, len(used) + 2)
        return cls(tuple(map(RecomputeModules, used.tolist()))), column.take(code)

    def table(self, nothing: Array, full: Array, of: Callable[[RecomputeModules], Array]) -> Array:
        """Return quantities over shapes as a table with a column, its second axis, per mode."""
        return np.stack([nothing, full, *(of(modules) for modules in self.sets)], axis=1)
