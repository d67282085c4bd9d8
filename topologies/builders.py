"""Building a cluster's graph from its tiers.

``nvswitch``
    one switch node per block that joins its accelerators (all planes of the switch together);
``pcie``
    a switch per block, and above it a socket link that the block's accelerators share;
``mesh``
    a link between every two accelerators of a block;
``torus``
    links to both neighbours along every dimension, round the ends where it wraps;
``nic``
    a network card per accelerator, joined to the leaf switch of its rail (rail-optimised) or of its
    nodes, and the leaves of a block to its spine without oversubscription;
``spine``
    the spines of blocks joined to a core, at the rate their uplinks have.
"""

from __future__ import annotations

from itertools import combinations, product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from topologies.errors import Problem, SpecError
from topologies.graph import ClusterGraph, Link, NodeKind
from topologies.torus import Slice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.cluster import Cluster, Tier

#: More links than a drawing or a routing of single links can use.
LARGEST_MESH = 512


def build_graph(cluster: Cluster) -> ClusterGraph:
    """Return the graph of a cluster.

    Raises
    ------
    SpecError
        If a mesh is too large to have a link between every two members.

    Examples
    --------
    >>> from topologies import load_cluster
    >>> {str(k): n for k, n in build_graph(load_cluster("h100-dgx:2")).kinds().items()}
    {'accelerator': 16, 'switch': 2, 'nic': 16, 'leaf': 8, 'spine': 1}
    """
    graph = ClusterGraph(cluster.name, cluster.accelerators, cluster.accelerators_per_node)
    gates = Gates(list(range(cluster.accelerators)), 1)
    for level, tier in enumerate(cluster.tiers):
        span = min(tier.spans or cluster.accelerators, cluster.accelerators)
        gates = _BUILDERS[tier.fabric](graph, level, tier, gates, span)
    return graph


class Gates(NamedTuple):
    """Through which nodes the tiers built so far reach up.

    Parameters
    ----------
    nodes
        One for each `share` accelerators, in order.
    share
        Accelerators behind one of them: 1 until a switch joins them.
    """

    nodes: list[int]
    share: int

    def of(self, block: range) -> Iterator[int]:
        """Yield the gates of the accelerators of a block."""
        return (self.nodes[i // self.share] for i in block[:: self.share])


def _link(tier: Tier, level: int, Bps: float) -> Link:
    return Link(
        name=tier.name,
        level=level,
        scale_out=tier.scale_out,
        Bps=Bps,
        latency_s=tier.latency_s.value,
        usable_fraction=tier.usable_fraction.value,
        source=tier.Bps.source,
    )


def _blocks(total: int, span: int) -> Iterator[range]:
    for first in range(0, total, span):
        yield range(first, min(first + span, total))


def _switched(graph: ClusterGraph, level: int, tier: Tier, gates: Gates, span: int) -> Gates:
    """Join the blocks below through one switch per block; its port is as wide as they need."""
    link = _link(tier, level, tier.Bps.value * gates.share)
    found = []
    for block in _blocks(graph.accelerators, span):
        (switch,) = graph.add(NodeKind.SWITCH)
        graph.join(((gate, switch) for gate in gates.of(block)), link)
        found.append(switch)
    return Gates(found, span)


def _meshed(graph: ClusterGraph, level: int, tier: Tier, gates: Gates, span: int) -> Gates:
    if span > LARGEST_MESH:
        mend = f"a full mesh of more than {LARGEST_MESH} accelerators is not built; use a switch"
        raise SpecError([Problem(f"{graph.name}: {tier.name}.spans", span, mend)])
    link = _link(tier, level, tier.peer_Bps.value)
    for block in _blocks(graph.accelerators, span):
        graph.join(combinations(block, 2), link)
    return gates


def _torus(graph: ClusterGraph, level: int, tier: Tier, gates: Gates, span: int) -> Gates:
    link = _link(tier, level, tier.peer_Bps.value)
    for block in _blocks(graph.accelerators, span):
        box = Slice.of(tier.dims or (span,), len(block), tier.wrap_multiple)
        graph.join(((block[a], block[b]) for a, b in _neighbours(box)), link)
    return gates


def _neighbours(box: Slice) -> Iterator[tuple[int, int]]:
    """Yield neighbours of a torus, the last dimension fastest, each pair once."""
    steps = [prod(box.dims[axis + 1 :]) for axis in range(len(box.dims))]
    for place in product(*map(range, box.dims)):
        here = sum(at * step for at, step in zip(place, steps, strict=True))
        for at, step, side, wrap in zip(place, steps, box.dims, box.wraps, strict=True):
            if at < side - 1:
                yield here, here + step
            elif wrap and side > 2:  # a ring of two has one link, not two side by side
                yield here, here - at * step


def _carded(graph: ClusterGraph, level: int, tier: Tier, gates: Gates, span: int) -> Gates:
    """Give every accelerator a card, every block leaves, and join its leaves to one spine."""
    total, node = graph.accelerators, graph.accelerators_per_node
    card = _link(tier, level, tier.Bps.value)
    cards = graph.add(NodeKind.NIC, total)
    graph.join(zip(range(total), cards, strict=True), card)
    found = []
    for block in _blocks(total, span):
        rails = min(node, len(block)) if tier.rails else 1
        leaves = graph.add(NodeKind.LEAF, rails)
        graph.join(((cards[i], leaves[i % node % rails]) for i in block), card)
        (spine,) = graph.add(NodeKind.SPINE)
        uplink = _link(tier, level, tier.Bps.value * (len(block) / rails))
        graph.join(((leaf, spine) for leaf in leaves), uplink)
        found.append(spine)
    return Gates(found, span)


def _cored(graph: ClusterGraph, level: int, tier: Tier, gates: Gates, span: int) -> Gates:
    found = []
    for block in _blocks(graph.accelerators, span):
        (core,) = graph.add(NodeKind.CORE)
        link = _link(tier, level, tier.Bps.value * gates.share)
        graph.join(((gate, core) for gate in gates.of(block)), link)
        found.append(core)
    return Gates(found, span)


_BUILDERS = {
    "nvswitch": _switched,
    "pcie": _switched,
    "mesh": _meshed,
    "torus": _torus,
    "nic": _carded,
    "spine": _cored,
}
