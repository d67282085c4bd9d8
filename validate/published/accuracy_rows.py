"""Predictions as a table, one a line, beside what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.published.parts import source
from validate.published.predicted import Quantity
from validate.published.sheet import Sheet, percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from validate.published.predicted import Predicted

#: What a value is divided by for people, and the unit it then has.
UNITS = {
    Quantity.TIME: (1.0, "s"),
    Quantity.MEMORY: (2.0**30, "GiB"),
    Quantity.LENGTH: (1.0, "tokens"),
}


def rows_sheet(title: str, rows: Iterable[Predicted]) -> Sheet:
    """Return predictions beside what was measured, a line each."""
    return Sheet(
        title=title,
        columns=("id", "source", "what was run", "measured", "predicted", "interval", "error"),
        rows=tuple(_row(each) for each in rows),
        texts=3,
    )


def _row(each: Predicted) -> tuple[str, ...]:
    row = each.row
    names = (row.text("id"), *source(row), _what(each))
    if each.skipped_because:
        return (*names, "", each.skipped_because, "", "")
    if each.quantity is Quantity.FITS:
        return (*names, _fits(each.measured), _fits(each.predicted), "", "")
    low, high = each.interval or (None, None)
    interval = f"{_amount(each, low)} to {_amount(each, high)}" if each.interval else ""
    amounts = (_amount(each, each.measured), _amount(each, each.predicted))
    return (*names, *amounts, interval, percent(each.error))


def _amount(each: Predicted, value: float | None) -> str:
    divisor, unit = UNITS[each.quantity]
    return f"{(value or 0.0) / divisor:.4g} {unit}"


def _fits(value: float | None) -> str:
    return "fits" if value else "does not fit"


def _what(each: Predicted) -> str:
    """Return model, sequences, devices and layout in short, as far as a row states them."""
    row = each.row
    parts = [row.text("model")]
    if row.text("seq_len"):
        parts.append(f"{row.text('global_batch', '?')} x {row.text('seq_len')} tokens")
    parts.append(f"{row.text('gpus', '?')} {row.text('accelerator')}")
    parts.append(row.text("precision_class"))
    parts.append(str(each.layout) if each.layout else "")
    return ", ".join(part for part in parts if part)
