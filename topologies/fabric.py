"""What a group of ranks gets from a cluster's links while every like group works at once.

A layout's axis is a set of groups of the same *size* whose ranks lie *stride* apart (stride 1 is
the innermost axis of the rank order). All groups of an axis run their collective together, so a
group's rate on a tier is its share of that tier, not the whole.

For tier ``i`` let ``g`` be the members of one group inside a block of the tier below. The block
holds ``span / g`` groups and has ``span`` accelerators' worth of uplink, hence

* ring collectives cross tier ``i`` at ``g * Bps`` (all network cards of a node work for the ring);
* all-to-all moves ``(n - g) / n`` of each rank's bytes over its own ``Bps``;
* a shift to the next rank crosses through one member: ``min(peer_Bps, g * Bps)``.

The slowest tier a group touches sets its rate. Bytes over a mesh go over the links to the other
``n - 1`` members; over a torus, along the dimensions the group fills (:mod:`topologies.torus`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.cluster import Cluster, Tier

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLinks:
    """What one rank of each group gets; arrays of one shape.

    Parameters
    ----------
    size
        Ranks in the group.
    ring_Bps, all_to_all_Bps, shift_Bps
        Bytes/s per rank: along a ring, towards all peers, and to the next rank only. Infinite for
        groups of one.
    ring_latency_s
        Seconds for ``size - 1`` ring steps, each waiting for its slowest hop.
    tree_latency_s
        Seconds for ``log2(size)`` steps, the far ones first.
    hop_latency_s
        Seconds of the slowest single hop.
    scale_out
        Whether the group leaves the fast domain.
    """

    size: Array
    ring_Bps: Array
    all_to_all_Bps: Array
    shift_Bps: Array
    ring_latency_s: Array
    tree_latency_s: Array
    hop_latency_s: Array
    scale_out: NDArray[np.bool_]

    def take(self, index: NDArray[np.intp]) -> GroupLinks:
        """Return the links of some groups, in the order of `index`."""
        return GroupLinks(**{name: getattr(self, name)[index] for name in self.__slots__})


class Fabric:
    """The links of one cluster, asked for by groups.

    Parameters
    ----------
    cluster
        Tiers from the inside out.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def links(self, *axes: tuple[Array, Array]) -> GroupLinks:
        """Return what groups spanned by one or more axes get.

        Parameters
        ----------
        axes
            Pairs of arrays ``(size, stride)``; several pairs make one group over several axes,
            such as data and context parallel ranks together.

        Returns
        -------
        GroupLinks
            Arrays of the broadcast shape of `axes`.

        Examples
        --------
        >>> import numpy as np
        >>> from topologies import load_cluster
        >>> fabric = Fabric(load_cluster("h100-dgx:4"))
        >>> links = fabric.links((np.array([8.0, 4.0]), np.array([1.0, 8.0])))
        >>> bool(links.ring_Bps[0] > 5 * links.ring_Bps[1])  # NVLink against one network card
        True
        """
        size = _members(np.inf, axes)
        state = _Walk.start(size)
        below = np.ones_like(size)
        for tier in self.cluster.tiers:
            inside = size if tier.spans is None else _members(float(tier.spans), axes)
            state.cross(tier, below, inside, self._rates(tier, axes, below, inside))
            below = np.maximum(inside, below)
        return state.links()

    def _rates(
        self, tier: Tier, axes: Sequence[tuple[Array, Array]], below: Array, inside: Array
    ) -> tuple[Array, Array, Array]:
        """Return a tier's rates per rank: along rings, towards all peers, to the next rank."""
        usable = tier.usable_fraction.value
        rate, peer = tier.Bps.value * usable, tier.peer_Bps.value * usable
        if tier.fabric == "torus":
            return self.cluster.torus(tier).rates(axes, peer)
        links = np.full_like(inside, rate)
        if tier.fabric == "mesh":  # one Hamiltonian ring per link of a full mesh
            links = np.minimum(rate, np.maximum(inside - 1.0, 1.0) * peer)
        return links * below, links, np.minimum(peer, below * rate)


def _members(block: float, axes: Sequence[tuple[Array, Array]]) -> Array:
    """Return how many ranks of a group lie in one block of `block` accelerators.

    Where blocks and groups do not divide each other (16 ranks in racks of 72), some groups lie
    across a border; the job waits for the one whose share on a side is smallest, which is the
    greatest common divisor of both extents.
    """
    members = np.ones(np.broadcast_shapes(*(np.shape(part) for axis in axes for part in axis)))
    for size, stride in axes:
        members = members * np.clip(np.floor(_share(block, size * stride) / stride), 1.0, size)
    return members


def _share(block: float, extent: Array) -> Array:
    """Return the accelerators of a block that the worst-placed group of an extent has there."""
    if not np.isfinite(block):
        return np.full_like(extent, np.inf)
    whole = (block % extent == 0) | (extent % block == 0)
    common = np.gcd(int(block), extent.astype(np.int64))
    return np.where(whole, block, common)


@dataclass(slots=True)
class _Walk:
    """The rates found so far, tier by tier; the only mutable thing here, gone after the walk."""

    size: Array
    ring_Bps: Array
    all_to_all_Bps: Array
    shift_Bps: Array
    ring_latency_s: Array
    tree_latency_s: Array
    hop_latency_s: Array
    scale_out: NDArray[np.bool_]

    @classmethod
    def start(cls, size: Array) -> _Walk:
        infinite = np.full_like(size, np.inf)
        zero = np.zeros_like(size)
        flags = np.zeros(size.shape, dtype=np.bool_)
        return cls(size, infinite, infinite, infinite, zero, zero, zero, flags)

    def cross(
        self, tier: Tier, below: Array, inside: Array, rates: tuple[Array, Array, Array]
    ) -> None:
        """Take in one tier: `below` members of each group lie in the tier under it."""
        used = inside > below
        ring, everywhere, shift = rates
        leaving = (self.size - below) / np.maximum(self.size - 1.0, 1.0)
        everywhere = everywhere / np.maximum(leaving, 1e-12)
        self.ring_Bps = np.where(used, np.minimum(self.ring_Bps, ring), self.ring_Bps)
        self.all_to_all_Bps = np.where(
            used, np.minimum(self.all_to_all_Bps, everywhere), self.all_to_all_Bps
        )
        self.shift_Bps = np.where(used, np.minimum(self.shift_Bps, shift), self.shift_Bps)
        hops = np.where(used, self.size / below - self.size / inside, 0.0)
        doublings = np.where(used, np.log2(inside / below), 0.0)
        latency = tier.latency_s.value
        self.ring_latency_s = self.ring_latency_s + hops * latency
        self.tree_latency_s = self.tree_latency_s + doublings * latency
        self.hop_latency_s = np.where(
            used, np.maximum(self.hop_latency_s, latency), self.hop_latency_s
        )
        if tier.scale_out:
            self.scale_out = self.scale_out | used

    def links(self) -> GroupLinks:
        return GroupLinks(**{name: getattr(self, name) for name in self.__slots__})
