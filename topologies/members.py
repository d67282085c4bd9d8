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


def peers_taken(axes: Sequence[tuple[Array, Array]], span: int) -> tuple[Array, Array]:
    """Return which links of a full mesh groups take: those between members so far apart.

    Parameters
    ----------
    axes
        Pairs of arrays ``(size, stride)``.
    span
        Accelerators of the mesh.

    Returns
    -------
    all_pairs, neighbours
        Shape ``[span - 1, groups]``: 1 where any two members, or one and the next round the end,
        are 1, 2, ... accelerators apart.
    """
    shape = broadcast_shape(axes)
    apart = np.zeros((span, *shape), dtype=np.bool_)
    apart[0] = True
    for size, stride in axes:
        nearer = apart.copy()
        for steps in range(1, span):
            fits = (steps % stride == 0) & (steps < size * stride)
            for distance in range(span):
                apart[abs(distance - steps)] |= fits & nearer[distance]
                if distance + steps < span:
                    apart[distance + steps] |= fits & nearer[distance]
    size, stride = axes[0]
    apart_by = np.arange(1.0, span).reshape(-1, *(1 for _ in shape))
    next_one = (apart_by == stride) | (apart_by == (size - 1.0) * stride)
    return apart[1:] * 1.0, np.broadcast_to(next_one & (size > 1), apart[1:].shape) * 1.0


def _share(block: float, extent: Array) -> Array:
    """Return the accelerators of a block that the worst-placed group of an extent has there."""
    if not np.isfinite(block):
        return np.full_like(extent, np.inf)
    whole = (block % extent == 0) | (extent % block == 0)
    common = np.gcd(int(block), extent.astype(np.int64))
    return np.where(whole, block, common)
