"""Published runs as the planner predicts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.layout import LayoutBatch
from validate.published.job_of import layout_of, scenario_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.layout import Layout
    from validate.published.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One row with what is predicted of it.

    Parameters
    ----------
    row
        What was published.
    measured_s
        Its step; None if it has none.
    layout, predicted_s, interval_s, fits
        The prediction; None for rows that are skipped.
    skipped_because
        Why, or empty.
    """

    row: Row
    measured_s: float | None = None
    layout: Layout | None = None
    predicted_s: float | None = None
    interval_s: tuple[float, float] | None = None
    fits: bool | None = None
    skipped_because: str = ""

    @property
    def error(self) -> float | None:
        """Relative error of the prediction, with its sign; None where there is none."""
        if self.predicted_s is None or self.measured_s is None:
            return None
        return self.predicted_s / self.measured_s - 1.0

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        if self.interval_s is None or self.measured_s is None:
            return False
        return self.interval_s[0] <= self.measured_s <= self.interval_s[1]

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "id": self.row.text("id"),
            "source": self.row.text("source"),
            "measured": self.measured_s,
            "predicted": self.predicted_s,
            "interval": None if self.interval_s is None else list(self.interval_s),
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
    measured_s = row.number("step_s")
    scenario = scenario_of(row)
    layout = layout_of(row, scenario)
    (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
    return Predicted(
        row=row,
        measured_s=measured_s,
        layout=layout,
        predicted_s=plan.step_time_s,
        interval_s=plan.interval_s,
        fits=plan.fits,
    )
