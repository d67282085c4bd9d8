"""Routing flows over a cluster's graph: which links carry how much.

Flows take the innermost links that join both ends, the fewest of them, and the fastest of those:
inside the fast domain where both are in one, otherwise through network cards; either way over
switches where there is a way, through other accelerators (a torus) where there is none. At a node
with several next hops a flow splits evenly (:attr:`~topologies.ecmp.Ecmp.PERFECT`), or takes one of
them by a hash of its ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from topologies.units import GB

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
#: What a link counts for on a way: one hop, each level further out more than any way over inner
#: links, and beyond the fast domain more than any way inside of it.
HOP, LEVEL_HOPS, FAR_HOPS = 1_000, 1_000_000, 1_000_000_000


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
        Shape ``[nodes, kinds * accelerators]``: hops from each node to each accelerator, by each
        kind of way.
    passing
        For each kind of way whether accelerators pass on what is not for them.
    accelerators
        How many there are: the first nodes.
    """

    heads: Ints
    links: tuple[Link, ...]
    first: Ints
    long: Ints
    hops: Ints
    passing: NDArray[np.bool_]
    accelerators: int

    @classmethod
    def of(cls, graph: ClusterGraph) -> Routes:
        """Return the routes of a graph."""
        edges = sorted(graph.edges(), key=lambda edge: edge[:2])
        tails = np.array([tail for tail, _, _ in edges], dtype=np.int64)
        heads = np.array([head for _, head, _ in edges], dtype=np.int64)
        long = np.array([_length(link) for _, _, link in edges])
        nodes = graph.graph.number_of_nodes()
        hops, passing = _hops(tails, heads, long, nodes, graph.accelerators)
        return cls(
            heads=heads,
            links=tuple(link for _, _, link in edges),
            first=np.searchsorted(tails, np.arange(nodes + 1)),
            long=long,
            hops=hops,
            passing=passing,
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
        at, aim, weight = flows.source, self._aims(flows), flows.weight
        source = flows.source if seed is not None else None
        while True:
            away = at != aim % self.accelerators
            at, aim, weight = at[away], aim[away], weight[away]
            source = None if source is None else source[away]
            if not len(at):
                return carried
            flow, link = self._next_hops(at, aim)
            if source is None or seed is None:
                share = weight[flow] / np.bincount(flow, minlength=len(at))[flow]
            else:
                picked = _pick(flow, source, aim, at, seed)
                flow, link, share = flow[picked], link[picked], weight
            carried += np.bincount(link, weights=share, minlength=len(carried))
            at, aim = self.heads[link], aim[flow]
            if source is None:
                at, aim, share = self._merged(at, aim, share)
            else:
                source = source[flow]
            weight = share

    def _aims(self, flows: Flows) -> Ints:
        """Return the column of `hops` of each flow: its target, by the first kind of way."""
        columns = flows.target[:, None] + np.arange(len(self.passing)) * self.accelerators
        reached = self.hops[flows.source[:, None], columns] != UNREACHED
        if not reached.any(axis=1).all():
            raise ValueError("a flow has no way")
        first = reached.argmax(axis=1)
        aims: Ints = columns[np.arange(len(first)), first]
        return aims

    def _next_hops(self, at: Ints, aim: Ints) -> tuple[Ints, Ints]:
        """Return flows and links: every link on a shortest way from where each flow is."""
        degree = self.first[at + 1] - self.first[at]
        flow = np.repeat(np.arange(len(at)), degree)
        starts = np.cumsum(degree) - degree
        link = np.arange(len(flow)) - np.repeat(starts - self.first[at], degree)
        head, column = self.heads[link], aim[flow]
        kind, target = np.divmod(column, self.accelerators)
        nearer = self.hops[head, column] == self.hops[at[flow], column] - self.long[link]
        nearer &= (head >= self.accelerators) | (head == target) | self.passing[kind]
        return flow[nearer], link[nearer]

    def _merged(self, at: Ints, aim: Ints, share: Floats) -> tuple[Ints, Ints, Floats]:
        """Return flows to one target that met at a node as one."""
        columns = self.hops.shape[1]
        code, place = np.unique(at * columns + aim, return_inverse=True)
        merged = np.bincount(place, weights=share).astype(np.float64)
        nodes, aims = np.divmod(code.astype(np.int64), columns)
        return nodes, aims, merged


def _length(link: Link) -> int:
    """Return what a link counts for; of as many hops the faster ones are fewer."""
    slow = min(int(HOP * GB / link.Bps), HOP - 1)
    return HOP + slow + (FAR_HOPS if link.scale_out else LEVEL_HOPS * link.level)


def _hops(
    tails: Ints, heads: Ints, long: Ints, nodes: int, accelerators: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Return hops to every accelerator by each kind of way that is needed, and which pass it on."""
    near = long < FAR_HOPS
    found, passing = [], []
    reached = np.zeros((accelerators, accelerators), dtype=np.bool_)
    for used, through in ((near, False), (near, True), (long > 0, False), (long > 0, True)):
        links = tails[used], heads[used], long[used]
        measured = _distances if through else _over
        hops = measured(*links, nodes, accelerators)
        found.append(np.where(np.isfinite(hops), hops, UNREACHED).astype(np.int64))
        passing.append(through)
        reached |= np.isfinite(hops[:accelerators])
        if reached.all():
            break
    return np.concatenate(found, axis=1), np.array(passing)


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
