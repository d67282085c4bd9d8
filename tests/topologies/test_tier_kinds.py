"""Dragonflies, planes and equal uplinks as tiers, and rates that were written in bits."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.topologies.files import EXAMPLES, figure, link, mends, tier, written
from tests.topologies.files import graph as graph_file
from topologies.builders import build_graph
from topologies.catalogue import cluster_names, load_cluster
from topologies.graph import NodeKind
from topologies.quotient import quotient

NODE = tier("nvlink", "nvswitch", 4, 100)
CARDS = tier("cards", "nic", 16, 20)
GLOBAL = tier("global", "dragonfly", "all", 9, peer_GBps=figure(3))


def cluster(*tiers, nodes=16):
    return {
        "name": "mine",
        "title": "Mine",
        "accelerator": "h100-sxm",
        "accelerators_per_node": 4,
        "nodes": nodes,
        "tiers": list(tiers),
    }


def degrees(graph, kind):
    """Return how many neighbours of each kind the nodes of one kind have."""
    kinds = dict(graph.graph.nodes.data("kind"))
    return {
        tuple(sorted(Counter(str(kinds[head]) for head in graph.graph[node]).items()))
        for node, own in kinds.items()
        if own is kind
    }


def test_every_two_groups_of_a_dragonfly_are_joined_directly(tmp_path):
    found = load_cluster(written(tmp_path, cluster(NODE, CARDS, GLOBAL)))
    last = found.tiers[-1]
    assert (last.fabric, last.scale_out) == ("dragonfly", True)
    assert (last.Bps.value, last.peer_Bps.value) == (9e9, 3e9)
    graph = build_graph(found)
    assert graph.kinds()[NodeKind.SPINE] == 4  # 64 accelerators in groups of 16
    assert degrees(graph, NodeKind.SPINE) == {(("leaf", 1), ("spine", 3))}
    (direct,) = (li for li in graph.links() if li.name == "global")
    assert (direct.Bps, graph.links()[direct]) == (16 * 3e9, 4 * 3)
    assert [(b.span, b.Bps) for b in quotient(graph)] == [(4, 100e9), (16, 20e9), (64, 9e9)]


def test_the_example_dragonfly_gives_its_tiers_back():
    found = load_cluster(str(EXAMPLES / "dragonfly.yaml"))
    levels = quotient(build_graph(found))
    assert [b.span for b in levels] == [4, 128, 640]
    assert [b.Bps for b in levels] == pytest.approx([t.Bps.value for t in found.tiers])
    assert all("assumed" in entry.source for _, entry in found.tiers[-1].figures())


@pytest.mark.parametrize("rails", [False, True])
@pytest.mark.parametrize("planes", [1, 2, 4])
@pytest.mark.parametrize("paths", [1, 3])
def test_planes_and_paths_share_the_rate_of_a_card_and_of_an_uplink(tmp_path, rails, planes, paths):
    cards = tier("cards", "nic", 16, 20, rails=rails, planes=planes, paths=paths)
    core = tier("core", "spine", "all", 10, paths=2)
    found = load_cluster(written(tmp_path, cluster(NODE, cards, core)))
    assert [(t.planes, t.paths) for t in found.tiers] == [(1, 1), (planes, paths), (1, 2)]
    graph = build_graph(found)
    leaves = 4 if rails else 1
    kinds = graph.kinds()
    assert kinds[NodeKind.LEAF] == 4 * leaves * planes
    assert kinds[NodeKind.SPINE] == 4 * planes * paths
    assert kinds[NodeKind.CORE] == 2 * planes
    assert degrees(graph, NodeKind.NIC) == {(("accelerator", 1), ("leaf", planes))}
    assert degrees(graph, NodeKind.LEAF) == {(("nic", 16 // leaves), ("spine", paths))}
    assert degrees(graph, NodeKind.SPINE) == {(("core", 2), ("leaf", leaves))}
    assert degrees(graph, NodeKind.CORE) == {(("spine", 4 * paths),)}  # of its own plane
    expected = [100e9, 20e9, 10e9]
    assert [b.Bps for b in quotient(graph)] == pytest.approx(expected)
    kind = dict(graph.graph.nodes.data("kind"))
    total: Counter[tuple[str, str]] = Counter()
    for tail, head, li in graph.edges():
        total[str(kind[tail]), str(kind[head])] += li.Bps
    assert total["nic", "leaf"] == pytest.approx(64 * 20e9)
    assert total["leaf", "spine"] == pytest.approx(64 * 20e9)
    assert total["spine", "core"] == pytest.approx(64 * 10e9)


@pytest.mark.parametrize(
    ("cards", "of_accelerators", "of_cards"),
    [(None, 1, 1), (4, 1, 1), (2, 1, 2), (1, 1, 4), (8, 2, 1), (16, 4, 1)],
)
@pytest.mark.parametrize("rails", [False, True])
@pytest.mark.parametrize("planes", [1, 2])
def test_a_node_has_the_cards_its_file_states(
    tmp_path, cards, of_accelerators, of_cards, rails, planes
):
    more = {} if cards is None else {"cards": cards}
    content = cluster(NODE, tier("cards", "nic", "all", 20, rails=rails, planes=planes, **more))
    found = load_cluster(written(tmp_path, content))
    many = cards or 4
    assert found.cards == many
    graph = build_graph(found)
    assert graph.kinds()[NodeKind.NIC] == graph.cards == 16 * many
    assert degrees(graph, NodeKind.ACCELERATOR) == {(("nic", of_accelerators), ("switch", 1))}
    leaves = ("leaf", planes)
    assert degrees(graph, NodeKind.NIC) == {(("accelerator", of_cards), leaves)}
    assert graph.kinds()[NodeKind.LEAF] == (many if rails else 1) * planes
    assert quotient(graph)[-1].Bps == pytest.approx(20e9)  # of an accelerator, whoever shares
    rates = {(str(kind[0]), str(kind[1])): link.Bps for link, kind in graph.joins()}
    assert rates["accelerator", "nic"] == pytest.approx(20e9 / of_accelerators)
    assert rates["nic", "leaf"] == pytest.approx(4 * 20e9 / many / planes)


@pytest.mark.parametrize("cards", [1, 2, 3, 5, 6, 7, 9, 12])
@pytest.mark.parametrize("accelerators", [1, 2, 4, 12])
def test_whatever_cards_a_node_has_accelerators_have_their_rate(tmp_path, cards, accelerators):
    content = cluster(NODE, tier("cards", "nic", "all", 20, cards=cards))
    graph = build_graph(load_cluster(written(tmp_path, content), gpus=accelerators))
    hosts, part = divmod(accelerators, 4)
    assert graph.cards == hosts * cards + -(-part * cards // 4)
    sent, received = Counter(), Counter()
    kind = dict(graph.graph.nodes.data("kind"))
    for tail, head, li in graph.edges():
        if (kind[tail], kind[head]) == (NodeKind.ACCELERATOR, NodeKind.NIC):
            sent[tail] += li.Bps
            received[head] += li.Bps
        elif (kind[tail], kind[head]) == (NodeKind.NIC, NodeKind.LEAF):
            received[tail] -= li.Bps  # a card passes on what its accelerators send
    assert [sent[i] for i in range(accelerators)] == pytest.approx([20e9] * accelerators)
    assert [received[card] for card in received] == pytest.approx([0.0] * graph.cards, abs=1.0)


@pytest.mark.parametrize(("name", "cards"), [("aws-p4d", 8), ("gcp-a3-high", 8), ("aws-p5", 64)])
def test_catalogue_nodes_are_built_with_the_cards_they_have(name, cards):
    assert build_graph(load_cluster(f"{name}:2")).cards == cards


def test_cards_of_single_links_and_of_mixes_are_those_of_a_node(tmp_path):
    assert load_cluster(str(EXAMPLES / "bridged-boxes.yaml")).cards == 2
    written(tmp_path, cluster(NODE, tier("cards", "nic", "all", 20, cards=2)), "few.yaml")
    written(tmp_path, cluster(NODE, tier("cards", "nic", "all", 20)), "many.yaml")
    parts = [{"cluster": "many.yaml"}, {"cluster": "few.yaml"}]
    mix = {"name": "mine", "title": "Mine", "parts": parts}
    core = tier("core", "spine", "all", 10)
    assert load_cluster(written(tmp_path, mix | {"tiers": [core]})).cards == 2


def test_groups_of_two_planes_are_joined_plane_by_plane(tmp_path):
    cards = tier("cards", "nic", 16, 20, planes=2)
    graph = build_graph(load_cluster(written(tmp_path, cluster(NODE, cards, GLOBAL))))
    assert degrees(graph, NodeKind.SPINE) == {(("leaf", 1), ("spine", 3))}
    assert quotient(graph)[-1].Bps == pytest.approx(9e9)


def test_alibaba_hpn_has_two_planes():
    graph = build_graph(load_cluster("alibaba-hpn:256"))
    assert load_cluster("alibaba-hpn").tiers[1].planes == 2
    assert graph.kinds()[NodeKind.LEAF] == 2 * 8 * 2
    assert degrees(graph, NodeKind.NIC) == {(("accelerator", 1), ("leaf", 2))}


@pytest.mark.parametrize(
    ("tiers", "field", "mend"),
    [
        (
            [NODE, CARDS, tier("global", "dragonfly", "all", 9)],
            "tiers.2.peer_GBps",
            "towards one other group",
        ),
        (
            [NODE, CARDS, tier("global", "dragonfly", "all", 2, peer_GBps=figure(3))],
            "tiers.2.peer_GBps",
            "at most the rate towards all groups together (2)",
        ),
        ([NODE, GLOBAL], "tiers.1.fabric", "put a nic tier inside it"),
        ([NODE, tier("core", "spine", "all", 9)], "tiers.1.fabric", "put a nic tier inside it"),
        (
            [NODE | {"planes": 2}, CARDS | {"spans": "all"}],
            "tiers.0.planes",
            "belong to a nic tier",
        ),
        ([NODE | {"paths": 2}, CARDS | {"spans": "all"}], "tiers.0.paths", "nic or spine tier"),
        ([NODE, CARDS, GLOBAL | {"paths": 2}], "tiers.2.paths", "nic or spine tier"),
        ([NODE, CARDS | {"spans": "all", "planes": 0}], "tiers.1.planes", "greater than or equal"),
        ([NODE, CARDS | {"spans": "all", "paths": -1}], "tiers.1.paths", "greater than or equal"),
        (
            [NODE, tier("cards", "nic", "all", 400)],
            "tiers.1.GBps",
            "network cards are sold in Gb/s: 400 Gb/s is 50 GB/s",
        ),
    ],
)
def test_what_a_tier_cannot_be(tmp_path, tiers, field, mend):
    found = [entry for entry in mends(written(tmp_path, cluster(*tiers))) if entry[0] == field]
    assert len(found) == 1
    assert mend in found[0][2]


@pytest.mark.parametrize(
    "key", ["Gbps", "gbps", "GBit", "Gbit", "gbit_s", "Gb", "Gb/s", "peer_Gbps", "Tbps", "Gbits"]
)
def test_a_key_in_bits_says_what_to_do(tmp_path, key):
    content = cluster(NODE, CARDS | {"spans": "all", key: figure(400)})
    found = {field: mend for field, _, mend in mends(written(tmp_path, content))}
    assert found == {f"tiers.1.{key}": "rates are in GB/s: divide Gb/s by 8"}


def test_a_key_in_bytes_of_another_case_is_only_misspelt(tmp_path):
    content = cluster(NODE, CARDS | {"spans": "all", "GBPS": figure(400)})
    ((_, _, mend),) = mends(written(tmp_path, content))
    assert "did you mean GBps" in mend


@pytest.mark.parametrize(
    ("words", "slip"),
    [
        ({"source": "a 100 Gb/s adapter"}, True),
        ({"source": "x", "note": "100Gbps"}, True),
        ({"source": "x", "note": "0.1 Tb/s per card"}, True),
        ({"source": "x", "note": "8 x 100 Gb/s: 100 GB/s"}, False),
        ({"source": "100 GB/s"}, False),
        ({"source": "100 GBps"}, False),
        ({"source": "an 800 Gb/s adapter"}, False),
        ({"source": "1,100 Gb/s"}, False),
    ],
)
def test_a_rate_whose_own_words_count_bits_is_refused(tmp_path, words, slip):
    rate = {"value": 100, "kind": "spec", **words}
    path = written(tmp_path, cluster(NODE, CARDS | {"spans": "all", "GBps": rate}))
    if not slip:
        assert load_cluster(path).tiers[1].Bps.value == 100e9
        return
    ((field, value, mend),) = mends(path)
    assert (field, value) == ("tiers.1.GBps.value", "100")
    assert mend.endswith("says 100 Gb/s: divide Gb/s by 8")


@pytest.mark.parametrize("key", ["latency_us", "start_us", "chunk_us", "relay_us", "peer_issue_us"])
@pytest.mark.parametrize(
    ("value", "meant", "given"),
    [
        (0.00000893, "8.93", "0.00000893"),
        (8.93e-7, "0.893", "0.000000893"),
        (0.0003, "300", "0.0003"),
        (0.00893, "8.93", "0.00893"),  # milliseconds
    ],
)
def test_a_wait_in_seconds_is_refused(tmp_path, key, value, meant, given):
    card = CARDS | {"spans": "all", key: figure(value)}
    ((field, said, mend),) = mends(written(tmp_path, cluster(NODE, card)))
    assert (field, said) == (f"tiers.1.{key}.value", given)
    assert mend == f"in microseconds: {meant}, not {given}"


def test_a_wait_of_single_links_in_seconds_is_refused(tmp_path):
    nodes = {"accelerator": "g[0-3]", "switch": "sw"}
    slow = link("a", 9, ["g[0-3]", "sw"], latency_us=figure(2e-6), start_us=figure(5e-6))
    found = {field: mend for field, _, mend in mends(written(tmp_path, graph_file(nodes, slow)))}
    assert found == {
        "links.0.latency_us.value": "in microseconds: 2, not 0.000002",
        "links.0.start_us.value": "in microseconds: 5, not 0.000005",
    }


def test_waits_may_be_nothing_and_latencies_short(tmp_path):
    none = {"start_us": figure(0), "chunk_us": figure(0), "latency_us": figure(0.01)}
    found = load_cluster(written(tmp_path, cluster(NODE, CARDS | {"spans": "all"} | none))).tiers[1]
    assert (found.start_s.value, found.chunk_s.value) == (0.0, 0.0)
    assert found.latency_s.value == pytest.approx(1e-8)
    path = written(tmp_path, cluster(NODE, CARDS | {"spans": "all", "latency_us": figure(0)}))
    assert [field for field, _, _ in mends(path)] == ["tiers.1.latency_us.value"]


def test_no_catalogue_file_is_taken_for_a_slip():
    assert all(load_cluster(name) for name in cluster_names())
