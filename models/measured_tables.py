"""Tables of measured collectives, of the shapes in which others publish them.

``topologies/data/measured/shapes.yaml`` says of each shape which columns hold what, and what names
of systems and collectives mean in the catalogue. Rows of anything else are left out and counted.
"""

from __future__ import annotations

import csv
import gzip
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.measured_collectives import MEASURED, Measured
from topologies.collective import Collective
from topologies.errors import Problem, SpecError
from topologies.schema import Strict, checked
from topologies.units import MICRO
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHAPES = MEASURED / "shapes.yaml"
#: Column of the package's own table that no other shape has.
_OWN = "held_out"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file that the catalogue can predict.

    Parameters
    ----------
    shape
        What the file looks like.
    measured
        Its rows.
    left_out
        How many rows are of systems or operations that the shape does not name, or of a network
        that is not the catalogue's.
    """

    shape: str
    measured: Measured
    left_out: int


class _Fields(Strict):
    system: str
    op: str
    bytes: str
    time: str
    gpus: str = ""
    nodes: str = ""
    each: str = ""
    type: str = ""


class _Shape(Strict):
    columns: list[str]
    parts: dict[str, str] = Field(default_factory=dict)
    fields: _Fields
    bytes_unit: float = 1.0
    time_unit: float = MICRO
    unswitched: list[str] = Field(default_factory=list)
    harness: str
    harnesses: dict[str, str] = Field(default_factory=dict)
    ops: dict[str, str]
    systems: dict[str, str]
    one_node: list[str] = Field(default_factory=list)

    def row(self, row: Mapping[str, str]) -> tuple[str, tuple[str, ...], float, float] | None:
        """Return system, case, bytes and seconds of a row; ``None`` where it is not known.

        Raises
        ------
        ValueError
            If what should be a number is none.
        """
        found = dict(row)
        if None in found.values():
            raise ValueError("has fewer values than columns")
        for column, pattern in self.parts.items():
            match = re.match(pattern, row[column])
            if match is None:
                return None
            found |= match.groupdict()
        fields, system = self.fields, found[self.fields.system]
        op, time = found[fields.op], found[fields.time]
        if system not in self.systems or op not in self.ops or not time:
            return None
        nodes = int(float(found[fields.nodes])) if fields.nodes else 1
        gpus = int(float(found[fields.gpus])) if fields.gpus else nodes * int(found[fields.each])
        if nodes > 1 and system in self.one_node:
            return None
        unswitched = bool(fields.type) and found[fields.type] in self.unswitched
        switch = "0" if unswitched else "1"
        case = (self.systems[system], str(nodes), str(gpus), Collective(self.ops[op]).value, switch)
        return (
            system,
            (*case, self.harnesses.get(system, self.harness)),
            float(found[fields.bytes]) * self.bytes_unit,
            float(time) * self.time_unit,
        )


class _Shapes(Strict):
    shapes: dict[str, _Shape]


def read_table(path: Path) -> Table:
    """Return the rows of a CSV file, packed or not, of any known shape.

    Raises
    ------
    SpecError
        If it cannot be read, is of no known shape, or has no row that can be predicted.
    """
    header, rows = _rows(path)
    if _OWN in header:
        return Table("meshwright", Measured.read(path), 0)
    name = next((name for name, shape in _shapes().items() if {*shape.columns} <= header), None)
    if name is None:
        known = "; ".join(", ".join(shape.columns) for shape in _shapes().values())
        mend = f"no table of a known shape, which has columns {known}"
        raise SpecError([Problem("FILE", path, mend)])
    found = []
    for line, row in enumerate(rows, start=2):
        try:
            found.append(_shapes()[name].row(row))
        except (TypeError, ValueError) as error:
            raise SpecError([Problem("FILE", path, f"line {line}: {error}")]) from error
    known_rows = [row for row in found if row is not None]
    if not known_rows:
        systems = ", ".join(_shapes()[name].systems)
        mend = f"no row of a known system and collective; systems of this shape are {systems}"
        raise SpecError([Problem("FILE", path, mend)])
    return Table(name, _measured(known_rows), len(found) - len(known_rows))


def _rows(path: Path) -> tuple[set[str], list[dict[str, str]]]:
    """Return the names of columns, and the rows."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError([Problem("FILE", path, f"cannot be read as CSV: {error}")]) from error
    return set(reader.fieldnames or ()), rows


def _measured(rows: Sequence[tuple[str, tuple[str, ...], float, float]]) -> Measured:
    """Return rows as a table; nothing of them was fitted as far as is known."""
    cases: dict[tuple[str, ...], int] = {}
    return Measured(
        system=np.array([system for system, *_ in rows]),
        case=np.array([cases.setdefault(case, len(cases)) for _, case, *_ in rows], dtype=np.intp),
        nbytes=np.array([nbytes for *_, nbytes, _ in rows]),
        seconds=np.array([seconds for *_, seconds in rows]),
        held_out=np.ones(len(rows), dtype=np.bool_),
        cases=tuple(cases),
    )


@cache
def _shapes() -> dict[str, _Shape]:
    return checked(_Shapes, {"shapes": dict(read_yaml(SHAPES))}, SHAPES.name).shapes
