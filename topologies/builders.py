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
    the network cards of every node, one per accelerator unless the file says how many, and shared
    or several for each where they are fewer or more; joined to the leaf switch of their rail
    (rail-optimised) or of their nodes, and the leaves of a block to its spine without
    oversubscription; of every plane a leaf and a spine of its own, and as many spines as there are
    paths;
``spine``
    the spines of blocks joined to a core, at the rate their uplinks have; as many cores in every
    plane as there are paths;
``dragonfly``
    the spines of every two blocks joined directly.

Links that a file gives one by one are a graph already; the parts of a mix are built by themselves,
and what is outermost in each is joined by the tiers of the mix.
"""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import contextmanager
from itertools import combinations, groupby, product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from topologies.cables import Cables, tier_link
from topologies.cards import card_shares
from topologies.errors import Problem, SpecError
from topologies.graph import ClusterGraph, NodeKind
from topologies.torus import Slice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
    with _collector_paused():
        return _built(cluster)[0]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking millions of links again while they are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Gate(NamedTuple):
    """Through which nodes some accelerators reach up, by the tiers built so far.

    Parameters
    ----------
    planes
        Nodes of every plane, all of which share what the accelerators send up.
    first, size
        Accelerators behind it: a single one until a switch joins them.
    """

    planes: tuple[tuple[int, ...], ...]
    first: int
    size: int


def _built(cluster: Cluster) -> tuple[ClusterGraph, list[Gate]]:
    """Return the graph of a cluster, and through which nodes it may be joined to others."""
    if cluster.graph is not None:
        top = _outermost(cluster.graph)
        return cluster.graph, [Gate((top,), 0, cluster.accelerators)]
    graph = ClusterGraph(cluster.name, cluster.accelerators, cluster.accelerators_per_node)
    gates = [Gate(((i,),), i, 1) for i in range(cluster.accelerators)]
    built = 0
    if cluster.parts:
        gates = list(_side_by_side(graph, cluster.parts))
        built = len(cluster.parts[0].tiers)
    for level, tier in enumerate(cluster.tiers[built:], start=built):
        span = min(tier.spans or cluster.accelerators, cluster.accelerators)
        gates = _BUILDERS[tier.fabric](graph, level, tier, gates, span)
    return graph, gates


def _outermost(graph: ClusterGraph) -> tuple[int, ...]:
    top = list(graph.kinds())[-1]
    return tuple(node for node, kind in graph.graph.nodes.data("kind") if kind is top)


def _side_by_side(graph: ClusterGraph, parts: Iterable[Cluster]) -> Iterator[Gate]:
    """Take in every part's own graph and yield its gates."""
    first = 0
    for part in parts:
        inner, gates = _built(part)
        numbers = graph.include(inner, first, part.accelerator.title)
        for gate in gates:
            planes = tuple(tuple(numbers[node] for node in plane) for plane in gate.planes)
            yield Gate(planes, first + gate.first, gate.size)
        first += part.accelerators


def _blocks(total: int, span: int) -> Iterator[range]:
    for first in range(0, total, span):
        yield range(first, min(first + span, total))


def _gathered(gates: Sequence[Gate], span: int) -> Iterator[list[Gate]]:
    """Yield the gates of every block of `span` accelerators."""
    for _, group in groupby(gates, lambda gate: gate.first // span):
        yield list(group)


def _switched(
    graph: ClusterGraph, level: int, tier: Tier, gates: Sequence[Gate], span: int
) -> list[Gate]:
    """Join the blocks below through one switch per block; its port is as wide as they need."""
    return _joined(graph, level, tier, gates, span, NodeKind.SWITCH)


def _meshed(
    graph: ClusterGraph, level: int, tier: Tier, gates: list[Gate], span: int
) -> list[Gate]:
    _check_mesh(graph, tier, span, "accelerators", "spans")
    link = tier_link(tier, level, tier.peer_Bps.value)
    for block in _blocks(graph.accelerators, span):
        graph.join(combinations(block, 2), link)
    return gates


def _check_mesh(graph: ClusterGraph, tier: Tier, size: int, of: str, key: str) -> None:
    if size > LARGEST_MESH:
        mend = f"a full mesh of more than {LARGEST_MESH} {of} is not built; use a switch"
        raise SpecError([Problem(f"{graph.name}: {tier.name}.{key}", size, mend)])


def _torus(graph: ClusterGraph, level: int, tier: Tier, gates: list[Gate], span: int) -> list[Gate]:
    link = tier_link(tier, level, tier.peer_Bps.value)
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


def _carded(
    graph: ClusterGraph, level: int, tier: Tier, _gates: Sequence[Gate], span: int
) -> list[Gate]:
    """Give every node its cards, every block leaves, and join its leaves to its spines."""
    total, node = graph.accelerators, graph.accelerators_per_node
    of_node = tier.cards or node
    cables = Cables(graph, level, tier)
    shares = list(card_shares(total, node, of_node))
    cards = graph.add(NodeKind.NIC, shares[-1].card + 1)
    for share in shares:
        pair = share.accelerator, cards[share.card]
        cables.lay([pair], tier.Bps.value * (share.parts / of_node))
    found = []
    for place, group in groupby(shares, lambda share: share.accelerator // span):
        block = range(place * span, min((place + 1) * span, total))
        ports: Counter[int] = Counter()
        for share in group:
            ports[share.card] += share.parts
        rails = len({card % of_node for card in ports}) if tier.rails else 1
        planes = []
        for _ in range(tier.planes):
            leaves = graph.add(NodeKind.LEAF, rails)
            for card, parts in ports.items():
                pair = cards[card], leaves[card % of_node % rails]
                cables.lay([pair], tier.Bps.value * (parts / of_node) / tier.planes)
            spines = graph.add(NodeKind.SPINE, tier.paths)
            uplink = tier.Bps.value / tier.planes * len(block) / rails / tier.paths
            cables.lay(product(leaves, spines), uplink)
            planes.append(tuple(spines))
        found.append(Gate(tuple(planes), block.start, len(block)))
    cables.join()
    return found


def _cored(
    graph: ClusterGraph, level: int, tier: Tier, gates: Sequence[Gate], span: int
) -> list[Gate]:
    return _joined(graph, level, tier, gates, span, NodeKind.CORE)


def _joined(
    graph: ClusterGraph, level: int, tier: Tier, gates: Sequence[Gate], span: int, kind: NodeKind
) -> list[Gate]:
    """Join what lies in a block through new nodes of its own, in every plane one for each path."""
    cables = Cables(graph, level, tier)
    found = []
    for block in _gathered(gates, span):
        planes = []
        for below in _by_plane(block):
            nodes = tuple(graph.add(kind, tier.paths))
            planes.append(nodes)
            for ends, Bps in below:
                cables.lay(product(ends, nodes), tier.Bps.value * Bps / tier.paths)
        found.append(_around(block, planes))
    cables.join()
    return found


def _grouped(
    graph: ClusterGraph, level: int, tier: Tier, gates: Sequence[Gate], span: int
) -> list[Gate]:
    """Join every two groups of a dragonfly directly."""
    cables = Cables(graph, level, tier)
    found = []
    for block in _gathered(gates, span):
        _check_mesh(graph, tier, len(block), "groups", "groups")
        planes = []
        for below in _by_plane(block):
            for (ends, one), (others, other) in combinations(below, 2):
                # As many links as pairs of spines; each takes its share of what two groups have.
                share = min(one * len(ends), other * len(others)) / (len(ends) * len(others))
                cables.lay(product(ends, others), tier.peer_Bps.value * share)
            planes.append(tuple(node for ends, _ in below for node in ends))
        found.append(_around(block, planes))
    cables.join()
    return found


def _by_plane(block: Sequence[Gate]) -> Iterator[list[tuple[tuple[int, ...], float]]]:
    """Yield for every plane each gate's nodes, and accelerators that one of them serves there."""
    planes = max(len(gate.planes) for gate in block)
    for plane in range(planes):
        below = []
        for gate in block:
            nodes = gate.planes[plane % len(gate.planes)]
            below.append((nodes, gate.size / planes / len(nodes)))
        yield below


def _around(block: Sequence[Gate], planes: Sequence[tuple[int, ...]]) -> Gate:
    return Gate(tuple(planes), block[0].first, sum(gate.size for gate in block))


_BUILDERS = {
    "nvswitch": _switched,
    "pcie": _switched,
    "mesh": _meshed,
    "torus": _torus,
    "nic": _carded,
    "spine": _cored,
    "dragonfly": _grouped,
}
