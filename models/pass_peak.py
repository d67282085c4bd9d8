"""What passes need at one moment of a step, beside parameters and the optimizer's states."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array, Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPeak:
    """Bytes of a moment; arrays over layouts.

    Parameters
    ----------
    gradients
        Those that are kept and are there.
    activations, logits, working, buffers
        As in :class:`models.memory_bill.MemoryBill`.
    """

    gradients: Array
    activations: Array
    logits: Array
    working: Array
    buffers: Array

    @property
    def asked(self) -> Array:
        """What passes ask the allocator for."""
        total: Array = self.activations + self.logits + self.working + self.buffers
        return total

    def total(self, share: float) -> Array:
        """Return that with a share of it in reserve, and the gradients."""
        return self.gradients + self.asked * (1.0 + share)

    def where(self, mine: Bools, other: PassPeak) -> PassPeak:
        """Return this moment for some layouts and another for the rest."""
        both = (
            (each.name, getattr(self, each.name), getattr(other, each.name))
            for each in fields(self)
        )
        return PassPeak(**{name: np.where(mine, own, others) for name, own, others in both})
