"""Sums over the parts of a pipeline rank: its layers of each kind, and the two ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from models.layout import Array
    from models.prepared import Prepared


def rank_sum(
    prepared: Prepared,
    rank: int | NDArray[np.intp],
    layers: Sequence[Array],
    embedding: Array | float,
    head: Array | float,
) -> Array:
    """Return, for each layout, a quantity summed over one rank's parts.

    Parameters
    ----------
    prepared
        Layouts with their cuts.
    rank
        Kind of pipeline rank: one for all layouts, or one each.
    layers
        The quantity of one layer of each kind, per layout.
    embedding, head
        Of the two ends, per layout.
    """
    stages, cut = prepared.stages, prepared.stage_index
    total = stages.look_up(stages.first, cut, rank) * embedding
    total += stages.look_up(stages.last, cut, rank) * head
    for kind, value in enumerate(layers):
        total += stages.look_up(stages.counts[..., kind], cut, rank) * value
    return total
