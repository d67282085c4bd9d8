"""What micro-batches keep in stages from their forward pass on: one account for both clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array, Ints
    from models.operation import Work
    from models.prepared import Prepared
    from models.rank_parts import RankParts
    from models.recompute_modes import RecomputeModes


class Kept:
    """Bytes of one micro-batch by what of it they are; lists have one entry per kind of layer.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    """

    def __init__(self, prepared: Prepared) -> None:
        shape, mode, modes = prepared.shape_index, prepared.mode_index, prepared.modes
        #: How many layers keep one input together; None where each keeps its own.
        self.together = prepared.together()
        #: What a layer keeps, alone, and where several keep one input together.
        self.alone = [_of_layer(work, modes)[shape, mode] for work in prepared.layers]
        self.layers = self.alone
        if self.together is not None:
            self.layers = [kept / self.together for kept in self.alone]
        #: What full recomputation of a layer does not keep.
        self.spared = [(work.saved_bytes() - work.input_bytes)[shape] for work in prepared.layers]
        self.loss = prepared.head.saved_bytes()[shape]
        self.embedding = prepared.embedding.saved_bytes()[shape]
        self._sent = _sent(prepared)

    def of_layers(self, parts: RankParts, whole: Array | float = 0.0) -> Array:
        """Return what layers keep, a share of them with all that full recomputation spares.

        Parameters
        ----------
        parts
            What stages are made of.
        whole
            Share of their layers that full recomputation leaves out.
        """
        kept = parts.sum_layers(self.layers)
        if np.any(whole):
            kept += whole * parts.sum_layers(self.spared)
        return kept

    def sent(self, parts: RankParts, stages: Array | Ints | float = 1.0) -> Array | float:
        """Return what outputs take that stages sent on, where they are kept."""
        return 0.0 if self._sent is None else self._sent * stages * (1.0 - parts.last)

    def stage(self, parts: RankParts, whole: float) -> float:
        """Return all that a stage of one layout keeps."""
        kept = self.of_layers(parts, whole) + self.sent(parts)
        kept += parts.first * self.embedding + parts.last * self.loss
        return float(kept[0])


def _of_layer(work: Work, modes: RecomputeModes) -> Array:
    """Return a layer's saved bytes by recomputation mode, shape ``[shapes, modes]``."""
    return modes.table(work.saved_bytes(), work.input_bytes, work.selective_bytes)


def _sent(prepared: Prepared) -> Array | None:
    if not prepared.workload.runs_on.keeps_sent:
        return None
    sent: Array = prepared.sent_bytes()[prepared.shape_index] * (prepared.batch.pp > 1)
    return sent
