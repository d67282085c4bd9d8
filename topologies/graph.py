"""A cluster as a graph: accelerators, switches and network cards joined by directed links."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class NodeKind(StrEnum):
    """What a node of the graph is."""

    ACCELERATOR = "accelerator"
    SWITCH = "switch"  # NVSwitch plane, PCIe switch, socket: inside the fast domain
    NIC = "nic"
    LEAF = "leaf"
    SPINE = "spine"
    CORE = "core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A class of links, shared by all edges that are alike.

    Parameters
    ----------
    name
        What people call it: ``nvlink``, ``infiniband``.
    level
        Tier it belongs to, 0 for the innermost.
    scale_out
        Whether it lies behind a network card.
    Bps, latency_s
        Bytes/s and seconds, per direction.
    usable_fraction
        Share of the rate that a collective library reaches.
    source
        Where the rate was read.
    start_s, chunk_s
        Start of a collective over it, and what a chunk waits for its neighbours.
    """

    name: str
    level: int
    scale_out: bool
    Bps: float
    latency_s: float
    usable_fraction: float
    source: str
    start_s: float = 0.0
    chunk_s: float = 0.0


class ClusterGraph:
    """Nodes and directed links of one cluster.

    Nodes are whole numbers, accelerators first: accelerator ``i`` is node ``i``. Node attribute
    ``kind`` is a :class:`NodeKind`; edge attribute ``link`` a :class:`Link`. Both directions of a
    cable are edges of their own. Where nodes have names of their own, attribute ``name`` holds
    them; in a mix, accelerators know their ``host`` and their ``part``.

    Parameters
    ----------
    name
        For titles and messages.
    accelerators
        How many there are; they are nodes from the start.
    accelerators_per_node
        Accelerators that share a host.
    """

    def __init__(self, name: str, accelerators: int, accelerators_per_node: int) -> None:
        self.name = name
        self.accelerators = accelerators
        self.accelerators_per_node = accelerators_per_node
        self.graph: nx.DiGraph[int] = nx.DiGraph()
        self.graph.add_nodes_from(range(accelerators), kind=NodeKind.ACCELERATOR)

    def add(self, kind: NodeKind, count: int = 1) -> range:
        """Add nodes of one kind and return their numbers."""
        first = self.graph.number_of_nodes()
        added = range(first, first + count)
        self.graph.add_nodes_from(added, kind=kind)
        return added

    def call(self, names: Sequence[str]) -> None:
        """Give all nodes names of their own, in the order of their numbers."""
        nx.set_node_attributes(self.graph, dict(enumerate(names)), "name")

    def join(self, pairs: Iterable[tuple[int, int]], link: Link, back: Link | None = None) -> None:
        """Join pairs of nodes by one link in each direction.

        Parameters
        ----------
        pairs
            Tails and heads of the way out.
        link
            In both directions.
        back
            On the way back, where that is another one.
        """
        forward = list(pairs)
        there, home = {"link": link}, {"link": back or link}
        self.graph.add_edges_from(((a, b, there) for a, b in forward))
        self.graph.add_edges_from(((b, a, home) for a, b in forward))

    def host(self, accelerator: int) -> int:
        """Return the number of an accelerator's host."""
        own = accelerator // self.accelerators_per_node
        number: int = self.graph.nodes[accelerator].get("host", own)
        return number

    def include(self, other: ClusterGraph, first: int, part: str) -> list[int]:
        """Take in another graph, its accelerators as those of this one from `first` on.

        Parameters
        ----------
        other
            Its hosts follow those of the accelerators before `first`.
        first
            Number here of its first accelerator.
        part
            What its accelerators are called together.

        Returns
        -------
        list
            For every node of `other` its number here.
        """
        hosts = self.host(first - 1) + 1 if first else 0
        numbers = list(range(first, first + other.accelerators))
        for node in range(other.accelerators, other.graph.number_of_nodes()):
            numbers += self.add(other.graph.nodes[node]["kind"])
        for i in range(other.accelerators):
            inner = other.graph.nodes[i].get("part", part)
            self.graph.nodes[first + i].update(host=hosts + other.host(i), part=inner)
        for node, name in other.graph.nodes.data("name"):
            if name is not None:
                self.graph.nodes[numbers[node]]["name"] = name
        self.graph.add_edges_from(
            (numbers[tail], numbers[head], {"link": link}) for tail, head, link in other.edges()
        )
        return numbers

    def relinked(self, change: Callable[[Link], Link]) -> ClusterGraph:
        """Return the same graph with every class of links changed."""
        found = ClusterGraph(self.name, self.accelerators, self.accelerators_per_node)
        found.graph = self.graph.copy()
        changed = {link: change(link) for link in self.links()}
        for _, _, data in found.graph.edges.data():
            data["link"] = changed[data["link"]]
        return found

    def edges(self) -> Iterator[tuple[int, int, Link]]:
        """Yield every directed link: tail, head, class."""
        for tail, head, data in self.graph.edges.data():
            yield tail, head, data["link"]

    def links(self) -> dict[Link, int]:
        """Return every class of links with the number of its edges, inside out."""
        counts = Counter(link for _, _, link in self.edges())
        return dict(sorted(counts.items(), key=lambda item: (item[0].level, item[0].name)))

    def joins(self) -> dict[tuple[Link, tuple[NodeKind, NodeKind]], int]:
        """Return every class of links and the kinds of its ends, inner first, with the edges."""
        kinds = dict(self.graph.nodes.data("kind"))
        order = {kind: place for place, kind in enumerate(NodeKind)}
        counts: Counter[tuple[Link, tuple[NodeKind, NodeKind]]] = Counter()
        for tail, head, link in self.edges():
            inner, outer = sorted((kinds[tail], kinds[head]), key=order.__getitem__)
            counts[link, (inner, outer)] += 1
        return dict(
            sorted(counts.items(), key=lambda item: (item[0][0].level, item[0][0].name, item[0][1]))
        )

    @property
    def cards(self) -> int:
        """How many network cards there are."""
        return self.kinds().get(NodeKind.NIC, 0)

    def kinds(self) -> dict[NodeKind, int]:
        """Return how many nodes of each kind there are."""
        counts = Counter(data["kind"] for data in self.graph.nodes.values())
        return {kind: counts[kind] for kind in NodeKind if counts[kind]}
