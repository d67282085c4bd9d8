"""A table of text, for the screen and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of cells under a title.

    Parameters
    ----------
    title
        What it is of.
    columns
        Their heads; the first `texts` are text, the others are numbers.
    rows
        As many cells each as there are columns.
    texts
        Columns that are set left.
    note
        What a reader must know beside it, or empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    note: str = ""

    def to_screen(self) -> Table:
        """Return the table as rich prints it."""
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
        for place, name in enumerate(self.columns):
            left = place < self.texts
            table.add_column(
                name, justify="left" if left else "right", overflow="fold" if left else "ellipsis"
            )
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def to_markdown(self) -> str:
        """Return heading, note and table; bars and breaks in cells would end them."""
        rules = [":--" if place < self.texts else "--:" for place in range(len(self.columns))]
        lines = [_line(self.columns), _line(rules), *(_line(row) for row in self.rows)]
        parts = [f"## {self.title}", self.note, "\n".join(lines)]
        return "\n\n".join(part for part in parts if part) + "\n"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def percent(share: float | None) -> str:
    """Return a fraction as people read it; a dash where there is none.

    >>> percent(0.1234), percent(float("nan")), percent(None)
    ('12.3%', '-', '-')
    """
    return "-" if share is None or share != share else f"{share:.1%}"
