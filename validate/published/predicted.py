"""One published run with what is predicted of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.layout import Layout
    from planner.scenario import Scenario
    from validate.published.row import Row


class Quantity(StrEnum):
    """What of a run is predicted."""

    TIME = "time"  # seconds
    MEMORY = "memory"  # bytes
    LENGTH = "length"  # tokens of the longest sequence that fits
    FITS = "fits"  # whether it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One row with what is predicted of it.

    Parameters
    ----------
    row
        What was published.
    quantity
        Which of its results is meant; a row may have several.
    measured
        What was measured, in SI units; None if nothing was. Of ``fits``, 1 or 0.
    layout, predicted, interval, fits
        The prediction; None for rows that are skipped. Of ``fits``, `predicted` is 1 or 0.
    scenario
        What `layout` was evaluated on; None where none was.
    skipped_because
        Why, or empty.
    """

    row: Row
    quantity: Quantity = Quantity.TIME
    measured: float | None = None
    layout: Layout | None = None
    predicted: float | None = None
    interval: tuple[float, float] | None = None
    fits: bool | None = None
    scenario: Scenario | None = None
    skipped_because: str = ""

    @property
    def error(self) -> float | None:
        """Relative error of the prediction, with its sign; None where there is none."""
        if self.predicted is None or self.measured is None or self.quantity is Quantity.FITS:
            return None
        return self.predicted / self.measured - 1.0

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        if self.interval is None or self.measured is None:
            return False
        return self.interval[0] <= self.measured <= self.interval[1]

    @property
    def ran(self) -> bool:
        """Whether the run had enough memory."""
        return self.quantity is not Quantity.FITS or self.measured == 1.0

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "id": self.row.text("id"),
            "file": self.row.file,
            "source": self.row.text("source"),
            "kind": self.row.kind,
            "quantity": str(self.quantity),
            "measured": self.measured,
            "predicted": self.predicted,
            "interval": None if self.interval is None else list(self.interval),
            "error": self.error,
            "fits": self.fits,
            "skipped_because": self.skipped_because,
        }
