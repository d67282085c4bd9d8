"""Products of chunked scans: what happens inside chunks of tokens, and between their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.operation import Compute, Kind

if TYPE_CHECKING:
    from models.layout import Array
    from models.shape import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkProduct:
    """One product of all chunks and heads, which runs at the rate of a matrix product.

    Parameters
    ----------
    name
        What it is.
    rows, columns, depth
        Of all chunks and heads together, of one, and what is summed over.
    nbytes
        Memory traffic forward.
    share
        Of it that is done: what a causal mask leaves where kernels skip the rest.
    backward
        FLOP and traffic of the backward pass over the forward one's: two gradients, and once more
        where its result is not kept.
    launches
        Kernels forward: none where it shares one with the product before.
    """

    name: str
    rows: Array
    columns: Array | float
    depth: Array | float
    nbytes: Array
    share: Array | float = 1.0
    backward: float = 2.0
    launches: Array | float = 1.0

    def compute(self, shapes: Shapes, *, backward: bool) -> Compute:
        """Return it as the inventory counts it, in one of the passes."""
        times = self.backward if backward else 1.0
        columns, depth, launches = (
            np.broadcast_to(np.asarray(each, float), (len(shapes),))
            for each in (self.columns, self.depth, self.launches)
        )
        return Compute(
            name=self.name,
            kind=Kind.GEMM,
            flop=2.0 * self.rows * columns * depth * self.share * times,
            nbytes=self.nbytes * times,
            launches=launches * np.floor(times),
            rows=self.rows,
            columns=columns,
            depth=depth,
            selective=shapes.pick(0.0, 1.0),
        )
