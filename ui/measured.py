"""Predicted beside measured: tables in the form that ``meshwright accuracy --json`` writes."""

from __future__ import annotations

import re
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
#: This checkout's own table: ``meshwright accuracy ... --json ACCURACY.json`` writes it.
COMMITTED = HOME / "ACCURACY.json"
#: What is drawn, in the order of the page; whether a run fits is yes or no.
QUANTITIES = ("time", "memory", "length")
#: Nothing that anyone measures is larger.
FURTHEST = 1e30


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
        return cls(int(_number(record.get("n")) or 0), *(_number(record.get(n)) for n in names))


@dataclass(frozen=True, slots=True)
class Point:
    """One measured run with its prediction, in the units of its quantity."""

    id: str
    source: str
    kind: str
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
    overall, by_source, by_kind
        Errors of all rows, of each source's, and of each kind's.
    points
        Rows that were predicted.
    skipped
        Rows that were not.
    """

    overall: Errors
    by_source: dict[str, Errors]
    by_kind: dict[str, Errors]
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
        overall, sources = content.get("overall"), content.get("by_source")
        parts = content.get("parts")
        kinds = parts.get("kind") if isinstance(parts, dict) else None
        rows = content.get("rows")
        if not isinstance(overall, dict) or not isinstance(rows, list):
            mend = "what `meshwright accuracy --json` writes: overall, by_source, rows"
            raise SpecError([Problem("file", name, mend)])
        further = content.get("further_rows")
        rows = [*rows, *(further if isinstance(further, list) else [])]
        points = [_point(row) for row in rows if isinstance(row, dict)]
        known = [point for point in points if point is not None]
        return cls(
            overall=Errors.of(overall),
            by_source=_errors(sources),
            by_kind=_errors(kinds),
            points=tuple(known),
            skipped=len(rows) - len(known),
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the table of errors of times: all, then each kind of run, then each source."""
        named = [("", "all", self.overall)]
        named += [("kind", name, errors) for name, errors in self.by_kind.items()]
        named += [("source", name, errors) for name, errors in self.by_source.items()]
        return [
            {
                "by": what,
                "runs": name.replace("_", " ") if what == "kind" else name,
                "n": errors.n,
                "median |error|, %": _percent(errors.median),
                "p90, %": _percent(errors.p90),
                "bias, %": _percent(errors.bias),
                "in the interval, %": _percent(errors.coverage),
            }
            for what, name, errors in named
        ]

    def picked(self, kind: str, source: str) -> tuple[Point, ...]:
        """Return the runs of a kind and of a source; of all, where one is empty."""
        return tuple(
            point
            for point in self.points
            if kind in ("", point.kind) and source in ("", point.source)
        )


@cache
def committed() -> Measured | None:
    """Return this checkout's own table; None where it has none."""
    if not COMMITTED.is_file():
        return None
    document = Document(COMMITTED.name, COMMITTED.read_text("utf-8"))
    return Measured.of(read_object(document), document.name)


def publication(source: str) -> str:
    """Return what a source is called in tables of errors: a repository at a commit, or its name.

    >>> publication("someone/code@1a2b3c4d5e6f7a8b:bench/README.md")
    'someone/code@1a2b3c4d5e'
    """
    found = re.match(r"([^\s:@]+@[0-9a-f]{1,10})[0-9a-f]*(\^?):", source)
    return "".join(found.groups()) if found else source


def _errors(group: object) -> dict[str, Errors]:
    named = group.items() if isinstance(group, dict) else ()
    return {str(name): Errors.of(each) for name, each in named if isinstance(each, dict)}


def _point(row: Mapping[str, Any]) -> Point | None:
    measured, predicted = _number(row.get("measured")), _number(row.get("predicted"))
    quantity = str(row.get("quantity", "time"))
    if quantity not in QUANTITIES:
        return None
    if not measured or not predicted or measured <= 0 or predicted <= 0:
        return None
    interval = row.get("interval")
    bounds = [_number(each) for each in interval] if isinstance(interval, list) else []
    low, high = bounds if len(bounds) == 2 else (None, None)
    error = _number(row.get("error"))
    return Point(
        id=str(row.get("id", "")),
        source=publication(str(row.get("source", ""))),
        kind=str(row.get("kind", "")),
        quantity=quantity,
        measured=measured,
        predicted=predicted,
        low=predicted if low is None else low,
        high=predicted if high is None else high,
        error=predicted / measured - 1.0 if error is None else error,
    )


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and abs(value) < FURTHEST:  # what is no number is not
        return float(value)
    return None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
