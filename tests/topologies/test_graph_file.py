"""Clusters given link by link: what is built of them, and every slip with its mend."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from itertools import pairwise

import pytest

from tests.topologies.files import EXAMPLES, figure, graph, link, mends, written
from topologies.builders import build_graph
from topologies.catalogue import cluster_names, load_cluster
from topologies.draw import to_dot, to_svg
from topologies.errors import SpecError
from topologies.figure import Provenance
from topologies.node_names import expand
from topologies.quotient import quotient

#: Two hosts of four behind a switch each, a card per host, one leaf.
NODES = {"accelerator": "gpu[0-7]", "switch": "sw[0-1]", "nic": "nic[0-1]", "leaf": "leaf"}
FAST = link("nvlink", 300, ["gpu[0-3]", "sw0"], ["gpu[4-7]", "sw1"])
UP = link("pcie", 60, ["sw[0-1]", "nic[0-1]"], pairing="zip")
OUT = link("ethernet", 40, ["nic[0-1]", "leaf"])
TWO_HOSTS = graph(NODES, FAST, UP, OUT)


def changed(**changes):
    """Return the two hosts with links changed (by name), added, or other keys replaced."""
    content = deepcopy(TWO_HOSTS)
    for key, value in changes.items():
        if isinstance(value, dict) and key in (names := [li["name"] for li in content["links"]]):
            content["links"][names.index(key)] |= value
        elif key == "add":
            content["links"].append(value)
        elif key == "nodes":
            content["nodes"] = content["nodes"] | value
        else:
            content[key] = value
    return content


# --------------------------------------------------------------------------------- what is built


def test_levels_are_the_fast_domain_and_the_poorest_leg_beyond_it(tmp_path):
    found = load_cluster(written(tmp_path, TWO_HOSTS))
    assert (found.accelerators, found.nodes) == (8, 2)
    inner, outer = found.tiers
    assert (inner.fabric, inner.spans, inner.Bps.value, inner.peer_Bps.value) == (
        "nvswitch",
        4,
        300e9,
        300e9,
    )
    # Four accelerators share a card: 60 GB/s to it, 40 GB/s from it.
    assert (outer.fabric, outer.spans, outer.Bps.value) == ("nic", None, 10e9)
    assert outer.peer_Bps.value == 40e9
    assert (inner.scale_out, outer.scale_out) == (False, True)
    levels = {li.name: (li.level, li.scale_out) for li in build_graph(found).links()}
    assert levels == {"nvlink": (0, False), "pcie": (1, True), "ethernet": (1, True)}
    assert [blocks.span for blocks in quotient(build_graph(found))] == [4, 8]
    assert "data sheet" in outer.Bps.source


def test_unstated_figures_are_those_of_tiers_and_links_carry_them(tmp_path):
    content = changed(nvlink={"start_us": figure(9), "chunk_us": figure(4)})
    found = load_cluster(written(tmp_path, content))
    nvlink, pcie, _ = sorted(build_graph(found).links(), key=lambda li: -li.Bps)
    assert (nvlink.start_s, nvlink.chunk_s) == pytest.approx((9e-6, 4e-6))
    assert (pcie.start_s, pcie.chunk_s) == pytest.approx((6e-6, 3e-6))
    assert found.tiers[0].start_s.value == pytest.approx(9e-6)
    assert found.tiers[1].start_s.kind is Provenance.ASSUMED


def test_another_rate_on_the_way_back_is_a_class_of_its_own_and_the_poorer_counts(tmp_path):
    found = load_cluster(written(tmp_path, changed(ethernet={"back_GBps": figure(20)})))
    built = build_graph(found)
    names = built.graph.nodes.data("name")
    rates = {
        (names[tail], names[head]): li.Bps / 1e9
        for tail, head, li in built.edges()
        if li.name == "ethernet"
    }
    assert rates["nic0", "leaf"] == 40
    assert rates["leaf", "nic0"] == 20
    assert found.tiers[1].Bps.value == 5e9


@pytest.mark.parametrize(
    ("pairing", "between", "pairs"),
    [
        ("ring", ["a[0-3]"], {"01", "12", "23", "03"}),
        ("mesh", ["a[0-3]"], {"01", "02", "03", "12", "13", "23"}),
        ("zip", ["a[0-2]", "a[1-3]"], {"01", "12", "23"}),
        ("all", ["a0", "a[1-3]"], {"01", "02", "03"}),
        ("ring", ["a0", ["a2", "a1"], "a3"], {"02", "12", "13", "03"}),
    ],
)
def test_pairings(tmp_path, pairing, between, pairs):
    content = graph({"accelerator": "a[0-3]"}, link("wire", 10, between, pairing=pairing))
    edges = build_graph(load_cluster(written(tmp_path, content))).edges()
    assert {f"{tail}{head}" for tail, head, _ in edges if tail < head} == pairs


def test_side_by_side_links_are_one_level_whose_rates_add():
    cube = load_cluster(str(EXAMPLES / "cube-mesh.yaml"))
    (only,) = cube.tiers
    assert only.Bps.value == 150e9  # two double and two single links each
    assert only.peer_Bps.value == 25e9
    degrees = Counter(tail for tail, _, _ in cube.graph.edges())
    assert set(degrees.values()) == {4}


def test_bridges_of_some_are_no_level_but_bridges_of_all_are(tmp_path):
    nodes = {"accelerator": "g[0-3]", "switch": "sw"}
    pcie = link("pcie", 30, ["g[0-3]", "sw"])
    some = load_cluster(
        written(tmp_path, graph(nodes, link("bridge", 100, ["g0", "g1"]), pcie)),
    )
    assert [(t.name, t.Bps.value) for t in some.tiers] == [("bridge+pcie", 30e9)]
    bridges = link("bridge", 100, ["g[0,2]", "g[1,3]"], pairing="zip", usable_fraction=figure(0.5))
    both = load_cluster(written(tmp_path, graph(nodes, pcie, bridges)))
    assert [(t.name, t.spans, t.Bps.value) for t in both.tiers] == [
        ("bridge", 2, 100e9),
        ("pcie", None, 30e9),
    ]
    assert [t.usable_fraction.value for t in both.tiers] == [0.5, 0.9]


def test_cards_of_two_kinds_are_one_level_beyond_the_fast_domain(tmp_path):
    slow = link("slow", 50, ["sw1", "nic1"])
    content = changed(pcie={"between": [["sw0", "nic0"]], "pairing": "all"}, add=slow)
    found = load_cluster(written(tmp_path, content))
    assert [t.name for t in found.tiers] == ["nvlink", "pcie+slow+ethernet"]
    assert [t.Bps.value for t in found.tiers] == [300e9, 10e9]


def test_a_trunk_wider_than_the_ports_it_joins_is_a_level_outside_of_them(tmp_path):
    nodes = {"accelerator": "g[0-7]", "switch": "sw[0-1]"}
    ports = link("port", 60, ["g[0-3]", "sw0"], ["g[4-7]", "sw1"])
    content = graph(nodes, link("trunk", 100, ["sw0", "sw1"]), ports)
    found = load_cluster(written(tmp_path, content))
    assert [(t.name, t.spans, t.Bps.value, t.peer_Bps.value) for t in found.tiers] == [
        ("port", 4, 60e9, 60e9),
        ("trunk", None, 25e9, 60e9),
    ]


def test_all_planes_of_switches_serve_a_single_peer_but_only_one_port_of_a_card(tmp_path):
    nodes = {"accelerator": "g[0-3]", "switch": "sw[0-2]", "nic": "nic[0-3]", "leaf": "leaf"}
    planes = link("nvlink", 100, ["g[0-1]", "sw[0-1]"], ["g[2-3]", "sw2"])
    pcie = link("pcie", 60, ["g[0-3]", "nic[0-3]"], pairing="zip")
    cards = link("ethernet", 40, ["nic[0-3]", "leaf"])
    found = load_cluster(written(tmp_path, graph(nodes, planes, pcie, cards, a_node=2)))
    assert [(t.Bps.value, t.peer_Bps.value) for t in found.tiers] == [(100e9, 100e9), (40e9, 40e9)]
    nodes["switch"] = "sw[0-3]"
    planes = link("nvlink", 100, ["g[0-1]", "sw[0-1]"], ["g[2-3]", "sw[2-3]"])
    found = load_cluster(written(tmp_path, graph(nodes, planes, pcie, cards, a_node=2)))
    assert [(t.Bps.value, t.peer_Bps.value) for t in found.tiers] == [(200e9, 200e9), (40e9, 40e9)]


def test_the_share_of_legs_is_what_the_poorest_leg_reaches(tmp_path):
    content = changed(pcie={"usable_fraction": figure(0.5)})  # 30 of 60 GB/s, 36 of 40
    outer = load_cluster(written(tmp_path, content)).tiers[1]
    assert (outer.Bps.value, outer.usable_fraction.value) == pytest.approx((10e9, 0.75))
    assert outer.usable_fraction.source.startswith("of the poorest block: ")


def test_the_share_of_a_level_is_that_of_the_accelerators_that_have_least():
    inner = load_cluster(str(EXAMPLES / "bridged-boxes.yaml")).tiers[0]
    assert (inner.Bps.value, inner.usable_fraction.value) == (63e9, 0.762)


def test_blocks_that_are_no_runs_of_ranks_help_no_consecutive_group(tmp_path):
    nodes = {"accelerator": "g[0-3]", "switch": "sw"}
    bridges = link("bridge", 100, ["g[0,1]", "g[2,3]"], pairing="zip")  # 0-2 and 1-3
    content = graph(nodes, bridges, link("pcie", 30, ["g[0-3]", "sw"]))
    found = load_cluster(written(tmp_path, content))
    assert [t.spans for t in found.tiers] == [1, None]


def test_an_explicit_dgx_is_the_graph_that_the_builder_makes(tmp_path):
    built = build_graph(load_cluster("h100-dgx:2"))
    tiers = load_cluster("h100-dgx:2").tiers

    def figures(at):
        pairs = {"GBps": ("Bps", 1e9), "usable_fraction": ("usable_fraction", 1)}
        pairs |= {"latency_us": ("latency_s", 1e-6), "start_us": ("start_s", 1e-6)}
        pairs |= {"chunk_us": ("chunk_s", 1e-6)}
        return {
            key: figure(getattr(tiers[at], name).value / unit, getattr(tiers[at], name).source)
            for key, (name, unit) in pairs.items()
        }

    nodes = {
        "accelerator": "gpu[0-15]",
        "switch": "nvsw[0-1]",
        "nic": "nic[0-15]",
        "leaf": "leaf[0-7]",
        "spine": "spine",
    }
    nvlink = link("nvlink", 0, ["gpu[0-7]", "nvsw0"], ["gpu[8-15]", "nvsw1"]) | figures(0)
    rails = [["nic[0-7]", "leaf[0-7]"], ["nic[8-15]", "leaf[0-7]"]]
    card = link("infiniband", 0, ["gpu[0-15]", "nic[0-15]"], *rails, pairing="zip") | figures(1)
    uplink = link("infiniband", 0, ["leaf[0-7]", "spine"]) | figures(1)
    uplink["GBps"] = figure(100, tiers[1].Bps.source)
    found = load_cluster(written(tmp_path, graph(nodes, nvlink, card, uplink, a_node=8)))
    mine = build_graph(found)

    def rounded(edges):
        return Counter(
            (a, b, li.name, li.level, li.scale_out, li.source, *(round(x, 12) for x in rest(li)))
            for a, b, li in edges
        )

    def rest(li):
        return (li.Bps, li.latency_s, li.usable_fraction, li.start_s, li.chunk_s)

    assert rounded(mine.edges()) == rounded(built.edges())
    assert mine.kinds() == built.kinds()
    for derived, own in zip(found.tiers, tiers, strict=True):
        assert (derived.name, derived.spans, derived.fabric) == (own.name, own.spans, own.fabric)
        for name in ("Bps", "peer_Bps", "usable_fraction", "latency_s", "start_s", "chunk_s"):
            assert getattr(derived, name).value == pytest.approx(getattr(own, name).value)


def test_a_faster_network_is_faster_in_the_graph_too(tmp_path):
    found = load_cluster(written(tmp_path, TWO_HOSTS))
    faster = found.scale_network(2.0)
    rates = {li.name: li.Bps / 1e9 for li in faster.graph.links()}
    assert rates == {"nvlink": 300, "pcie": 120, "ethernet": 80}
    assert faster.tiers[1].Bps.value == 20e9
    assert {li.name: li.Bps / 1e9 for li in found.graph.links()}["ethernet"] == 40
    assert [blocks.Bps for blocks in quotient(build_graph(faster))] == [300e9, 30e9]


def test_names_are_on_the_picture(tmp_path):
    built = build_graph(load_cluster(written(tmp_path, TWO_HOSTS)))
    svg, dot = to_svg(built, "mine"), to_dot(built)
    for name in ("gpu7", "sw1", "nic1", "leaf"):
        assert f">{name}</text>" in svg
        assert f'label="{name}"' in dot


def test_switches_of_one_host_stand_side_by_side_and_cards_between_accelerators():
    from topologies.fold import fold
    from topologies.place import Page

    picture = fold(build_graph(load_cluster(str(EXAMPLES / "bridged-boxes.yaml"))))
    page = Page(picture, 650.0)
    for box in picture.boxes:
        left, right = (page.spots[mark.key] for mark in box.switches)
        assert left.y == right.y
        assert left.right < right.left
        hosts = [page.spots[mark.key] for mark in box.accelerators]
        for card in box.cards:
            x = page.spots[card.key].x
            assert not any(spot.left <= x <= spot.right for spot in hosts)
            assert any(spot.left < x < spot.right for spot in (left, right))


def test_cards_of_one_switch_stand_apart_beside_the_accelerators(tmp_path):
    from topologies.fold import fold
    from topologies.place import Page

    nodes = {"accelerator": "g[0-2]", "switch": "sw", "nic": "nic[0-1]", "leaf": "leaf"}
    wires = [link("a", 9, ["g[0-2]", "sw"]), link("b", 9, ["nic[0-1]", ["sw", "leaf"]])]
    content = graph(nodes, *wires, a_node=3)
    picture = fold(build_graph(load_cluster(written(tmp_path, content))))
    page = Page(picture, 650.0)
    (box,) = picture.boxes
    one, other = (page.spots[mark.key] for mark in box.cards)
    assert one.right < other.left or other.right < one.left
    row = [page.spots[mark.key] for mark in box.accelerators]
    assert not any(spot.left <= card.x <= spot.right for card in (one, other) for spot in row)


def test_planes_of_switches_share_the_width_below_their_accelerators(tmp_path):
    from topologies.fold import fold
    from topologies.place import Page

    nodes = {"accelerator": "g[0-3]", "switch": "sw[0-2]"}
    content = graph(nodes, link("nvlink", 100, ["g[0-3]", "sw[0-2]"]))
    picture = fold(build_graph(load_cluster(written(tmp_path, content))))
    page = Page(picture, 650.0)
    spots = [page.spots[mark.key] for mark in picture.boxes[0].switches]
    assert len({spot.y for spot in spots}) == 1
    assert all(a.right < b.left for a, b in pairwise(spots))


def test_a_hybrid_cube_mesh_is_no_torus_on_the_picture():
    from topologies.fold import fold

    (box,) = fold(build_graph(load_cluster(str(EXAMPLES / "cube-mesh.yaml")))).boxes
    assert box.form.is_ring


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads_shows_its_sources_and_is_drawn(path):
    found = load_cluster(str(path))
    assert all(entry.source for tier in found.tiers for _, entry in tier.figures())
    built = build_graph(found)
    assert "<svg" in to_svg(built, found.title)
    assert to_dot(built).startswith("graph ")
    spans = [blocks.span for blocks in quotient(built)]
    assert spans == [min(t.spans or found.accelerators, found.accelerators) for t in found.tiers]


# ----------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("gpu7", ["gpu7"]),
        ("g[2-4]", ["g2", "g3", "g4"]),
        ("g[0,4-5]x", ["g0x", "g4x", "g5x"]),
        ("h[0-1]-g[0-1]", ["h0-g0", "h0-g1", "h1-g0", "h1-g1"]),
    ],
)
def test_ranges_in_names(pattern, names):
    assert expand(pattern, "nodes") == names


@pytest.mark.parametrize(
    ("pattern", "mend"),
    [
        ("", "a name such as gpu3"),
        ("g[", "a name such as gpu3"),
        ("g[0-", "a name such as gpu3"),
        ("g[a-b]", "a name such as gpu3"),
        ("g 1", "a name such as gpu3"),
        ('g"<', "a name such as gpu3"),
        ("g[3-1]", "counts upwards"),
        ("g[0-999999]", "at most 65,536 names"),
        ("g[0-999][0-999][0-999][0-999]", "at most 65,536 names"),
    ],
)
def test_malformed_names(pattern, mend):
    with pytest.raises(SpecError, match=mend):
        expand(pattern, "nodes")


# ---------------------------------------------------------------------------------------- slips

TRUNK = "no such path exists"
SLIPS = {
    "unknown key": (
        changed(pcie={"latencyus": figure(1)}),
        ("links.1.latencyus", "latencyus", "did you mean latency_us"),
    ),
    "unknown kind of node": (
        changed(nodes={"spines": "s"}),
        ("nodes.spines", "spines", "did you mean spine"),
    ),
    "tiers too": (changed(tiers=[]), ("tiers", "given", "tiers, or nodes and links, or parts")),
    "unknown pairing": (changed(pcie={"pairing": "some"}), ("links.1.pairing", "some", "'zip'")),
    "unknown node": (
        changed(ethernet={"between": [["nic[0-1]", "laef"]]}),
        ("links.2.between.0", "laef", "is not among nodes; did you mean leaf?"),
    ),
    "unknown nodes": (
        changed(nvlink={"between": [["gpu[0-3]", "sw0"], ["gpu[4-9]", "sw1"]]}),
        ("links.0.between.1", "gpu8 and 1 more", "are not among nodes; did you mean gpu"),
    ),
    "twice": (changed(nodes={"switch": ["sw[0-1]", "sw1"]}), ("nodes", "sw1", "give it once")),
    "twice over kinds": (changed(nodes={"spine": "leaf"}), ("nodes", "leaf", "give it once")),
    "unused": (
        changed(nodes={"spine": "s[0-2]"}),
        ("nodes.spine", "s0 and 2 more", "no link joins it"),
    ),
    "apart": (
        changed(
            nodes={"leaf": ["leaf", "other"]},
            ethernet={"between": [["nic0", "leaf"], ["nic1", "other"]]},
        ),
        ("links", "gpu0 and gpu4", "no path of links"),
    ),
    "to itself": (
        changed(add=link("loop", 1, ["sw0", "sw0"])),
        ("links.3.between", "sw0-sw0", "two different nodes"),
    ),
    "the same pair": (
        changed(ethernet={"between": [["nic[0-1]", "leaf"], ["leaf", "nic0"]]}),
        ("links.2.between", "leaf-nic0", "both directions of a cable count once"),
    ),
    "another link's pair": (
        changed(add=link("second", 1, ["gpu0", "sw0"])),
        ("links.3.between", "gpu0-sw0", "joined by nvlink already"),
    ),
    "accelerator to leaf": (
        changed(add=link("cable", 1, ["gpu[0-1]", "leaf"])),
        ("links.3.between", "gpu0 (accelerator) - leaf (leaf) and 1 more", TRUNK),
    ),
    "switch to leaf": (
        changed(add=link("cable", 1, ["leaf", "sw0"])),
        ("links.3.between", "leaf (leaf) - sw0 (switch)", TRUNK),
    ),
    "nic to nic": (
        changed(add=link("cable", 1, ["nic0", "nic1"])),
        ("links.3.between", "nic0 (nic) - nic1 (nic)", TRUNK),
    ),
    "leaf to core": (
        changed(nodes={"core": "top"}, add=link("cable", 1, ["leaf", "top"])),
        ("links.3.between", "leaf (leaf) - top (core)", TRUNK),
    ),
    "switch out of reach": (
        changed(nodes={"switch": ["sw[0-1]", "far"]}, add=link("c", 1, ["far", "nic0"])),
        ("nodes.switch", "far", "inside the fast domain"),
    ),
    "negative": (
        changed(nvlink={"GBps": figure(-3)}),
        ("links.0.GBps.value", "-3", "greater than"),
    ),
    "zero": (changed(nvlink={"GBps": figure(0)}), ("links.0.GBps.value", "0", "greater than")),
    "negative way back": (
        changed(nvlink={"back_GBps": figure(-3)}),
        ("links.0.back_GBps.value", "-3", "greater than"),
    ),
    "share above 1": (
        changed(nvlink={"usable_fraction": figure(1.5)}),
        ("links.0.usable_fraction", "1.5", "at most 1"),
    ),
    "half a node": (
        changed(accelerators_per_node=3),
        ("nodes.accelerator", "8", "not a multiple of the 3 of a node"),
    ),
    "too many": (
        changed(nodes={"accelerator": "gpu[0-4099]"}),
        ("nodes.accelerator", "4100", "describe larger ones by tiers"),
    ),
    "too many cables": (
        changed(
            nodes={"accelerator": "gpu[0-999]"},
            nvlink={"between": [["gpu[0-999]"]], "pairing": "mesh"},
        ),
        ("links.0.between.0", "499,500 more", "describe larger clusters by tiers"),
    ),
    "unequal sides": (
        changed(pcie={"between": [["sw[0-1]", "nic0"]]}),
        ("links.1.between.0", "pairing zip", "equal counts, not 2 and 1"),
    ),
    "one side": (
        changed(nvlink={"between": [["gpu[0-7]"]]}),
        ("links.0.between.0", "pairing all", "two sides"),
    ),
    "a ring of one": (
        changed(nvlink={"between": [["gpu0"]], "pairing": "ring"}),
        ("links.0.between.0", "pairing ring", "at least two"),
    ),
    "unknown accelerator": (
        changed(accelerator="h100sxm"),
        ("accelerator", "h100sxm", "did you mean h100-sxm"),
    ),
    "bits in a key": (
        changed(ethernet={"Gbps": figure(400)}),
        ("links.2.Gbps", "", "rates are in GB/s: divide Gb/s by 8"),
    ),
    "bits in a source": (
        changed(ethernet={"GBps": figure(100, "a 100 Gb/s card")}),
        ("links.2.GBps.value", "100", "says 100 Gb/s: divide Gb/s by 8"),
    ),
    "a card of 400": (
        changed(ethernet={"GBps": figure(400)}),
        ("links.2.GBps", "400", "400 Gb/s is 50 GB/s"),
    ),
    "a card of 400 on the way back": (
        changed(ethernet={"back_GBps": figure(400)}),
        ("links.2.back_GBps", "400", "400 Gb/s is 50 GB/s"),
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_message_with_its_mend(tmp_path, slip):
    content, (field, value, mend) = SLIPS[slip]
    found = [entry for entry in mends(written(tmp_path, content)) if entry[0] == field]
    assert len(found) == 1, found
    assert value in found[0][1]
    assert mend in found[0][2]


def test_slips_of_nodes_links_and_accelerator_come_at_once(tmp_path):
    content = changed(
        accelerator="nothing",
        accelerators_per_node=3,
        nodes={"leaf": ["leaf", "leaf"]},
        nvlink={"between": [["gpu[0-3]", "sww"]]},
        pcie={"between": [["sw[0-1]", "nic0"]]},
        ethernet={"usable_fraction": figure(2)},
    )
    fields = [field for field, _, _ in mends(written(tmp_path, content))]
    assert fields == [
        "accelerator",
        "nodes",
        "nodes.accelerator",
        "links.0.between.0",
        "links.1.between.0",
        "links.2.usable_fraction",
    ]


def test_only_all_of_a_graph_can_be_taken(tmp_path):
    path = written(tmp_path, TWO_HOSTS)
    assert load_cluster(f"{path}:2", gpus=8).accelerators == 8
    for kwargs, name in (({"gpus": 4}, ""), ({"gpus": 16}, ""), ({}, ":1"), ({}, ":4")):
        ((_, _, mend),) = mends(path + name, **kwargs)
        assert "all 8 accelerators (2 nodes) one by one: take all" in mend


def test_no_catalogue_cluster_has_a_graph_or_parts():
    for name in cluster_names():
        found = load_cluster(name)
        assert (found.graph, found.parts) == (None, ())
