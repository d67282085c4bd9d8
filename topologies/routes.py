"""Routing flows over a cluster's graph: which links carry how much.

Flows take the fewest hops: inside the fast domain where both ends are in one, over switches
where there is a way, through other accelerators (a torus) where there is none; otherwise through
network cards, where accelerators pass nothing on. At a node with several next hops a flow splits
evenly (:attr:`~topologies.ecmp.Ecmp.PERFECT`), or takes one of them by a hash of its ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from topologies.graph import ClusterGraph, Link

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

#: Multipliers of the hash that picks a next hop (odd numbers near powers of two times the golden
#: ratio, as in Fibonacci hashing; Knuth, The Art of Computer Programming 3, section 6.4).
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


#: Marks that no way leads to an accelerator.
UNREACHED = -9
#: A link beyond the fast domain counts as so many hops: more than any way inside of it has.
FAR_HOPS = 10_000


class Flows(NamedTuple):
    """Who sends how much to whom; arrays of one length.

    Parameters
    ----------
    source, target
        Accelerators.
    weight
        Bytes of each, in any unit.
    """

    source: Ints
    target: Ints
    weight: Floats


@dataclass(frozen=True, slots=True)
class Routes:
    """A graph, ready to route over.

    Parameters
    ----------
    heads, links
        Head and class of every directed link, sorted by its tail.
    first
        Where each node's links begin; one more entry than nodes.
    long
        Hops that each link counts as.
    hops
        Shape ``[nodes, accelerators]``: hops from each node to each accelerator.
    accelerators
        How many there are: the first nodes.
    """

    heads: Ints
    links: tuple[Link, ...]
    first: Ints
    long: Ints
    hops: Ints
    accelerators: int

    @classmethod
    def of(cls, graph: ClusterGraph) -> Routes:
        """Return the routes of a graph."""
        edges = sorted(graph.edges(), key=lambda edge: edge[:2])
        tails = np.array([tail for tail, _, _ in edges], dtype=np.int64)
        heads = np.array([head for _, head, _ in edges], dtype=np.int64)
        long = np.array([FAR_HOPS if link.scale_out else 1 for _, _, link in edges])
        nodes = graph.graph.number_of_nodes()
        return cls(
            heads=heads,
            links=tuple(link for _, _, link in edges),
            first=np.searchsorted(tails, np.arange(nodes + 1)),
            long=long,
            hops=_hops(tails, heads, long, nodes, graph.accelerators),
            accelerators=graph.accelerators,
        )

    def loads(self, flows: Flows, seed: int | None = None) -> Floats:
        """Return what every directed link carries.

        Parameters
        ----------
        flows
            What is sent.
        seed
            Of the hash that picks one of several next hops; ``None`` to split evenly.

        Raises
        ------
        ValueError
            If a flow has nowhere to go: the graph is not in one piece.
        """
        carried = np.zeros(len(self.heads))
        at, target, weight = flows
        source = flows.source if seed is not None else None
        while True:
            there = at == target
            at, target, weight = at[~there], target[~there], weight[~there]
            source = None if source is None else source[~there]
            if not len(at):
                return carried
            flow, link = self._next_hops(at, target)
            if len(np.unique(flow)) < len(at):
                raise ValueError("a flow has no way on")
            if source is None or seed is None:
                share = weight[flow] / np.bincount(flow, minlength=len(at))[flow]
            else:
                picked = _pick(flow, source, target, at, seed)
                flow, link, share = flow[picked], link[picked], weight
            carried += np.bincount(link, weights=share, minlength=len(carried))
            at, target = self.heads[link], target[flow]
            if source is None:
                at, target, share = self._merged(at, target, share)
            else:
                source = source[flow]
            weight = share

    def _next_hops(self, at: Ints, target: Ints) -> tuple[Ints, Ints]:
        """Return flows and links: every link on a shortest path from where each flow is."""
        degree = self.first[at + 1] - self.first[at]
        flow = np.repeat(np.arange(len(at)), degree)
        starts = np.cumsum(degree) - degree
        link = np.arange(len(flow)) - np.repeat(starts - self.first[at], degree)
        aim = target[flow]
        nearer = self.hops[self.heads[link], aim] == self.hops[at[flow], aim] - self.long[link]
        return flow[nearer], link[nearer]

    def _merged(self, at: Ints, target: Ints, share: Floats) -> tuple[Ints, Ints, Floats]:
        """Return flows to one target that met at a node as one."""
        code, place = np.unique(at * self.accelerators + target, return_inverse=True)
        merged = np.bincount(place, weights=share).astype(np.float64)
        nodes, targets = np.divmod(code.astype(np.int64), self.accelerators)
        return nodes, targets, merged


def _hops(tails: Ints, heads: Ints, long: Ints, nodes: int, accelerators: int) -> Ints:
    """Return hops from every node to every accelerator, by the first kind of way that there is."""
    found = np.full((nodes, accelerators), np.inf)
    near = long == 1
    for used, passing in ((near, False), (near, True), (long > 0, False)):
        links = tails[used], heads[used], long[used]
        hops = _distances(*links, nodes, accelerators) if passing else _over(*links, *found.shape)
        found = np.where(np.isfinite(found), found, hops)
    return np.where(np.isfinite(found), found, UNREACHED).astype(np.int64)


def _over(tails: Ints, heads: Ints, long: Ints, nodes: int, accelerators: int) -> Floats:
    """Return hops over ways on which accelerators pass nothing on.

    An accelerator is a link further than the best of its neighbours, whose ways lead over switches.
    """
    switch = tails >= accelerators
    found = _distances(tails[switch], heads[switch], long[switch], nodes, accelerators)
    over = found.copy()
    mine = ~switch
    np.minimum.at(found, tails[mine], over[heads[mine]] + long[mine, None])
    return found


def _distances(tails: Ints, heads: Ints, long: Ints, nodes: int, accelerators: int) -> Floats:
    """Return hops from every node to every accelerator over some links."""
    backwards = csr_array((long.astype(float), (heads, tails)), shape=(nodes, nodes))
    found = dijkstra(backwards, indices=np.arange(accelerators))
    distances: Floats = np.ascontiguousarray(found.T)
    return distances


def _pick(flow: Ints, source: Ints, target: Ints, at: Ints, seed: int) -> Ints:
    """Return for every flow the position of the one next hop that its hash picks."""
    many = np.bincount(flow, minlength=len(at))
    starts = np.cumsum(many) - many
    key = source.astype(np.uint64) * _MIX[0] ^ target.astype(np.uint64) * _MIX[1]
    key = (key ^ at.astype(np.uint64) * _MIX[2]) + np.array([seed], dtype=np.uint64) * _MIX[0]
    key ^= key >> np.uint64(29)
    key = key * _MIX[1]
    key ^= key >> np.uint64(32)
    picked: Ints = starts + (key % many.astype(np.uint64)).astype(np.int64)
    return picked
