"""Tables on narrow screens: whole columns give way, and no name or number is broken."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import JustifyMethod

    Rows = Sequence[Mapping[str, object]]

GAP = 2
#: Least width of text whose words may be broken.
LEAST_TEXT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How the columns of a table behave; those of which nothing is said hold figures.

    Parameters
    ----------
    names
        Columns that begin at the left, like words, but stay whole, like figures.
    words
        Columns of words, which wrap between them.
    text
        Columns of sentences and paths, where a word may be longer than any screen is wide: these
        are broken.
    dispensable
        What a narrow screen leaves out, the first first.
    """

    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    dispensable: tuple[str, ...] = ()

    def shown(self, rows: Rows, width: int) -> list[str]:
        """Return the columns that a screen has room for, in their order."""
        shown = list(rows[0])
        for name in self.dispensable:
            if name in shown and len(shown) > 1 and not self.fits(rows, shown, width):
                shown.remove(name)
        return shown

    def fits(self, rows: Rows, shown: Sequence[str], width: int) -> bool:
        """Return whether a screen has room for some columns, their headings folded if need be."""
        return self._least(rows, shown, folded=True) < width

    def table(self, rows: Rows, width: int) -> Table:
        """Return the table of some rows for a screen; what fits on none is left to its edge."""
        shown = self.shown(rows, width)
        folded = self._least(rows, shown, folded=False) >= width
        widths = self._widths(rows, shown, width, folded=folded)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in shown:
            heading = escape(_folded(name, widths[name]) if folded else name)
            if self._wraps(name):
                table.add_column(heading, width=widths[name], overflow="fold")
            else:
                side: JustifyMethod = "left" if name in self.names else "right"
                table.add_column(heading, justify=side, no_wrap=True, min_width=widths[name])
        for row in rows:
            table.add_row(*(escape(str(row[name])) for name in shown))
        return table

    def parts(self, rows: Rows, width: int) -> Iterator[Table]:
        """Yield tables one below the other, so that a narrow screen leaves nothing out."""
        while rows[0]:
            shown = self.shown(rows, width)
            yield self.table(rows, width)
            rows = [{key: row[key] for key in row if key not in shown} for row in rows]

    def _wraps(self, name: str) -> bool:
        return name in self.words or name in self.text

    def _least(self, rows: Rows, shown: Sequence[str], *, folded: bool) -> int:
        """Return how wide a table of some columns is where words wrap."""
        widths = (self._least_width(rows, name, folded=folded) for name in shown)
        return sum(widths) + GAP * (len(shown) - 1)

    def _least_width(self, rows: Rows, name: str, *, folded: bool) -> int:
        """Return the least width of a column: of its longest cell or word."""
        cells = _cells(rows, name)
        if name in self.text:
            return min(max(map(len, cells)), LEAST_TEXT)
        if name in self.words:
            return max(len(word) for cell in cells for word in cell.split())
        heading = max(map(len, name.split())) if folded else len(name)
        return max(heading, *map(len, cells[1:]))

    def _widths(
        self, rows: Rows, shown: Sequence[str], width: int, *, folded: bool
    ) -> dict[str, int]:
        """Return the width of every column: those that wrap share what the others leave.

        None of them is wider than the widest that has to wrap, beyond its longest word. (Left to
        itself, rich takes from all columns alike, and breaks words.)
        """
        least = {name: self._least_width(rows, name, folded=folded) for name in shown}
        whole = {name: max(map(len, _cells(rows, name))) for name in shown if self._wraps(name)}
        level, room = 0, width - GAP * (len(shown) - 1)
        found = least
        while sum(found.values()) < room and level < max(whole.values(), default=0):
            level += 1
            wider = {name: max(least[name], min(level, own)) for name, own in whole.items()}
            if sum((least | wider).values()) > room:
                break
            found = least | wider
        return found


def _cells(rows: Rows, name: str) -> list[str]:
    """Return the heading and the cells of a column."""
    return [name, *(str(row[name]) for row in rows)]


def _folded(heading: str, width: int) -> str:
    return fill(heading, width, break_long_words=False)
