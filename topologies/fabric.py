"""What a group of ranks gets from a cluster's links while every like group works at once.

A layout's axis is a set of groups of the same *size* whose ranks lie *stride* apart (stride 1 is
the innermost axis of the rank order). All groups of an axis run their collective together, so a
group's rate on a level of links is its share of that level, not the whole.

For level ``i`` let ``g`` be the members of one group inside a block of the level below. A block
below holds ``span / g`` groups and has ``span`` accelerators' worth of uplink, hence

* rings cross level ``i`` at ``g * Bps``: all network cards of a node work for the ring;
* in an all-to-all each rank has its own ``Bps`` towards whoever is beyond its block;
* a shift to the next rank crosses through one member: ``min(peer_Bps, g * Bps)``.

Bytes over a mesh go over the links to the other members; over a torus, along the dimensions the
group fills (:mod:`topologies.torus`); through host memory (`staged`), at ``Bps`` whatever the
pattern, a shift at a share of its own; between groups of a dragonfly, over the links to one other
group, or spread over all of them at half the rate. Flows hashed onto equal uplinks wait for the
fullest (:mod:`topologies.ecmp`). How collectives use what they cross is in
:mod:`topologies.algorithms`. Clusters given as a graph of single links are routed
(:mod:`topologies.routed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topologies.ecmp import Ecmp, slowdown
from topologies.group_links import Crossing, GroupLinks
from topologies.library import load_library
from topologies.members import broadcast_shape, members, peers_taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.cluster import Cluster, Tier
    from topologies.routed import RoutedGraph

    Array = NDArray[np.floating[Any]]


class Fabric:
    """The links of one cluster, asked for by groups.

    Parameters
    ----------
    cluster
        Tiers from the inside out, or a graph.
    ecmp, seed
        How flows meet on equal links.
    alone
        Whether one group works while the others rest: what it gets then over what it gets usually
        is the sharing factor.
    """

    def __init__(
        self,
        cluster: Cluster,
        ecmp: Ecmp = Ecmp.PERFECT,
        seed: int = 0,
        *,
        alone: bool = False,
    ) -> None:
        self.cluster, self.ecmp, self.seed, self.alone = cluster, ecmp, seed, alone
        self.library = load_library(cluster.accelerator.vendor, cluster.accelerator.name)
        self.routed: RoutedGraph | None = None
        if cluster.graph is not None:
            from topologies.routed import RoutedGraph  # with scipy: only where links are routed

            self.routed = RoutedGraph(cluster.graph, cluster.tiers, ecmp, seed, alone=alone)

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
        size = members(np.inf, axes)
        if self.routed is not None:
            return GroupLinks(
                size=size, crossings=self.routed.crossings(axes), library=self.library
            )
        inner, found = np.ones(broadcast_shape(axes)), []
        for tier in self.cluster.tiers:
            whole = tier.spans is None or self.cluster.accelerators <= tier.spans
            inside = size if whole else members(float(tier.spans or 0), axes)
            found.append((tier, inner, np.maximum(inside, inner)))
            inner = found[-1][2]
        near = [inside for tier, _, inside in found if not tier.scale_out]
        group = _Group(axes, size, near[-1] if near else np.ones_like(size))
        crossings, span = [], 1
        for tier, below, inside in found:
            crossings.append(_Meeting(self, tier, span, group, below, inside).crossing())
            span = tier.spans or self.cluster.accelerators
        return GroupLinks(size=size, crossings=tuple(crossings), library=self.library)


class _Group(NamedTuple):
    """Groups on their way through the tiers: axes, ranks, and ranks in one fast domain."""

    axes: Sequence[tuple[Array, Array]]
    size: Array
    domain: Array


class _Meeting:
    """Groups and one tier, gone once its crossing is known."""

    def __init__(
        self,
        fabric: Fabric,
        tier: Tier,
        span_below: int,
        group: _Group,
        below: Array,
        inside: Array,
    ) -> None:
        self.fabric, self.tier, self.group = fabric, tier, group
        self.below, self.inside, self.size = below, inside, group.size
        self.span_below = float(span_below)
        usable = tier.usable_fraction.value
        self.Bps, self.peer_Bps = tier.Bps.value * usable, tier.peer_Bps.value * usable

    def crossing(self) -> Crossing:
        """Return what the groups meet at the tier."""
        ring, all_to_all, shift = self._rates()
        torus, across = ring, np.where(self.inside > self.below, self.inside / self.below, 1.0)
        across = np.log2(across)
        taken = taken_shift = np.ones((1, *self.size.shape))
        if self.tier.fabric == "torus":
            box = self.fabric.cluster.torus(self.tier)
            ring, torus, all_to_all, shift, taken, across = box.rates(
                self.group.axes, self.peer_Bps
            )
            taken_shift = taken
        elif self.tier.fabric == "mesh":
            taken, taken_shift = peers_taken(self.group.axes, self.tier.spans or 1)
        return Crossing(
            tier=self.tier,
            below=self.below,
            inside=self.inside,
            reached=self._reached(),
            ring_Bps=ring,
            torus_Bps=torus,
            all_to_all_Bps=all_to_all,
            shift_Bps=shift,
            issue_s=self._issue_s(),
            across=across,
            taken=taken,
            taken_shift=taken_shift,
        )

    def _reached(self) -> Array:
        """Return the members that a rank's bytes reach through the tier."""
        if self.tier.staged:
            return np.where(self.inside > self.below, self.size, self.below)
        if self.tier.scale_out:
            return self.size
        return self.inside if self.tier.fabric in ("mesh", "torus") else self.group.domain

    def _rates(self) -> tuple[Array, Array, Array]:
        """Return bytes/s along rings, of a rank to all peers, and to the next rank."""
        tier = self.tier
        links = np.full_like(self.inside, self.Bps)
        if tier.staged:
            return links, links, self._staged_shift()
        if tier.fabric == "dragonfly":
            return self._dragonfly()
        if tier.fabric == "mesh":  # one Hamiltonian ring per link of a full mesh
            links = np.minimum(links, np.maximum(self.inside - 1.0, 1.0) * self.peer_Bps)
        flows = self.below if self.fabric.alone else np.full_like(self.below, self.span_below)
        peers = np.maximum(self.size - self.below, 1.0)
        return (
            self.below * self._each(links, flows),
            self._each(links, flows * peers),
            np.minimum(self.peer_Bps, self.below * self._each(links, flows / self.below)),
        )

    def _staged_shift(self) -> Array:
        """Return what a shift to the next rank gets through host memory."""
        tier, fraction = self.tier, self.tier.shift_fraction or self.tier.usable_fraction
        each = min(tier.Bps.value, tier.peer_Bps.value) * fraction.value
        return np.full_like(self.inside, each)

    def _each(self, links: Array, flows: Array) -> Array:
        """Return what passes for each member of a group, its flows hashed onto equal uplinks."""
        rate: Array = links * self._share() / self._collisions(flows)
        return rate

    def _share(self) -> Array | float:
        """Return how much more of a pooled uplink a group has while the others rest."""
        if self.fabric.alone and self.tier.pooled:
            others: Array = np.maximum(self.span_below / self.below, 1.0)
            return others
        return 1.0

    def _dragonfly(self) -> tuple[Array, Array, Array]:
        """Return the rates between the groups of a dragonfly: straight, or over all the others.

        Rings go round both ways, so that of three groups on each has two neighbours.
        """
        others = np.maximum(self.inside / self.below - 1.0, 1.0)
        straight = np.minimum(self.Bps, self.peer_Bps * self._share())
        adaptive = self._around(straight)
        to_next = np.maximum(np.minimum(self.Bps, np.minimum(others, 2.0) * straight), adaptive)
        to_all = np.maximum(np.minimum(self.Bps, others * straight), adaptive)
        to_one = np.maximum(straight, adaptive)
        return self.below * to_next, to_all, self.below * to_one

    def _around(self, straight: Array) -> Array | float:
        """Return the rate over third groups, which takes two links; none with hashed flows."""
        groups = self.fabric.cluster.accelerators / self.span_below
        if self.fabric.ecmp is not Ecmp.PERFECT:
            return 0.0
        around: Array = np.minimum(self.Bps, (groups - 1.0) * straight) / 2.0
        return around

    def _collisions(self, flows: Array) -> Array:
        """Return how much the fullest uplink slows flows that leave a block.

        Flows between network cards of one rail or leaf meet no spine.
        """
        if self.tier.fabric == "nic":
            return np.ones_like(flows)
        blocks = -(-self.fabric.cluster.accelerators // int(self.span_below))
        sets = 2 * (1 if self.fabric.alone else blocks)
        return slowdown(flows, self.tier.paths, self.fabric.ecmp, self.fabric.seed, sets)

    def _issue_s(self) -> Array:
        """Return the least seconds of an all-to-all beyond the node."""
        if self.tier.peer_issue_s is None:
            return np.zeros_like(self.size)
        node = members(float(self.fabric.cluster.accelerators_per_node), self.group.axes)
        issued = (self.inside - 1.0) * self.tier.peer_issue_s.value
        return np.where(self.inside > node, issued, 0.0)
