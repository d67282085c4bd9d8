"""Which rank orders are the same layout: an axis of degree 1 has no place in the order."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import RankOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.layout import Bools, Ints, LayoutBatch

#: Axes whose order differs; tp is always the innermost.
MOVED = ("cp", "dp", "pp")


def _first_alike() -> Ints:
    """Return for each use of :data:`MOVED` and each order the first that arranges them alike."""
    table = np.zeros((2, 2, 2, len(RankOrder)), dtype=np.int32)
    for used in product((0, 1), repeat=len(MOVED)):
        first: dict[tuple[str, ...], RankOrder] = {}
        for order in RankOrder:
            kept = tuple(a for a in order.axes if a in MOVED and used[MOVED.index(a)])
            table[(*used, order)] = first.setdefault(kept, order)
    return table


_FIRST_ALIKE = _first_alike()


def first_alike(batch: LayoutBatch, order: Ints | int | None = None) -> Ints:
    """Return the first rank order that is the same layout.

    Parameters
    ----------
    batch
        Layouts, whose degrees decide.
    order
        Rank orders to look up in place of the layouts' own.
    """
    wanted = batch.rank_order if order is None else order
    used = tuple((getattr(batch, axis) > 1).astype(np.int32) for axis in MOVED)
    alike: Ints = _FIRST_ALIKE[(*used, wanted)]
    return alike


def in_order(batch: LayoutBatch, allowed: Iterable[int]) -> Bools:
    """Return which layouts have one of the allowed rank orders, whatever it is called."""
    own = first_alike(batch)
    found = np.zeros(len(batch), dtype=np.bool_)
    for order in allowed:
        found |= own == first_alike(batch, order)
    return found


def distinct_orders(
    orders: Iterable[int], allowed: Iterable[int], *, cp: int, dp: int, pp: int
) -> list[int]:
    """Return the rank orders that differ on a mesh, of those that do not the first.

    Parameters
    ----------
    orders
        Orders to choose from.
    allowed
        Orders that are run; one that differs from all of them is left out.
    cp, dp, pp
        The mesh.

    Examples
    --------
    >>> distinct_orders(RankOrder, RankOrder, cp=1, dp=8, pp=2)
    [0, 1]
    >>> distinct_orders(RankOrder, RankOrder, cp=4, dp=8, pp=1)
    [0, 3]
    >>> distinct_orders(RankOrder, [0, 1], cp=4, dp=8, pp=1)
    [0]
    """
    alike = _FIRST_ALIKE[int(cp > 1), int(dp > 1), int(pp > 1)].tolist()
    run = {alike[order] for order in allowed}
    first: dict[int, int] = {}
    for order in orders:
        if alike[order] in run:
            first.setdefault(alike[order], int(order))
    return list(first.values())
