"""What a group of ranks gets from a cluster's links while every like group works at once.

A layout's axis is a set of groups of the same *size* whose ranks lie *stride* apart (stride 1 is
the innermost axis of the rank order). All groups of an axis run their collective together, so a
group's rate on a tier is its share of that tier, not the whole.

For tier ``i`` let ``g`` be the members of one group inside a block of the tier below, and ``K``
the blocks below that the group touches in one block of this tier. A block below holds ``span / g``
groups and has ``span`` accelerators' worth of uplink, hence

* rings cross tier ``i`` at ``g * Bps`` (all network cards of a node work for the ring) with
  ``(n - 1) / n`` of the bytes: what NCCL does for all-gather and reduce-scatter;
* an all-reduce over nodes moves ``2 (K - 1) / K`` of the bytes over the same ``g * Bps``, as trees
  and hierarchical rings do (NCCL's tuning model counts trees so; two p4de nodes reach 41.8 GB/s
  over 50 GB/s of cards, which a flat ring, ``2 (n - 1) / n`` of the bytes, could not);
* all-to-all moves ``(n - g) / n`` of each rank's bytes over its own ``Bps``;
* a shift to the next rank crosses through one member: ``min(peer_Bps, g * Bps)``.

The slowest tier a group touches sets its rate. Bytes over a mesh go over the links to the other
``n - 1`` members; over a torus, along the dimensions the group fills (:mod:`topologies.torus`);
through host memory (`staged`), at ``Bps`` whatever the pattern.
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
    ring_Bps, reduce_Bps, all_to_all_Bps, shift_Bps
        Bytes/s per rank: along a ring, of an all-reduce (counted as on a ring, ``2 (n - 1) / n``
        of the bytes), towards all peers, and to the next rank only. Infinite for groups of one.
    inside_Bps
        Of the ring inside the fast domain; infinite where the group has no two ranks there.
    ring_latency_s
        Seconds for ``size - 1`` ring steps, each waiting for its slowest hop.
    reduce_latency_s
        Seconds of one way of an all-reduce: a ring inside the fast domain, doublings outside.
    tree_latency_s
        Seconds for ``log2(size)`` steps, the far ones first.
    hop_latency_s
        Seconds of the slowest single hop.
    start_s, chunk_s
        Of the tiers touched, the longest start and wait of a chunk.
    switch_Bps, switch_start_s
        Bytes/s at which a switch reduces for the whole group, and what that adds to the start;
        0 where none can.
    peers_s
        Least seconds of an all-to-all, to issue its sends.
    scale_out
        Whether the group leaves the fast domain.
    """

    size: Array
    ring_Bps: Array
    reduce_Bps: Array
    all_to_all_Bps: Array
    shift_Bps: Array
    inside_Bps: Array
    ring_latency_s: Array
    reduce_latency_s: Array
    tree_latency_s: Array
    hop_latency_s: Array
    start_s: Array
    chunk_s: Array
    switch_Bps: Array
    switch_start_s: Array
    peers_s: Array
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
        state = _Walk(size)
        below = np.ones_like(size)
        for tier in self.cluster.tiers:
            inside = size if self._holds_all(tier) else _members(float(tier.spans or 0), axes)
            state.cross(tier, below, inside, self._rates(tier, axes, below, inside))
            if tier.peer_issue_s is not None:
                node = _members(float(self.cluster.accelerators_per_node), axes)
                issued = (inside - 1.0) * tier.peer_issue_s.value
                state.most("peers_s", inside > node, issued)
            below = np.maximum(inside, below)
        return state.links()

    def _holds_all(self, tier: Tier) -> bool:
        """Return whether the job lies in one block of a tier, so that no group can straddle two."""
        return tier.spans is None or self.cluster.accelerators <= tier.spans

    def _rates(
        self, tier: Tier, axes: Sequence[tuple[Array, Array]], below: Array, inside: Array
    ) -> tuple[Array, Array, Array]:
        """Return a tier's rates per rank: along rings, towards all peers, to the next rank."""
        usable = tier.usable_fraction.value
        rate, peer = tier.Bps.value * usable, tier.peer_Bps.value * usable
        if tier.fabric == "torus":
            return self.cluster.torus(tier).rates(axes, peer)
        links = np.full_like(inside, rate)
        if tier.staged:
            return links, links, np.minimum(peer, links)
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


#: Fields of :class:`GroupLinks` that start as infinite rates; all other arrays start at zero.
_RATES = ("ring_Bps", "reduce_Bps", "all_to_all_Bps", "shift_Bps", "inside_Bps")
#: NCCL reduces in the switch for more ranks than this: on H200 nodes it takes rings for up to 4
#: GPUs and NVLS from 5 on, on B200 from 6 (sweeps in stas00/ml-engineering@744d01e network/README).
LARGEST_RING_ONLY = 4


class _Walk:
    """What was found so far, tier by tier; the only mutable thing here, gone after the walk."""

    def __init__(self, size: Array) -> None:
        self.size = size
        self.found: dict[str, Array] = {
            name: np.full_like(size, np.inf if name in _RATES else 0.0)
            for name in GroupLinks.__slots__
            if name not in ("size", "scale_out")
        }
        self.scale_out = np.zeros(size.shape, dtype=np.bool_)

    def most(self, name: str, used: NDArray[np.bool_], value: Array | float) -> None:
        """Keep the larger of what was found and a `value`, where `used`."""
        self.found[name] = np.where(used, np.maximum(self.found[name], value), self.found[name])

    def least(self, name: str, used: NDArray[np.bool_], value: Array) -> None:
        """Keep the smaller of what was found and a `value`, where `used`."""
        self.found[name] = np.where(used, np.minimum(self.found[name], value), self.found[name])

    def cross(
        self, tier: Tier, below: Array, inside: Array, rates: tuple[Array, Array, Array]
    ) -> None:
        """Take in one tier: `below` members of each group lie in the tier under it."""
        used = inside > below
        ring, everywhere, shift = rates
        self.least("ring_Bps", used, ring)
        self.least("reduce_Bps", used, ring * self._reduced(tier, below, inside))
        self.least("shift_Bps", used, shift)
        leaving = (self.size - below) / np.maximum(self.size - 1.0, 1.0)
        crossing = 1.0 if tier.staged else np.maximum(leaving, 1e-12)
        self.least("all_to_all_Bps", used, everywhere / crossing)
        if tier.scale_out:
            self.scale_out = self.scale_out | used
        else:
            self.least("inside_Bps", used, ring)
        self._wait(tier, below, inside, used)
        self._switch(tier, used & (below == 1) & (inside == self.size))

    def _reduced(self, tier: Tier, below: Array, inside: Array) -> Array | float:
        """Return how many times fewer bytes an all-reduce moves over a tier than a flat ring."""
        if not tier.scale_out:
            return 1.0
        flat = (self.size - 1.0) / self.size
        return flat / np.maximum(1.0 - below / inside, 1e-12)

    def _wait(self, tier: Tier, below: Array, inside: Array, used: NDArray[np.bool_]) -> None:
        latency = tier.latency_s.value
        doublings = np.where(used, np.log2(inside / below), 0.0)
        around = np.where(used, self.size / below - self.size / inside, 0.0)
        reduced = doublings if tier.scale_out else np.where(used, inside - below, 0.0)
        if tier.fabric == "torus":  # rings along its dimensions work at once
            around = reduced = doublings
        for name, hops in (
            ("ring_latency_s", around),
            ("reduce_latency_s", reduced),
            ("tree_latency_s", doublings),
        ):
            self.found[name] = self.found[name] + hops * latency
        self.most("hop_latency_s", used, latency)
        self.most("start_s", used, tier.start_s.value)
        self.most("chunk_s", used, tier.chunk_s.value)

    def _switch(self, tier: Tier, alone: NDArray[np.bool_]) -> None:
        """Let a switch reduce for the groups that lie in this tier `alone`."""
        if tier.nvls_fraction is None or tier.nvls_start_s is None:
            return
        able = alone & (self.size > LARGEST_RING_ONLY)
        self.most("switch_Bps", able, tier.Bps.value * tier.nvls_fraction.value)
        self.most("switch_start_s", able, tier.nvls_start_s.value)

    def links(self) -> GroupLinks:
        return GroupLinks(size=self.size, scale_out=self.scale_out, **self.found)
