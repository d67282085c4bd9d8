"""Which rank orders are one layout, written out by hand; several test modules ask."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import LayoutBatch
    from models.rules.rule import Mask

#: What each rank order says of the axes that it moves, innermost first, written by hand.
MOVED = (
    ("cp", "dp", "pp"),
    ("cp", "pp", "dp"),
    ("pp", "cp", "dp"),
    ("dp", "cp", "pp"),
    ("dp", "pp", "cp"),
    ("pp", "dp", "cp"),
)


def first_of_its_kind(batch: LayoutBatch) -> Mask:
    """Return which layouts have the first rank order that puts their axes as it does."""
    used = [(getattr(batch, axis) > 1).astype(int) for axis in ("cp", "dp", "pp")]
    first: Mask = FIRST[(*used, batch.rank_order)]
    return first


FIRST = np.zeros((2, 2, 2, len(MOVED)), dtype=np.bool_)
for used in product((0, 1), repeat=3):
    names = [axis for axis, there in zip(("cp", "dp", "pp"), used, strict=True) if there]
    said = [tuple(axis for axis in order if axis in names) for order in MOVED]
    FIRST[used] = [said.index(arranged) == place for place, arranged in enumerate(said)]
