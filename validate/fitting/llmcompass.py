"""Products of PrincetonUniversity/LLMCompass@2e015fd (BSD-3-Clause)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topologies.units import MILLI
from validate.fitting.labels import is_of
from validate.fitting.sample import PRODUCT, Sample
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "PrincetonUniversity/LLMCompass@2e015fd"


def products(table: Table, device: str) -> Iterator[Sample]:
    """Yield products; which of two columns is which is not told, but both are alike."""
    mine = tuple(row for row in table.rows if is_of(row["gpu"], device))
    if mine:
        table = Table(name=table.name, header=table.header, rows=mine)
        columns = {"m": "m", "n": "k_or_n", "k": "n_or_k"}
        shapes = {name: table.number(column) for name, column in columns.items()}
        seconds = table.number("ms") * MILLI
        yield Sample(kind=PRODUCT, source=SOURCE, shapes=shapes, seconds=seconds)
