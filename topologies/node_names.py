"""Names of nodes with ranges in brackets: ``gpu[0-7]``, ``host[0-1].nic[0,2,4-7]``."""

from __future__ import annotations

import re
from itertools import product
from math import prod

from topologies.errors import LONGEST_NAME, Problem, SpecError

#: More names than a graph of the largest size has nodes.
MOST_NAMES = 65_536
_RANGE = r"[0-9]{1,6}(?:-[0-9]{1,6})?"
_PIECE = re.compile(rf"([A-Za-z0-9_.-]+)|\[({_RANGE}(?:,{_RANGE})*)\]")


def expand(pattern: str, field: str) -> list[str]:
    """Return the names that a pattern stands for, the last bracket fastest.

    Parameters
    ----------
    pattern
        Letters, digits, ``_``, ``.`` and ``-``, and numbers and ranges in brackets.
    field
        Where it is, for messages.

    Raises
    ------
    SpecError
        If it is not of that form, counts downwards or stands for too many names.

    Examples
    --------
    >>> expand("host[0-1].gpu[0,2-3]", "nodes")[2:]
    ['host0.gpu3', 'host1.gpu0', 'host1.gpu2', 'host1.gpu3']
    """
    shown = pattern if len(pattern) <= LONGEST_NAME else f"{pattern[:LONGEST_NAME]}..."
    pieces = _pieces(pattern)
    if not pieces:
        mend = "a name such as gpu3, with ranges in brackets such as gpu[0-7] or gpu[0,2,4-7]"
        raise SpecError([Problem(field, shown, mend)])
    if any(not numbers for _, ranges in pieces for numbers in ranges):
        raise SpecError([Problem(field, shown, "a range counts upwards, as in gpu[0-7]")])
    sizes = [sum(map(len, ranges)) if ranges else 1 for _, ranges in pieces]
    if prod(sizes) > MOST_NAMES:
        raise SpecError([Problem(field, shown, f"at most {MOST_NAMES:,} names in one pattern")])
    spelt = [
        [str(number) for numbers in ranges for number in numbers] or [text]
        for text, ranges in pieces
    ]
    return ["".join(parts) for parts in product(*spelt)]


def _pieces(pattern: str) -> list[tuple[str, list[range]]]:
    """Return the pieces of a pattern, each text or ranges; nothing where it is malformed."""
    found, at = [], 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None:
            return []
        found.append(
            (piece[1] or "", [_range(text) for text in (piece[2] or "").split(",") if text])
        )
        at = piece.end()
    return found


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
