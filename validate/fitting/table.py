"""A table of measured kernels as it lies in a file: named columns of text."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from validate.fitting.sample import Floats

#: Where the first row of columns names further columns, and the second what stands in them.
NESTED = ("columns", "values")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Parameters
    ----------
    name
        Of its file, without endings.
    header
        Its columns.
    rows
        Their texts, by column.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """Read a CSV file, packed with gzip or not.

        Raises
        ------
        SpecError
            If it cannot be read, or has no rows.
        """
        path = Path(path)
        try:
            with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
                reader = csv.DictReader(file)
                rows = tuple(reader)
                header = tuple(reader.fieldnames or ())
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SpecError([Problem("TABLE", path, f"cannot be read: {error}")]) from error
        if not rows:
            raise SpecError([Problem("TABLE", path, "no rows: give a CSV file with a header")])
        return cls(name=path.name.split(".")[0], header=header, rows=rows)

    def where(self, **wanted: str) -> Table:
        """Return the rows whose columns hold these texts."""
        kept = (row for row in self.rows if all(row[key] == text for key, text in wanted.items()))
        return Table(name=self.name, header=self.header, rows=tuple(kept))

    def number(self, column: str) -> Floats:
        """Return a column's numbers; not a number where it is empty."""
        try:
            return np.array([float(row[column] or "nan") for row in self.rows])
        except ValueError as error:
            raise SpecError([Problem(f"{self.name}: {column}", error, "not a number")]) from error

    def text(self, column: str) -> list[str]:
        """Return a column's texts."""
        return [row[column] for row in self.rows]

    def unnested(self) -> Table:
        """Return rows that name their own columns, all alike, as a table of those columns."""
        columns, values = NESTED
        header = tuple(self.rows[0][columns].split("|"))
        rows = tuple(
            dict(zip(header, row[values].split("|"), strict=True))
            for row in self.rows
            if row[columns] == self.rows[0][columns]
        )
        return Table(name=self.name, header=header, rows=rows)
