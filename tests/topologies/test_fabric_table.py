"""The fabric as a table, against rates worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from tests.topologies.files import EXAMPLES, graph, link, written
from tests.topologies.test_fabric import CARD, FAR, GB, HOP, NVLINK, SEND, SWITCH
from topologies.algorithms import ALGORITHMS
from topologies.catalogue import cluster_names, load_cluster
from topologies.collective import Collective
from topologies.ecmp import Ecmp, has_equal_links, slowdown
from topologies.fabric_table import FabricTable, axis_pairs, telling_pairs
from topologies.library import Algorithm

DGX = load_cluster("h100-dgx:4")


def figures(cluster, pair, collective, algorithm, **how):
    """Return latency in us, bus bandwidth in GB/s and sharing of one row."""
    table = FabricTable.of(cluster, [pair], **how)
    (found,) = (
        one
        for one in table.figures
        if one.collective is collective and one.algorithm is algorithm and one.able[0]
    )
    return found.latency_s[0] * 1e6, found.bus_Bps[0] / GB, found.sharing[0]


@pytest.mark.parametrize(
    ("pair", "collective", "algorithm", "latency_us", "bus_GBps"),
    [
        # Eight over NVSwitch: seven hops, every link at its rate; an all-reduce goes round twice.
        ((8, 1), Collective.ALL_GATHER, Algorithm.RING, 7 * HOP, NVLINK),
        ((8, 1), Collective.ALL_REDUCE, Algorithm.RING, 14 * HOP, NVLINK),
        # Every byte crosses a link once each way instead of 2 x 7/8 times.
        ((8, 1), Collective.ALL_REDUCE, Algorithm.NVLS, 44.5, 1.75 * SWITCH),
        # One of each node, a card each.
        ((4, 8), Collective.ALL_GATHER, Algorithm.RING, 3 * FAR, CARD),
        ((4, 8), Collective.BROADCAST, Algorithm.RING, 3 * FAR, CARD),
        # 24 of 31 others are beyond the node: a card sends 24/32 of what the bus counts as 31/32.
        ((32, 1), Collective.ALL_TO_ALL, Algorithm.PAIRWISE, 3 * HOP + 2 * FAR, CARD * 31 / 24),
        ((4, 8), Collective.SHIFT, Algorithm.DIRECT, FAR, SEND),
    ],
)
def test_figures_of_h100_nodes_by_hand(pair, collective, algorithm, latency_us, bus_GBps):
    found = figures(DGX, pair, collective, algorithm)
    assert found == (pytest.approx(latency_us), pytest.approx(bus_GBps), 1.0)


def test_groups_that_share_a_link_are_faster_alone():
    """Meta's spine carries a seventh of the cards' rate; QPI a quarter of 24 GB/s for each of 4.

    Alone, a GPU's own PCIe wire carries 23.6.
    """
    pods = load_cluster("meta-24k:3072")
    kinds = [(c, ALGORITHMS[c][0]) for c in Collective]
    in_turn = [(Collective.ALL_TO_ALL, Algorithm.HIERARCHICAL)]
    in_turn += [(Collective.ALL_GATHER, Algorithm.HALVING_DOUBLING)]
    for kind in kinds + in_turn:
        usable = SEND if kind[0] is Collective.SHIFT else CARD
        assert figures(pods, (2, 3072), *kind)[2] == pytest.approx(usable / (7.14 * 0.97))
        assert figures(pods, (2, 1536), *kind)[2] == 1.0
        assert figures(load_cluster("a100-pcie"), (2, 4), *kind)[2] == pytest.approx(31 * 0.762 / 6)
    assert figures(load_cluster("a100-pcie"), (8, 1), *kinds[0])[2] == 1.0  # nobody to share with


def test_on_single_links_a_group_alone_has_no_more_than_its_cards(tmp_path):
    """Two leaves of four cards of 50 GB/s, joined by a link of 100, then of 1,000."""

    def shared(up):
        nodes = {"accelerator": "g[0-7]", "nic": "n[0-7]", "leaf": "leaf[0-1]"}
        pairs = [[f"g{at}", f"n{at}"] for at in range(8)]
        cards = link("card", 50, *pairs, ["n[0-3]", "leaf0"], ["n[4-7]", "leaf1"])
        content = graph(nodes, cards, link("up", up, ["leaf0", "leaf1"]), a_node=1)
        cluster = load_cluster(written(tmp_path, content))
        return figures(cluster, (2, 4), Collective.SHIFT, Algorithm.DIRECT)[1:]

    assert shared(100) == (pytest.approx(0.9 * 25), pytest.approx(2.0))
    assert shared(1000) == (pytest.approx(0.9 * 50), pytest.approx(1.0))


def test_alone_a_group_collides_with_itself_only():
    """Pods with 64 uplinks of 343 GB/s each: one flow of 50 has room on whichever it takes.

    With 1,024 of 21 GB/s it has that one's rate.
    """
    pods = load_cluster("meta-24k:1024")
    thick, thin = (
        replace(pods, tiers=(*pods.tiers[:2], replace(pods.tiers[2], paths=paths)))
        for paths in (64, 1024)
    )
    pair, kind = (2, 3072), (Collective.SHIFT, Algorithm.DIRECT)
    _, rate, sharing = figures(thick, pair, *kind, ecmp=Ecmp.EXPECTED)
    slower = slowdown(np.array([3072.0]), 64, Ecmp.EXPECTED, sets=2 * 3)[0]  # three pods begun
    assert slower > 1.2
    assert rate == pytest.approx(7.14 * 0.97 / slower)
    assert rate * sharing == pytest.approx(SEND)
    _, rate, sharing = figures(thin, pair, *kind, ecmp=Ecmp.EXPECTED)
    assert rate * sharing == pytest.approx(7.14 * 0.97 * 3072 / 1024)


@pytest.mark.parametrize("cluster", [*cluster_names(), *sorted(map(str, EXAMPLES.glob("*.yaml")))])
def test_every_cluster_has_finite_figures_and_is_never_slower_alone(cluster):
    loaded = load_cluster(cluster)
    if loaded.graph is None and not loaded.parts and loaded.stated is None:
        loaded = loaded.take(2 * loaded.accelerators)
    table = FabricTable.of(loaded)
    assert table.pairs == tuple(axis_pairs(loaded.accelerators))
    for found in table.figures:
        for values in (found.latency_s, found.bus_Bps, found.sharing):
            assert np.isfinite(values[found.able]).all()
            assert (values[found.able] > 0).all()
        assert (found.sharing[found.able] >= 1.0 - 1e-12).all()
    known = {(one.collective, one.algorithm) for one in table.figures}
    assert {collective for collective, _ in known} == set(Collective)
    assert ((Collective.ALL_GATHER, Algorithm.TORUS) in known) == any(
        tier.fabric == "torus" for tier in loaded.tiers
    )


def test_switches_reduce_for_those_who_are_enough_only():
    table = FabricTable.of(DGX, [(4, 1), (8, 1), (32, 1)])
    able = {one.algorithm: one.able.tolist() for one in table.figures if len(one.able) == 3}
    assert able[Algorithm.NVLS] == [False, True, False]
    assert able[Algorithm.NVLS_TREE] == [False, False, True]


def test_pairs_are_all_that_fill_the_cluster():
    wanted = [(n, s) for n in range(2, 73) for s in range(1, 73) if 72 % (n * s) == 0]
    assert axis_pairs(72) == wanted
    assert axis_pairs(1) == []
    assert len(axis_pairs(10**9)) < 5000  # and soon


def test_telling_pairs_have_one_for_each_tier_beyond_the_innermost():
    assert telling_pairs(load_cluster("h100-dgx:3")) == [(2, 1), (3, 8), (4, 1), (8, 1), (24, 1)]
    pods = telling_pairs(load_cluster("meta-24k:3072"))
    assert [pair for pair in pods if pair[1] > 1] == [(8, 3072), (384, 8)]


def test_the_whole_table_of_16384_takes_far_less_than_a_second():
    cluster = load_cluster("h100-dgx:2048")
    start = perf_counter()
    table = FabricTable.of(cluster)
    assert perf_counter() - start < 0.5
    assert len(table.pairs) == 105


def test_flows_have_equal_links_on_spines_with_paths_dragonflies_and_graphs():
    spread = load_cluster("meta-24k:1024")
    hashed = replace(spread, tiers=(*spread.tiers[:2], replace(spread.tiers[2], paths=64)))
    examples = {path.stem: has_equal_links(load_cluster(str(path))) for path in EXAMPLES.iterdir()}
    assert (has_equal_links(spread), has_equal_links(hashed)) == (False, True)
    assert examples == {
        "bridged-boxes": True,
        "cube-mesh": True,
        "dragonfly": True,
        "h100-and-a100": False,
    }
