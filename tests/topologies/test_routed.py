"""Flows routed over single links, against closed forms of tiers and rates worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topologies.files import EXAMPLES, graph, link, written
from tests.topologies.test_fabric import CARD, GB, NVLINK
from tests.topologies.test_graph import of_several_blocks
from topologies import cluster_names, load_cluster
from topologies.algorithms import way
from topologies.builders import build_graph
from topologies.collective import Collective
from topologies.ecmp import Ecmp
from topologies.fabric import Fabric
from topologies.graph import ClusterGraph, Link, NodeKind
from topologies.group_links import GroupLinks
from topologies.library import Algorithm
from topologies.routed import DRAWS, RoutedGraph, group_members
from topologies.routes import Flows, Routes

if TYPE_CHECKING:
    from topologies.cluster import Cluster

PATTERNS = (
    (Collective.ALL_GATHER, Algorithm.RING),
    (Collective.ALL_TO_ALL, Algorithm.PAIRWISE),
    (Collective.SHIFT, Algorithm.DIRECT),
)
#: Bytes through host memory take their share wherever they go, which no link shows.
STAGED = {"l40s-pcie", "l20-pcie", "rtx-a6000-pcie", "a100-pcie-staged"}
TORI = {name for name in cluster_names() if load_cluster(name).tiers[0].fabric == "torus"}
SWITCHED = sorted(set(cluster_names()) - STAGED - TORI)


def both(name: str) -> tuple[list[tuple[int, int]], GroupLinks, GroupLinks]:
    """Return groups of a cluster of two blocks, and what tiers and routed links give them."""
    cluster = of_several_blocks(name)
    if cluster.accelerators < 16 and cluster.tiers[0].fabric != "torus":
        cluster = cluster.take(16)
    many = cluster.accelerators
    pairs = [
        (size, stride)
        for size in (2, 4, 8, 16, many)
        for stride in (1, 2, 4, 8, 16)
        if many % (size * stride) == 0 and size * stride <= many
    ]
    sizes, steps = (np.array([float(pair[at]) for pair in pairs]) for at in (0, 1))
    closed = Fabric(cluster).links((sizes, steps))
    routed = RoutedGraph(build_graph(cluster), cluster.tiers).crossings([(sizes, steps)])
    return pairs, closed, GroupLinks(size=sizes, crossings=routed, library=closed.library)


@pytest.mark.parametrize("name", SWITCHED)
def test_tiers_in_closed_form_are_what_routing_every_link_gives(name):
    """All patterns, every group that divides the cluster: rates, and members of each block."""
    pairs, closed, routed = both(name)
    for ours, theirs in zip(closed.crossings, routed.crossings, strict=True):
        assert ours.below.tolist() == theirs.below.tolist()
        assert ours.inside.tolist() == theirs.inside.tolist()
    regular = [72 % (size * stride) == 0 or (size * stride) % 72 == 0 for size, stride in pairs]
    compared = np.array(regular) | (not name.endswith("nvl72"))  # groups across racks: see below
    for collective, algorithm in PATTERNS:
        found, wanted = (way(collective, algorithm, one).per_byte_s for one in (closed, routed))
        assert found[compared] == pytest.approx(wanted[compared], rel=1e-3), (algorithm, pairs)


@pytest.mark.parametrize(
    ("file", "ecmp"),
    # Routes are the shortest: a dragonfly's way over other groups is left to adaptive routing.
    [("h100-and-a100", Ecmp.PERFECT), ("dragonfly", Ecmp.EXPECTED)],
)
def test_mixes_and_dragonflies_in_closed_form_are_what_routing_gives(file, ecmp):
    cluster = load_cluster(str(EXAMPLES / f"{file}.yaml"))
    many = cluster.accelerators
    sizes, steps = np.array(
        [
            (float(size), float(stride))
            for size in (2, 4, 5, 8, 16)
            for stride in (1, 2, 4, 8, 16, 32, 128)
            if many % (size * stride) == 0 and (size != 5 or stride == 128)
        ]
    ).T
    closed = Fabric(cluster, ecmp).links((sizes, steps))
    graph = RoutedGraph(build_graph(cluster), cluster.tiers)
    routed = replace(closed, crossings=graph.crossings([(sizes, steps)]))
    for collective, algorithm in PATTERNS:
        found, wanted = (way(collective, algorithm, one).per_byte_s for one in (closed, routed))
        assert found == pytest.approx(wanted, rel=1e-3)


def test_adaptive_routing_over_other_groups_helps_two_groups_of_a_dragonfly():
    """Straight links between two groups carry a part; half of all links, over the others, more."""
    cluster = load_cluster(str(EXAMPLES / "dragonfly.yaml"))
    axes = (np.array([2.0]), np.array([128.0]))
    straight, adaptive = (Fabric(cluster, e).links(axes) for e in (Ecmp.EXPECTED, Ecmp.PERFECT))
    top = cluster.tiers[-1]
    usable = top.usable_fraction.value
    assert straight.ring_Bps[0] == pytest.approx(top.peer_Bps.value * usable)
    better = max(top.peer_Bps.value, top.Bps.value / 2) * usable
    assert adaptive.ring_Bps[0] == pytest.approx(
        min(better, 25e9 * cluster.tiers[1].usable_fraction.value)
    )


@pytest.mark.parametrize("name", ["gb200-nvl72", "gb300-nvl72"])
def test_groups_across_a_border_of_racks_are_within_a_tenth(name):
    _, closed, routed = both(name)
    for collective, algorithm in PATTERNS:
        found, wanted = (way(collective, algorithm, one).per_byte_s for one in (closed, routed))
        assert found == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("name", sorted(TORI))
def test_no_routing_of_an_all_to_all_beats_the_bisection_of_a_torus(name):
    _, closed, routed = both(name)
    found, wanted = (way(*PATTERNS[1], one).per_byte_s for one in (closed, routed))
    assert (found <= wanted * 1.001).all()
    cube = name in ("tpu-v4", "tpu-v5p")  # every side of four chips and closed: no edge effects
    assert found == pytest.approx(wanted, rel=1e-3 if cube else 0.5)


def test_flows_of_one_group_are_the_ranks_a_stride_apart():
    assert group_members([(2, 1), (2, 4)], 8).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert group_members([(4, 2)], 16).shape == (4, 4)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=40),
)
def test_what_leaves_arrives(seed, pairs):
    """Links into an accelerator carry what is for it, whatever routing; nothing is lost or made."""
    graph = build_graph(load_cluster("h100-dgx:2"))
    routes = Routes.of(graph)
    source, target = np.array(pairs).T
    flows = Flows(source, target, np.ones(len(pairs)))
    wanted = np.bincount(target[source != target], minlength=16)
    for loads in (routes.loads(flows), routes.loads(flows, seed)):
        into = np.bincount(routes.heads, weights=loads, minlength=16)[:16]
        assert into == pytest.approx(wanted)


def two_spines() -> ClusterGraph:
    """Return four nodes of one accelerator on two leaves, joined by two spines."""
    graph = ClusterGraph("small", 4, 1)
    card = Link(
        name="eth",
        level=0,
        scale_out=True,
        Bps=10.0,
        latency_s=1e-6,
        start_s=0.0,
        chunk_s=0.0,
        usable_fraction=1.0,
        source="by hand",
    )
    cards, leaves, spines = (
        graph.add(kind, many)
        for kind, many in ((NodeKind.NIC, 4), (NodeKind.LEAF, 2), (NodeKind.SPINE, 2))
    )
    graph.join(zip(range(4), cards, strict=True), card)
    graph.join(((cards[i], leaves[i // 2]) for i in range(4)), card)
    graph.join(((leaf, spine) for leaf in leaves for spine in spines), card)
    return graph


def test_perfect_routing_splits_and_hashed_flows_collide():
    routes = Routes.of(two_spines())
    flows = Flows(np.array([0, 1]), np.array([2, 3]), np.ones(2))
    assert routes.loads(flows).max() == 1.0
    one = routes.loads(Flows(flows.source[:1], flows.target[:1], flows.weight[:1]))
    assert sorted(one[one > 0]) == [0.5] * 4 + [1.0] * 4
    fullest = [routes.loads(flows, seed).max() for seed in range(64)]
    assert set(fullest) == {1.0, 2.0}  # apart, or both over one spine
    assert 0.25 < np.mean(np.array(fullest) == 2.0) < 0.75
    assert fullest == [routes.loads(flows, seed).max() for seed in range(64)]


def test_accelerators_pass_nothing_on_for_others_where_a_switch_does():
    """Bridged pairs in a PCIe box: from 0 to 3 over the switch, not over 0's or 3's partner."""
    graph = build_graph(load_cluster("h100-pcie"))
    routes = Routes.of(graph)
    loads = routes.loads(Flows(np.array([0]), np.array([3]), np.ones(1)))
    used = {routes.links[at].name for at in np.flatnonzero(loads)}
    assert used == {"pcie"}
    loads = routes.loads(Flows(np.array([0]), np.array([1]), np.ones(1)))
    assert {routes.links[at].name for at in np.flatnonzero(loads)} == {"nvlink"}


def test_hashing_makes_groups_slower_and_a_seed_makes_it_repeatable():
    cluster = load_cluster("h100-dgx:8")
    graph = build_graph(cluster)
    axes = [(np.array([16.0]), np.array([1.0]))]

    def shift(ecmp: Ecmp, seed: int = 0) -> float:
        routed = RoutedGraph(graph, cluster.tiers, ecmp, seed)
        return float(routed.crossings(axes)[-1].shift_Bps[0])

    assert shift(Ecmp.PERFECT) / GB == pytest.approx(CARD)
    assert shift(Ecmp.SEEDED, 3) == shift(Ecmp.SEEDED, 3) <= shift(Ecmp.PERFECT)
    assert shift(Ecmp.EXPECTED) <= shift(Ecmp.PERFECT)


def test_the_expectation_is_the_mean_load_of_several_draws():
    graph = two_spines()
    cluster = load_cluster("h100-dgx")
    card = replace(cluster.tiers[1], spans=None)
    axes = [(np.array([2.0]), np.array([2.0]))]

    def busy(ecmp: Ecmp, seed: int = 0) -> float:
        routed = RoutedGraph(graph, (card,), ecmp, seed)
        return float(1.0 / routed.crossings(axes)[0].shift_Bps[0])

    draws = [busy(Ecmp.SEEDED, seed) for seed in range(DRAWS)]
    assert busy(Ecmp.EXPECTED) == pytest.approx(np.mean(draws))
    assert len(set(draws)) > 1
    assert busy(Ecmp.PERFECT) <= min(draws)


def test_groups_with_unlike_shares_of_nodes_are_cut_where_all_can_be():
    """Six ranks on nodes of eight: six in one node, or two and four; pairs are what fits both."""
    cluster = load_cluster("h100-dgx:3")
    routed = RoutedGraph(build_graph(cluster), cluster.tiers)
    found = routed.crossings([(np.array([6.0]), np.array([1.0]))])
    assert found[0].inside == 2
    assert found[1].ring_Bps[0] / GB == pytest.approx(2 * CARD, rel=0.35)


def test_one_group_alone_has_what_the_others_leave():
    """PCIe box: four pairs across the sockets share 24 GB/s of QPI; one alone has its own wire."""
    wire = 31 * 0.762
    box = load_cluster("a100-pcie")
    axes = [(np.array([2.0]), np.array([4.0]))]
    graph = build_graph(box)
    usual, alone = (
        RoutedGraph(graph, box.tiers, alone=rest).crossings(axes)[1].shift_Bps[0] / GB
        for rest in (False, True)
    )
    assert usual == pytest.approx(6)
    assert alone == pytest.approx(wire)
    closed = Fabric(box, alone=True).links(*axes)
    assert closed.ring_Bps[0] / GB == pytest.approx(wire)
    assert closed.shift_Bps[0] / GB == pytest.approx(wire)


def test_a_node_that_rings_through_its_nvlink_is_bound_by_its_cards():
    _, _, routed = both("h100-dgx")
    whole = way(Collective.ALL_GATHER, Algorithm.RING, routed)
    assert 1e-9 / whole.per_byte_s[-1] == pytest.approx(8 * CARD * 16 / 15)
    inside = way(Collective.ALL_GATHER, Algorithm.RING, routed).levels_s[0, -1]
    assert 1e-9 / inside == pytest.approx(NVLINK * 8 / 7 * 16 / 15)


# --------------------------------------------------------------------- files of single links


def links_of(cluster: Cluster, size: int, stride: int) -> GroupLinks:
    return Fabric(cluster).links((np.array([float(size)]), np.array([float(stride)])))


def rates(cluster: Cluster, size: int, stride: int) -> list[float]:
    """Return GB/s of a ring, an all-to-all and a shift, what each rank sends."""
    found = links_of(cluster, size, stride)
    sent = ((size - 1) / size, (size - 1) / size, 1.0)
    busy = (way(*pattern, found).per_byte_s[0] for pattern in PATTERNS)
    return [share / each / GB for share, each in zip(sent, busy, strict=True)]


def test_a_cube_mesh_by_hand():
    """Half of the links are double: pairs 0-3 and 1-2 at 50 GB/s, 0-1 and 2-3 at 25, usable 0.8."""
    box = load_cluster(str(EXAMPLES / "cube-mesh.yaml"))
    usable = {tier.usable_fraction.value for tier in box.tiers}
    assert len(usable) == 1
    single = 25 * usable.pop()
    assert rates(box, 2, 1) == pytest.approx([single] * 3)  # 0-1, 2-3, 4-5, 6-7: single links
    assert rates(box, 2, 4) == pytest.approx([single] * 3)  # 0-4, 1-5 double; 2-6, 3-7 single
    assert links_of(box, 8, 1).ring_Bps[0] > 0
    assert not links_of(box, 8, 1).scale_out[0]


def test_bridged_boxes_by_hand():
    """Two cards a box, shared by four GPUs each; bridges between pairs, a switch a socket."""
    boxes = load_cluster(str(EXAMPLES / "bridged-boxes.yaml"))
    (card,) = (tier for tier in boxes.tiers if tier.scale_out)
    ring, everywhere, shift = rates(boxes, 2, 8)
    whole = card.Bps.value * card.usable_fraction.value / GB  # per GPU, of a card's four
    assert [ring, everywhere, shift] == pytest.approx([whole] * 3)
    # Half of the pairs have a bridge; those that have none set the pace, as over the switch.
    assert rates(boxes, 2, 1) == pytest.approx(rates(boxes, 2, 2))
    assert links_of(boxes, 2, 8).scale_out[0]


def test_where_nvlink_and_pcie_both_join_gpus_flows_take_nvlink(tmp_path):
    nodes = {"accelerator": "g[0-3]", "switch": ["nvsw", "plx"]}
    nvlink = link("nvlink", 450, ["g[0-3]", "nvsw"], pairing="all")
    pcie = link("pcie", 63, ["g[0-3]", "plx"], pairing="all")
    box = load_cluster(written(tmp_path, graph(nodes, nvlink, pcie)))
    assert rates(box, 2, 1) == pytest.approx([450 * 0.9] * 3)
    assert rates(box, 4, 1) == pytest.approx([450 * 0.9] * 3)


def test_a_slow_wire_to_the_card_sets_the_rate_between_nodes(tmp_path):
    """Each GPU of two nodes reaches its card of 25 GB/s over 10 GB/s of PCIe."""
    nodes = {"accelerator": "g[0-3]", "switch": "p[0-3]", "nic": "n[0-3]", "leaf": "leaf"}
    zipped = {"pairing": "zip"}
    content = graph(
        nodes,
        link("pcie", 10, ["g[0-3]", "p[0-3]"], **zipped),
        link("riser", 25, ["p[0-3]", "n[0-3]"], **zipped),
        link("card", 25, ["n[0-3]", "leaf"], pairing="all"),
        a_node=2,
    )
    pair = load_cluster(written(tmp_path, content))
    assert rates(pair, 2, 2) == pytest.approx([9.0] * 3)


def test_a_gpu_with_the_only_card_passes_on_for_its_peers(tmp_path):
    nodes = {"accelerator": "g[0-3]", "nic": "n[0-1]", "leaf": "leaf"}
    content = graph(
        nodes,
        link("bridge", 100, ["g0", "g1"], ["g2", "g3"]),
        link("riser", 25, ["g0", "n0"], ["g2", "n1"]),
        link("card", 25, ["n[0-1]", "leaf"], pairing="all"),
        a_node=2,
    )
    one_card = load_cluster(written(tmp_path, content))
    assert rates(one_card, 2, 2)[2] == pytest.approx(25 * 0.9 / 2)  # two GPUs' flows over one card


def test_chains_and_switches_mix_in_one_box(tmp_path):
    """g0-g1-g2-g3 in a chain, g1 and g3 also over two switches: from g0 along the chain."""
    nodes = {"accelerator": "g[0-3]", "switch": "s[0-1]"}
    chain = link("chain", 50, ["g0", "g1"], ["g1", "g2"], ["g2", "g3"])
    switched = link("switched", 20, ["g1", "s0"], ["s0", "s1"], ["s1", "g3"])
    box = load_cluster(written(tmp_path, graph(nodes, chain, switched)))
    assert rates(box, 4, 1)[2] > 0


def test_the_ends_of_a_pipeline_inside_a_node_stay_inside():
    """Rank 0 and rank 7 of a pipeline of 8 in one node: their sum does not leave it."""
    ends = Fabric(load_cluster("h100-dgx:2")).links((np.array([2.0]), np.array([4.0])))
    assert not ends.scale_out[0]
