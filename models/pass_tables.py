"""Seconds of one part of the model as tables over shapes, to look layouts up in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array
    from models.part_times import PartTimes


@dataclass(frozen=True, slots=True)
class PassTables:
    """One part's seconds as tables over shapes (and recomputation modes).

    Backward passes have two rows per shape: whole, and with gradients of weights apart. Where
    passes are paired, all shapes come once more with times of such passes.
    """

    forward: Array
    backward: Array
    weights: Array
    unhidden: Array
    both: Array
    repeated: Array
    repeated_total: Array

    @classmethod
    def of(cls, times: PartTimes, steal: Array | None = None) -> PassTables:
        """Return the tables of one part; with `steal` of paired passes too, which it takes."""
        if steal is None:
            return cls._of(times)
        both = cls._of(times), cls._of(times.paired(steal))
        columns = {each.name: [getattr(table, each.name) for table in both] for each in fields(cls)}
        return cls(**{name: np.concatenate(pair) for name, pair in columns.items()})

    @classmethod
    def _of(cls, times: PartTimes) -> PassTables:
        nothing = np.zeros_like(times.forward.stacked())
        sets = (spent.stacked() for spent in times.repeated_selective)
        repeated = np.stack([nothing, times.repeated.stacked(), *sets], axis=1)
        whole = times.backward.stacked()
        apart = times.inputs.stacked() + times.weights.stacked()
        backward = np.stack([whole, apart], axis=1)
        both = times.forward.stacked()[:, None] + backward
        return cls(
            forward=times.forward.total,
            backward=backward.sum(axis=-1).ravel(),
            weights=times.weights.total,
            unhidden=(apart - whole).sum(axis=-1),
            both=both.reshape(-1, both.shape[-1]),
            repeated=repeated,
            repeated_total=repeated.sum(axis=-1),
        )
