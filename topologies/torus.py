"""Tori: which slice a number of accelerators gets, and what groups get from its rings.

A group's ranks lie along dimensions of the slice, the last dimension fastest. Along a dimension
the group fills whole, and whose ends meet, a ring has two links per chip; elsewhere a line has
half of that. Dimensions work at once, so rates add; all-to-all is bound by the bisection of the
longest one (jax-ml/scaling-book@0819a7d sharding.md, lines 305-333 and 501-510).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.members import broadcast_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Slice:
    """A box of a torus.

    Parameters
    ----------
    dims
        Accelerators along each dimension, the last one fastest in the rank order.
    wraps
        For each dimension whether its ends meet.
    """

    dims: tuple[int, ...]
    wraps: tuple[bool, ...]

    @property
    def size(self) -> int:
        """Accelerators of the slice."""
        return prod(self.dims)

    @classmethod
    def of(cls, pod: tuple[int, ...], accelerators: int, wrap_multiple: int) -> Slice:
        """Return the most cubic slice of a pod.

        Parameters
        ----------
        pod
            Dimensions of the whole pod.
        accelerators
            Chips of the slice.
        wrap_multiple
            A dimension's ends meet where it is a multiple of this (4 for TPU v4 and v5p, whose
            optical switches join cubes of 4; 16 for v5e and v6e); 0 for never.

        Examples
        --------
        >>> Slice.of((16, 20, 28), 64, 4).dims
        (4, 4, 4)
        >>> Slice.of((16, 16), 32, 16)
        Slice(dims=(4, 8), wraps=(False, False))
        """
        dims = min(_boxes(tuple(sorted(pod)), accelerators), key=_elongation, default=None)
        if dims is None:  # no box of that size: a line, which every torus contains
            dims = (1,) * (len(pod) - 1) + (accelerators,)
        wraps = tuple(bool(wrap_multiple) and side % wrap_multiple == 0 for side in dims)
        return cls(dims, wraps)

    def rates(
        self, axes: Sequence[tuple[Array, Array]], link_Bps: float
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Return bytes/s of groups, which dimensions they take, and how far they are across.

        Parameters
        ----------
        axes
            Pairs of arrays ``(size, stride)`` that span the groups together.
        link_Bps
            One link, one way.

        Returns
        -------
        ring, torus, all_to_all, shift
            Bytes/s along one ring, along rings of all dimensions at once, of a rank to all peers,
            and to the next rank.
        taken
            Shape ``[dimensions, groups]``: 1 where the groups use a dimension.
        across
            Links from one end of a group to the other, along all dimensions one by one.
        """
        shape = broadcast_shape(axes)
        slowest, bisection = np.full(shape, np.inf), np.full(shape, np.inf)
        together, size, hops = np.zeros(shape), np.ones(shape), np.zeros(shape)
        shift = np.full(shape, link_Bps)
        taken = np.zeros((len(self.dims), *shape))
        step = self.size
        for place, (side, wrap) in enumerate(zip(self.dims, self.wraps, strict=True)):
            step //= side
            members, gap = _along(axes, float(step), float(side))
            used = members > 1
            round_the_end = wrap & (members * gap >= side)
            links = np.where(used, np.where(round_the_end, 2.0, 1.0) * link_Bps / gap, 0.0)
            slowest = np.where(used, np.minimum(slowest, links), slowest)
            together, size = together + links, size * members
            across = np.where(used, 4.0 * links / members, np.inf)
            bisection = np.minimum(bisection, across)
            shift = np.where(used, np.minimum(shift, link_Bps / gap), shift)
            taken[place] = used
            far = (members - 1.0) * gap
            hops = hops + np.where(used, np.where(round_the_end, members * gap / 2.0, far), 0.0)
        alone = together == 0
        torus, shift = np.where(alone, np.inf, together), np.where(alone, np.inf, shift)
        # Half of what a half of the chips sends crosses the middle; none goes to oneself.
        others = np.where(alone, 1.0, (size - 1.0) / size)
        return slowest, torus, bisection * others, shift, taken, hops


def _along(axes: Sequence[tuple[Array, Array]], step: float, side: float) -> tuple[Array, Array]:
    """Return members of a group along one dimension, and their distance in chips.

    Groups that lie between the members share the links, so a distance of 2 halves the rate.
    """
    shape = broadcast_shape(axes)
    members, gap = np.ones(shape), np.full(shape, np.inf)
    for size, stride in axes:
        inner = np.clip(np.floor(step / stride), 1.0, size)
        outer = np.clip(np.floor(step * side / stride), 1.0, size)
        here = outer / inner
        members = members * here
        gap = np.where(here > 1, np.minimum(gap, np.maximum(stride / step, 1.0)), gap)
    return members, np.where(np.isfinite(gap), gap, 1.0)


def _boxes(pod: tuple[int, ...], accelerators: int) -> list[tuple[int, ...]]:
    """Return every box of that many chips that a pod with sorted sides contains."""
    if len(pod) == 1:
        return [(accelerators,)] if accelerators <= pod[0] else []
    return [
        (side, *rest)
        for side in range(1, pod[0] + 1)
        if accelerators % side == 0
        for rest in _boxes(pod[1:], accelerators // side)
    ]


def _elongation(dims: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    return max(dims) / min(dims), dims
