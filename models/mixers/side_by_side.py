"""Two token mixers over one norm, their outputs added."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.operators import elementwise

if TYPE_CHECKING:
    from models.layout import Array
    from models.mixers.half import MixerWork, Moment
    from models.operation import Compute, Operation, Saved
    from models.shape import Shapes


class SideBySideWork:
    """Two token mixers over one norm, one run after the other, their outputs added.

    Each has its own column-parallel input and row-parallel output, as two modules have it
    (transformers' ``FalconH1DecoderLayer``); they share the norm's output.

    Parameters
    ----------
    first, second
        The mixers in the order in which they run forward.
    hidden, shapes
        Width of the residual stream, and shapes of work to take it for.
    """

    def __init__(self, first: MixerWork, second: MixerWork, hidden: int, shapes: Shapes) -> None:
        self.first, self.second, self.hidden, self.shapes = first, second, hidden, shapes
        self.name = f"{first.name} and {second.name}"

    def forward(self) -> tuple[Operation, ...]:
        """Return the forward operations in order."""
        return (*self.first.forward(), *self.second.forward(), self._sum(0))

    def backward(self) -> tuple[Operation, ...]:
        """Return the backward operations in order; gradients of the shared input are added."""
        return (*self.second.backward(), *self.first.backward(), self._sum(1))

    def saved(self) -> tuple[Saved, ...]:
        """Return what autograd keeps, the norm and its output aside."""
        return (*self.first.saved(), *self.second.saved())

    def moments(self, norm: Array, passing: Array) -> tuple[Moment, ...]:
        """Return the moments that may be the fullest.

        While the second goes backward all of the first is still kept; while the first does, the
        gradient that the second gave to their input waits.
        """
        kept = reduce(np.add, (item.nbytes for item in self.first.saved()))
        waiting = passing + BF16 * self.shapes.tokens * self.hidden / self.shapes.norm_shard
        later = self.second.moments(norm, passing)
        return (
            *self.first.moments(norm, waiting),
            *(replace(each, saved=each.saved + kept) for each in later),
        )

    def parameters(self) -> Array:
        """Return the parameters one rank holds."""
        return self.first.parameters() + self.second.parameters()

    def _sum(self, phase: int) -> Compute:
        elements = self.shapes.tokens * self.hidden / self.shapes.norm_shard
        return elementwise(f"{self.name} sum", "residual", self.shapes, elements)[phase]
