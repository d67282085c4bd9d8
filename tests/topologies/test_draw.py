"""Pictures of clusters: what they show, what they fold, and that any name is safe in them."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from topologies import cluster_names, load_cluster
from topologies.builders import build_graph
from topologies.draw import to_dot, to_svg
from topologies.fold import Box, first_and_last, fold
from topologies.graph import ClusterGraph, Link, NodeKind
from topologies.place import Page
from topologies.text import latency, rate

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = ("rect", "path", "line", "circle", "polyline")
EVIL = 'a</title><script>alert(1)</script>"&\\\x00\n]]>'
SIZES = (1, 2, 3, 5, 36, 64)


def graph_of(spec: str) -> ClusterGraph:
    return build_graph(load_cluster(spec))


def shapes(svg: str) -> int:
    return sum(len(ET.fromstring(svg).findall(f".//{SVG}{name}")) for name in SHAPES)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def edges(dot: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^  (\w+) -- (\w+) \[label=\"([^\"]*)\"", dot, re.MULTILINE)


def unquoted(dot: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', dot)


def evil_graph() -> ClusterGraph:
    graph = ClusterGraph(EVIL, 2, 2)
    link = Link(
        name=EVIL,
        level=0,
        scale_out=False,
        Bps=5e10,
        latency_s=1e-6,
        usable_fraction=1,
        source=EVIL,
    )
    (switch,) = graph.add(NodeKind.SWITCH)
    graph.join([(0, switch), (1, switch)], link)
    return graph


def torus(dims: tuple[int, ...], accelerators: int) -> ClusterGraph:
    cluster = load_cluster("tpu-v5e").take(accelerators)
    inner = replace(cluster.tiers[0], spans=accelerators, dims=dims)
    return build_graph(replace(cluster, tiers=(inner, *cluster.tiers[1:])))


@pytest.mark.parametrize("name", cluster_names())
@pytest.mark.parametrize("nodes", SIZES)
def test_every_cluster_of_any_size_is_valid_and_small(name, nodes):
    graph = graph_of(f"{name}:{nodes}")
    svg, dot = to_svg(graph, name), to_dot(graph)
    assert shapes(svg) <= 400
    found = edges(dot)
    assert len(found) == dot.count(" -- ") <= 800
    assert len({(frozenset((a, b)), label) for a, b, label in found}) == len(found)
    assert unquoted(dot).count("{") == unquoted(dot).count("}")
    declared = re.findall(r"(\w+) \[label=[^\]]*shape=", dot)
    assert len(declared) == len(set(declared))
    assert {end for a, b, _ in found for end in (a, b)} <= set(declared)


@pytest.mark.parametrize("name", cluster_names())
def test_the_legend_has_every_class_of_links(name):
    graph = graph_of(f"{name}:36")
    svg = to_svg(graph, name)
    written = " | ".join(texts(svg))
    for link, count in graph.links().items():
        many = f"{count // 2:,} link" + "s" * (count != 2)
        assert f"{link.name} | {rate(link)} | {latency(link)} | {many}" in written
    # A class that the legend names is drawn, too, even where all its links are folded.
    assert len(ET.fromstring(svg).findall(f".//{SVG}path/{SVG}title")) >= len(graph.links())
    drawn = {label for _, _, label in edges(to_dot(graph))}
    assert drawn == {rate(link) for link in graph.links()}


@pytest.mark.parametrize("name", cluster_names())
@pytest.mark.parametrize("nodes", [1, 3, 5, 36])
def test_all_shapes_lie_on_the_page(name, nodes):
    root = ET.fromstring(to_svg(graph_of(f"{name}:{nodes}"), name))
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert w > 0
        assert h > 0
        assert x >= 0
        assert y >= 0
        assert x + w <= 1280
        assert y + h <= 800


def test_two_hosts_are_drawn_whole():
    graph = graph_of("h100-dgx:2")
    picture = fold(graph)
    marks = [mark for box in picture.boxes for mark in (*box.accelerators, *box.cards)]
    assert len(marks) == 32
    assert not any(mark.hidden for mark in marks)
    assert len(picture.wires) == sum(graph.links().values()) / 2
    svg = to_svg(graph, "two")
    assert shapes(svg) == 1 + 2 + graph.graph.number_of_nodes() + 2 * len(graph.links())


@pytest.mark.parametrize(
    ("spec", "cards", "joined"),
    [("aws-p4d:2", 8, 16), ("aws-p5en:2", 32, 32), ("aws-p5:2", 64, 64)],
)
def test_as_many_cards_are_drawn_as_nodes_have_and_none_over_another(spec, cards, joined):
    graph = graph_of(spec)
    picture = fold(graph)
    page = Page(picture, 700)
    spots = [page.spots[mark.key] for box in picture.boxes for mark in box.cards]
    assert len(spots) == cards
    spots.sort(key=lambda spot: spot.x)
    assert all(one.right <= other.left + 1e-6 for one, other in pairwise(spots))
    pairs = [(a, b) for a, b, _ in picture.wires if NodeKind.NIC in (a.kind, b.kind)]
    assert sum(NodeKind.ACCELERATOR in (a.kind, b.kind) for a, b in pairs) == joined
    assert f"{cards} NICs" in " ".join(texts(to_svg(graph, spec)))


def test_many_hosts_fold_to_two_and_the_last():
    picture = fold(graph_of("h100-dgx:256"))
    labels = [box.label for box in picture.boxes]
    assert labels == ["host 0", "host 1", "… 253 more hosts", "host 255"]
    assert "… 253 more hosts" in texts(to_svg(graph_of("h100-dgx:256"), ""))
    assert "… 253 more hosts" in to_dot(graph_of("h100-dgx:256"))


def test_four_hosts_need_no_fold():
    assert all(isinstance(box, Box) for box in fold(graph_of("h100-dgx:4")).boxes)
    assert any(not isinstance(box, Box) for box in fold(graph_of("h100-dgx:5")).boxes)


def test_a_domain_larger_than_a_host_folds_inside():
    first, second = fold(graph_of("gb200-nvl72:36")).boxes
    assert first.label == "domain 0: 18 hosts, 72 accelerators"
    hosts = [mark.host for mark in first.accelerators]
    assert hosts == [0] * 4 + [1] * 4 + [None] + [17] * 4
    (more,) = (mark for mark in first.accelerators if mark.hidden)
    assert more.hidden == 60
    assert [mark.label for mark in second.switches] == ["switch 1"]
    dot = to_dot(graph_of("gb200-nvl72:36"))
    assert "subgraph cluster_0_17 {" in dot
    assert "subgraph cluster_1_18 {" in dot


@pytest.mark.parametrize(
    ("spec", "count"), [("gb200-nvl72:180", 720), ("meta-24k:3072", 24576), ("trn2:7", 112)]
)
def test_nothing_is_lost_in_a_fold(spec, count):
    graph = graph_of(spec)
    assert graph.accelerators == count
    picture = fold(graph)
    boxes = [box for box in picture.boxes if isinstance(box, Box)]
    (rest,) = (box for box in picture.boxes if not isinstance(box, Box))
    each = {
        box.label: sum(mark.hidden or 1 for mark in box.accelerators)
        for box in picture.boxes
        if isinstance(box, Box)
    }
    size = set(each.values()).pop()
    assert len(boxes) == 3
    assert sum(each.values()) + rest.hidden * size == count


def test_spines_and_leaves_fold_to_eight():
    layers = fold(graph_of("alibaba-hpn:1920")).layers
    for marks in layers.values():
        assert len(marks) <= 8
    total = graph_of("alibaba-hpn:1920").kinds()
    for kind, marks in layers.items():
        assert sum(mark.hidden or 1 for mark in marks) == total[kind]


def test_first_and_last():
    assert first_and_last([1, 2, 3, 4], 4) == [1, 2, 3, 4]
    assert first_and_last([1, 2, 3, 4, 5], 4) == [1, 2, 5]


def test_a_mesh_is_a_ring_of_chords():
    (box, _) = fold(graph_of("mi300x:2")).boxes
    assert box.form.is_ring
    inner = [w for w in fold(graph_of("mi300x:2")).wires if not w[2].scale_out]
    assert len(inner) == 2 * 28


@pytest.mark.parametrize(
    ("dims", "form"),
    [
        ((4, 4), (4, 4)),
        ((2, 4), (2, 4)),
        ((8, 16), (8, 16)),
        ((3, 8), (3, 8)),
        ((4, 4, 8), (4, 4, 8)),
        ((2, 2, 2), (2, 2, 2)),
        ((16,), ()),
    ],
)
def test_a_torus_is_a_grid_of_its_own_sides(dims, form):
    count = 1
    for side in dims:
        count *= side
    graph = torus(dims, count)
    (box,) = fold(graph).boxes
    assert box.form.dims == form
    assert shapes(to_svg(graph, "torus")) <= 400


def test_a_large_torus_shows_a_corner():
    (box,) = fold(torus((16, 16), 256)).boxes
    shown = [mark for mark in box.accelerators if not mark.hidden]
    assert len(shown) == 49
    assert box.columns == 7
    assert [mark.hidden for mark in box.accelerators if mark.hidden] == [256 - 49]


def test_names_are_escaped():
    svg, dot = to_svg(evil_graph(), EVIL), to_dot(evil_graph())
    root = ET.fromstring(svg)
    assert root.find(f".//{SVG}script") is None
    assert "<script" not in svg
    assert root.find(f"{SVG}title").text == EVIL.replace("\x00", "\ufffd")
    assert '\\"&\\\\' in dot
    assert "\x00" not in dot
    assert unquoted(dot).startswith('graph "" {\n')
    assert "script" not in unquoted(dot)


def test_a_long_title_is_cut_on_the_page_but_not_for_a_reader():
    root = ET.fromstring(to_svg(evil_graph(), "x" * 5000))
    assert root.find(f"{SVG}title").text == "x" * 5000
    assert max(len(text) for text in texts(to_svg(evil_graph(), "x" * 5000))) < 200


def test_the_largest_cluster_is_drawn_within_seconds():
    start = time.perf_counter()
    graph = graph_of("meta-24k:3072")
    svg, dot = to_svg(graph, "meta"), to_dot(graph)
    assert time.perf_counter() - start < 5
    assert shapes(svg) <= 400
    assert len(edges(dot)) < 400


def test_a_picture_is_the_same_twice():
    assert to_svg(graph_of("l40s-pcie:9"), "a") == to_svg(graph_of("l40s-pcie:9"), "a")
    assert to_dot(graph_of("l40s-pcie:9")) == to_dot(graph_of("l40s-pcie:9"))


def draw(*arguments: str):
    from planner.cli import build

    return CliRunner().invoke(build(), ["topologies", "draw", *arguments])


def test_draw_writes_both_files_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = draw("h100-dgx:4")
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"h100-dgx.svg", "h100-dgx.dot"}
    assert done.output == "Wrote h100-dgx.svg\nWrote h100-dgx.dot\n"
    ET.parse(tmp_path / "h100-dgx.svg")


def test_draw_writes_only_what_was_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert draw("mi300x:2", "--svg", "a.svg").exit_code == 0
    assert draw("mi300x:2", "--dot", "b.dot").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.svg", "b.dot"}
    assert draw("mi300x:2", "--dot", "-").stdout == Path("b.dot").read_text()


def test_a_file_is_named_after_itself_whatever_it_says(tmp_path, monkeypatch):
    from topologies.catalogue import DATA

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    text = (DATA / "clusters" / "h100-dgx.yaml").read_text()
    text = re.sub(r"^name: .*$", 'name: "../escape"', text, flags=re.MULTILINE)
    (tmp_path / "sub" / "mine.yaml").write_text(text)
    assert draw("sub/mine.yaml:2").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"sub", "mine.svg", "mine.dot"}


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    from planner.cli import main

    monkeypatch.setattr("sys.argv", ["meshwright", "topologies", "draw", "h100-dgz"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "did you mean h100-dgx" in capsys.readouterr().err
