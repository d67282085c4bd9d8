"""Made-up rows and predictions for tests."""

from __future__ import annotations

from models.layout import Layout
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row


def row(weight: float = 1.0, **cells: object) -> Row:
    """Return a row that says what is given, of grade A and one source unless said otherwise."""
    usual = {"source": "a", "grade": "A", "step_s": "1"}
    return Row({**usual, **{name: str(value) for name, value in cells.items()}}, weight)


def guess(
    of: Row,
    measured: float,
    predicted: float | None,
    tp: int = 1,
    quantity: Quantity = Quantity.TIME,
    interval: tuple[float, float] | None = None,
    fits: bool | None = None,
) -> Predicted:
    """Return a prediction of a row; skipped where there is none."""
    return Predicted(
        row=of,
        quantity=quantity,
        measured=measured,
        predicted=predicted,
        layout=Layout(tp=tp),
        interval=interval,
        fits=fits,
        skipped_because="" if predicted is not None else "no reason",
    )
