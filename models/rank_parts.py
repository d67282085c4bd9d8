"""What one pipeline rank of each layout is made of: layers of each kind, embedding and head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.layout import Array, Bools
    from models.prepared import Prepared


@dataclass(frozen=True, slots=True)
class RankParts:
    """How often each part of the model is on one rank; arrays over layouts.

    Parameters
    ----------
    counts
        Layers of each kind.
    first, last
        1 where the rank holds the embedding, or the head.
    """

    counts: tuple[Array, ...]
    first: Array
    last: Array

    @classmethod
    def of(cls, prepared: Prepared, rank: int | NDArray[np.intp]) -> RankParts:
        """Return the parts of one kind of rank: the same for all layouts, or one each."""
        stages, cut = prepared.stages, prepared.stage_index
        kinds = range(stages.counts.shape[-1])
        return cls(
            counts=tuple(stages.look_up(stages.counts[..., kind], cut, rank) for kind in kinds),
            first=stages.look_up(stages.first, cut, rank),
            last=stages.look_up(stages.last, cut, rank),
        )

    def as_held(self, prepared: Prepared, rank: int | NDArray[np.intp], rows: Bools) -> RankParts:
        """Return it with layers as often as micro-batches hold them, for some of the layouts."""
        stages, cut = prepared.stages, prepared.stage_index
        held = (stages.look_up(kind, cut, rank) for kind in np.moveaxis(stages.held, -1, 0))
        pairs = zip(held, self.counts, strict=True)
        return replace(self, counts=tuple(np.where(rows, often, once) for often, once in pairs))

    @property
    def layers(self) -> Array:
        """All layers of the rank."""
        total = self.counts[0]
        for count in self.counts[1:]:
            total = total + count
        return total

    def sum(self, layers: Sequence[Array], embedding: Array, head: Array) -> Array:
        """Return a quantity summed over the rank's parts, given that of each part."""
        total = self.first * embedding
        total += self.last * head
        total += self.sum_layers(layers)
        return total

    def sum_layers(self, layers: Sequence[Array]) -> Array:
        """Return a quantity summed over the rank's layers, given that of a layer of each kind."""
        total = self.counts[0] * layers[0]
        for count, value in zip(self.counts[1:], layers[1:], strict=True):
            total += count * value
        return total
