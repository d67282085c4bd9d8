"""Predicted beside measured: tables in the form that ``meshwright accuracy --json`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topologies.errors import Problem, SpecError
from ui.question import Document
from ui.uploads import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME = Path(__file__).parent.parent
#: Where this checkout's own table may lie.
COMMITTED = ("ACCURACY.json", "tests/data/accuracy.json")


@dataclass(frozen=True, slots=True)
class Errors:
    """How far off predictions are; fractions, None where nothing was predicted."""

    n: int
    median: float | None
    p90: float | None
    bias: float | None
    coverage: float | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Errors:
        """Return the errors of a record of such a table."""
        names = ("median_abs_error", "p90_abs_error", "bias", "interval_coverage")
        return cls(int(record.get("n") or 0), *(_number(record.get(name)) for name in names))


@dataclass(frozen=True, slots=True)
class Point:
    """One measured run with its prediction, in the units of its quantity."""

    id: str
    source: str
    quantity: str
    measured: float
    predicted: float
    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A table of measured runs as predicted.

    Parameters
    ----------
    overall, by_source
        Errors of all rows, and of each source's.
    points
        Rows that were predicted.
    skipped
        Rows that were not.
    """

    overall: Errors
    by_source: dict[str, Errors]
    points: tuple[Point, ...]
    skipped: int

    @classmethod
    def of(cls, content: Mapping[str, Any], name: str) -> Measured:
        """Return the table that an object of JSON holds.

        Raises
        ------
        SpecError
            If it is none.
        """
        kept = content.get("errors")
        if isinstance(kept, dict):  # the errors that tests hold predictions to: no rows
            parts = {name: errors for name, errors in kept.items() if name != "overall"}
            content = {"overall": kept.get("overall"), "by_source": parts, "rows": []}
        overall, sources = content.get("overall"), content.get("by_source")
        rows = content.get("rows")
        if not isinstance(overall, dict) or not isinstance(rows, list):
            mend = "what `meshwright accuracy --json` writes: overall, by_source, rows"
            raise SpecError([Problem("file", name, mend)])
        further = content.get("further_rows")
        rows = [*rows, *(further if isinstance(further, list) else [])]
        points = [_point(row) for row in rows if isinstance(row, dict)]
        known = [point for point in points if point is not None]
        by_source = sources if isinstance(sources, dict) else {}
        return cls(
            overall=Errors.of(overall),
            by_source={
                str(source): Errors.of(each)
                for source, each in by_source.items()
                if isinstance(each, dict)
            },
            points=tuple(known),
            skipped=len(rows) - len(known),
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the table of errors: all, then each source."""
        named = {"all": self.overall} | self.by_source
        return [
            {
                "runs": name,
                "n": errors.n,
                "median |error|, %": _percent(errors.median),
                "p90, %": _percent(errors.p90),
                "bias, %": _percent(errors.bias),
                "in the interval, %": _percent(errors.coverage),
            }
            for name, errors in named.items()
        ]


@cache
def committed() -> Measured | None:
    """Return this checkout's own table; None where it has none that can be read."""
    for name in COMMITTED:
        path = HOME / name
        if path.is_file():
            try:
                return Measured.of(read_object(Document(name, path.read_text("utf-8"))), name)
            except SpecError:
                return None
    return None


def _point(row: Mapping[str, Any]) -> Point | None:
    measured, predicted = _number(row.get("measured")), _number(row.get("predicted"))
    if row.get("quantity") == "fits":  # yes or no: nothing to set against each other
        return None
    if not measured or not predicted or measured <= 0 or predicted <= 0:
        return None
    interval = row.get("interval")
    bounds = [_number(each) for each in interval] if isinstance(interval, list) else []
    low, high = bounds if len(bounds) == 2 else (None, None)
    error = _number(row.get("error"))
    return Point(
        id=str(row.get("id", "")),
        source=str(row.get("source", "")),
        quantity=str(row.get("quantity", "time")),
        measured=measured,
        predicted=predicted,
        low=predicted if low is None else low,
        high=predicted if high is None else high,
        error=predicted / measured - 1.0 if error is None else error,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value == value else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
