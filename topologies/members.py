"""How many ranks of a group lie in one block of accelerators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]


def broadcast_shape(axes: Sequence[tuple[Array, Array]]) -> tuple[int, ...]:
    """Return the shape that sizes and strides of all axes share."""
    return np.broadcast_shapes(*(np.shape(part) for axis in axes for part in axis))


def members(block: float, axes: Sequence[tuple[Array, Array]]) -> Array:
    """Return how many ranks of a group lie in one block of `block` accelerators.

    Where blocks and groups do not divide each other (16 ranks in racks of 72), some groups lie
    across a border; the job waits for the one whose share on a side is smallest, which is the
    greatest common divisor of both extents.
    """
    found = np.ones(broadcast_shape(axes))
    for size, stride in axes:
        found = found * np.clip(np.floor(_share(block, size * stride) / stride), 1.0, size)
    return found


def _share(block: float, extent: Array) -> Array:
    """Return the accelerators of a block that the worst-placed group of an extent has there."""
    if not np.isfinite(block):
        return np.full_like(extent, np.inf)
    whole = (block % extent == 0) | (extent % block == 0)
    common = np.gcd(int(block), extent.astype(np.int64))
    return np.where(whole, block, common)
