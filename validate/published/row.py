"""Rows of a table of published runs, by the names of :mod:`validate.published.columns`."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topologies.errors import Problem, SpecError
from validate.published.columns import (
    NONE_AT_ZERO,
    SEQUENCE_PARALLEL,
    TRAINING,
    TRAINING_RUN,
    meant_by,
    names_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


#: No count of a run is larger; layouts hold theirs in 32 bits.
LARGEST = 2**31 - 1
#: No number of a run is further from one, in any unit; errors relative to one stay finite.
FURTHEST = 1e30
_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


class UnexpressedError(Exception):
    """Why a row cannot be predicted."""


#: What predicting a row may end in: what it says is not modelled, or cannot be.
UNPREDICTED = (UnexpressedError, SpecError)


def reason_of(error: Exception) -> str:
    """Return in words why a row was not predicted."""
    if isinstance(error, SpecError):
        return "; ".join(map(str, error.problems))
    return str(error)


@dataclass(frozen=True, slots=True)
class Row:
    """One published run.

    Parameters
    ----------
    cells
        What its columns say, by the names used here; without those that are empty.
    weight
        One over the rows of its file that repeat the same configuration.
    file
        The table that it stands in.
    kind
        What was run: ``training_run``, or the scope that a table of sequence parallelism states.
    """

    cells: Mapping[str, str]
    weight: float
    file: str = ""
    kind: str = TRAINING_RUN

    def text(self, name: str, otherwise: str = "") -> str:
        """Return what a column says."""
        return self.cells.get(name, otherwise)

    def number(self, name: str, otherwise: float | None = None) -> float:
        """Return a column's number.

        Raises
        ------
        UnexpressedError
            If it is not there, nor otherwise said, or is no number, or a zero that says nothing.
        """
        text = self.cells.get(name)
        if text is None:
            if otherwise is None:
                raise UnexpressedError(f"{name} is not stated")
            return otherwise
        found = float(text) if _NUMBER.fullmatch(text) else math.inf
        if not math.isfinite(found):
            raise UnexpressedError(f"{name} is no number: {text[:40]}")
        if not found and name not in NONE_AT_ZERO:
            raise UnexpressedError(f"{name} is zero")
        if found and not 1.0 / FURTHEST < found < FURTHEST:
            raise UnexpressedError(f"{name} cannot be {text[:40]}")
        return found

    def count(self, name: str, otherwise: int | None = None) -> int:
        """Return a column's whole number; errors as of :meth:`number`."""
        found = self.number(name, otherwise)
        if found != int(found):
            raise UnexpressedError(f"{name} is no whole number: {found}")
        if found > LARGEST:
            raise UnexpressedError(f"{name} is too large: {found:g}")
        return int(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file.

    Parameters
    ----------
    file
        Its name.
    rows
        All of them, in order.
    missing
        Columns of its schema that the file does not have.
    unread
        Columns that are none of its schema but look like missing ones, with those.
    """

    file: str
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    unread: Mapping[str, tuple[str, ...]]

    @property
    def graded(self) -> bool:
        """Whether any row says how complete it is."""
        return any(row.text("grade") for row in self.rows)


def read_table(path: str) -> Table:
    """Return the rows of a CSV file of either schema.

    Raises
    ------
    SpecError
        If it cannot be read, is of no known schema, or has no rows.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            header, lines = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError([Problem("ROWS.csv", path, f"cannot be read: {error}")]) from error
    names = names_of(header, path)
    if not lines:
        raise SpecError([Problem("ROWS.csv", path, "a row for each run below its header")])
    found = [
        {name: cell for name, column in names.items() if (cell := (line.get(column) or "").strip())}
        for line in lines
    ]
    kinds = [
        TRAINING_RUN if names["id"] == TRAINING else cells.get("task", SEQUENCE_PARALLEL)
        for cells in found
    ]
    repeats = Counter(cells.get("repeats", str(at)) for at, cells in enumerate(found))
    file = Path(path).name
    return Table(
        file=file,
        rows=tuple(
            Row(cells, 1.0 / repeats[cells.get("repeats", str(at))], file, kind)
            for at, (cells, kind) in enumerate(zip(found, kinds, strict=True))
        ),
        missing=tuple(column for column in names.values() if column not in header),
        unread=meant_by(header, names),
    )
