"""A cluster as a graph: accelerators, switches and network cards joined by directed links."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
    """

    name: str
    level: int
    scale_out: bool
    Bps: float
    latency_s: float
    usable_fraction: float
    source: str


class ClusterGraph:
    """Nodes and directed links of one cluster.

    Nodes are whole numbers, accelerators first: accelerator ``i`` is node ``i``. Node attribute
    ``kind`` is a :class:`NodeKind`; edge attribute ``link`` a :class:`Link`. Both directions of a
    cable are edges of their own.

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

    def join(self, pairs: Iterable[tuple[int, int]], link: Link) -> None:
        """Join pairs of nodes by one link in each direction."""
        forward = list(pairs)
        shared = {"link": link}
        self.graph.add_edges_from(((a, b, shared) for a, b in forward))
        self.graph.add_edges_from(((b, a, shared) for a, b in forward))

    def edges(self) -> Iterator[tuple[int, int, Link]]:
        """Yield every directed link: tail, head, class."""
        for tail, head, data in self.graph.edges.data():
            yield tail, head, data["link"]

    def links(self) -> dict[Link, int]:
        """Return every class of links with the number of its edges, inside out."""
        counts = Counter(link for _, _, link in self.edges())
        return dict(sorted(counts.items(), key=lambda item: (item[0].level, item[0].name)))

    def kinds(self) -> dict[NodeKind, int]:
        """Return how many nodes of each kind there are."""
        counts = Counter(data["kind"] for data in self.graph.nodes.values())
        return {kind: counts[kind] for kind in NodeKind if counts[kind]}
