"""Published runs as the planner predicts them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from models.layout import LayoutBatch
from validate.published.job_of import layout_of, scenario_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.layout import Layout
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
        What was measured, in SI units; None if nothing was.
    layout, predicted, interval, fits
        The prediction; None for rows that are skipped.
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
    skipped_because: str = ""

    @property
    def error(self) -> float | None:
        """Relative error of the prediction, with its sign; None where there is none."""
        if self.predicted is None or self.measured is None:
            return None
        return self.predicted / self.measured - 1.0

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        if self.interval is None or self.measured is None:
            return False
        return self.interval[0] <= self.measured <= self.interval[1]

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "id": self.row.text("id"),
            "source": self.row.text("source"),
            "quantity": str(self.quantity),
            "measured": self.measured,
            "predicted": self.predicted,
            "interval": None if self.interval is None else list(self.interval),
            "error": self.error,
            "skipped_because": self.skipped_because,
        }


def predict(
    rows: Iterable[Row], progress: Callable[[int], None] | None = None
) -> tuple[Predicted, ...]:
    """Return the predictions of some rows, in order.

    Parameters
    ----------
    rows
        What was published.
    progress
        Called after each row with the number of rows done.
    """
    found = []
    for row in rows:
        try:
            found.append(_predicted(row))
        except UnexpressedError as reason:
            found.append(Predicted(row=row, skipped_because=str(reason)))
        if progress is not None:
            progress(len(found))
    return tuple(found)


def _predicted(row: Row) -> Predicted:
    measured = row.number("step_s")
    scenario = scenario_of(row)
    layout = layout_of(row, scenario)
    (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
    return Predicted(
        row=row,
        measured=measured,
        layout=layout,
        predicted=plan.step_time_s,
        interval=plan.interval_s,
        fits=plan.fits,
    )
