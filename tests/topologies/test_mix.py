"""Mixes: the worst of every figure, the graphs of the parts side by side, and every slip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.profile import load_profile
from planner import plan
from tests.topologies.files import EXAMPLES, figure, graph, link, mends, tier, written
from topologies.builders import build_graph
from topologies.catalogue import load_accelerator, load_cluster
from topologies.draw import to_dot, to_svg
from topologies.figure import Provenance
from topologies.fold import fold
from topologies.graph import NodeKind
from topologies.mix import MixSchema
from topologies.quotient import quotient

MIX = str(EXAMPLES / "h100-and-a100.yaml")
CORE = tier("core", "spine", "all", 12.5)


def mix(*parts, tiers=(CORE,), **more):
    """Return a file of parts, each ``(cluster, nodes)``."""
    named = [
        {"cluster": name} | ({} if nodes is None else {"nodes": nodes}) for name, nodes in parts
    ]
    return {"name": "mine", "title": "Mine", "parts": named, "tiers": list(tiers), **more}


def box(**changes):
    """Return a file of tiers: boxes of four on a switch, with cards."""
    inner = tier("nvlink", "nvswitch", 4, 100)
    outer = tier("cards", "nic", "all", 20)
    content = {
        "name": "box",
        "title": "Box",
        "accelerator": "h100-sxm",
        "accelerators_per_node": 4,
        "tiers": [inner | changes.pop("inner", {}), outer | changes.pop("outer", {})],
    }
    return content | changes


# ---------------------------------------------------------------------------------- figures by hand


def test_every_figure_of_the_accelerator_is_the_least_and_its_name_the_slowest():
    found = load_cluster(MIX).accelerator
    h100, a100 = load_accelerator("h100-sxm"), load_accelerator("a100-sxm-80gb")
    assert found.name == "a100-sxm-80gb"
    assert found.title == f"{h100.title} and {a100.title}"
    assert found.bf16_flops == a100.bf16_flops
    assert found.compute_units == a100.compute_units
    assert found.hbm_Bps.value == 2039e9
    assert found.hbm_bytes.value == 80 * 2**30
    assert found.fp8_flops is None  # an A100 has none
    assert found.matmul_flops.value == a100.matmul_flops.value < h100.matmul_flops.value
    assert found.hbm_Bps.source.startswith("the least of: NVIDIA H100")
    assert found.power_W.value == (32 * 700 + 32 * 400) / 64
    assert load_profile(found.name).name == load_profile("a100-sxm-80gb").name != "assumed"


def test_the_slowest_accelerator_may_have_the_most_memory(tmp_path):
    content = mix(("a100-dgx", 1), ("a100-40gb-dgx", 1))
    assert load_cluster(written(tmp_path, content)).accelerator.hbm_bytes.value == 40 * 2**30
    content = mix(("h20-hgx", 1), ("h100-dgx", 1))  # 96 GiB and slow beside 80 GiB and fast
    found = load_cluster(written(tmp_path, content)).accelerator
    assert found.name == "h20-sxm"
    assert found.hbm_bytes.value == 80 * 2**30


def test_price_and_power_are_means_where_every_part_has_them():
    schema = MixSchema.model_validate(mix(("a", 3), ("b", 1)))
    h100, a100 = load_cluster("h100-dgx:3"), load_cluster("a100-dgx:1")

    def priced(cluster, usd):
        price = None if usd is None else replace(cluster.accelerator.power_W, value=usd)
        accelerator = replace(cluster.accelerator, price_usd_per_hour=price)
        return replace(cluster, accelerator=accelerator)

    known = schema.build([priced(h100, 4.0), priced(a100, 2.0)], "x").accelerator
    assert known.price_usd_per_hour.value == 3.5
    assert known.power_W.value == (3 * 700 + 400) / 4
    assert "24 x 4, 8 x 2" in known.price_usd_per_hour.source
    unknown = schema.build([priced(h100, 4.0), priced(a100, None)], "x").accelerator
    assert unknown.price_usd_per_hour is None


def test_tiers_are_aligned_from_the_inside_and_each_figure_is_the_worst(tmp_path):
    other = box(
        inner={"GBps": figure(80), "usable_fraction": figure(0.95), "start_us": figure(9)},
        outer={"latency_us": figure(30), "chunk_us": figure(8), "rails": True, "planes": 2},
        name="other",
    )
    mine = box(inner={"nvls_fraction": figure(0.5), "nvls_start_us": figure(40)})
    written(tmp_path, other, "other.yaml")
    written(tmp_path, mine, "box.yaml")
    found = load_cluster(written(tmp_path, mix(("box.yaml", 4), ("other.yaml", 6))))
    nvlink, cards, core = found.tiers
    assert (nvlink.Bps.value, nvlink.usable_fraction.value) == (80e9, 0.9)
    assert nvlink.start_s.value == pytest.approx(9e-6)  # beside an unstated 6
    assert (nvlink.nvls_fraction, nvlink.nvls_start_s) == (None, None)
    assert (cards.Bps.value, cards.latency_s.value) == pytest.approx((20e9, 30e-6))
    assert cards.chunk_s.value == pytest.approx(8e-6)
    assert (cards.rails, cards.planes) == (False, 2)
    assert (nvlink.spans, cards.spans, core.spans) == (4, 8, None)  # of 16 and 24
    assert core.peer_Bps.value == 20e9
    assert (found.accelerators, found.nodes, found.accelerators_per_node) == (40, 10, 4)


def test_nvls_stays_where_all_parts_have_it(tmp_path):
    found = load_cluster(written(tmp_path, mix(("h100-dgx", 2), ("h200-hgx", 2))))
    own = [load_cluster(name).tiers[0] for name in ("h100-dgx", "h200-hgx")]
    inner = found.tiers[0]
    assert inner.nvls_fraction.value == min(t.nvls_fraction.value for t in own)
    assert inner.nvls_start_s.value == max(t.nvls_start_s.value for t in own)


def test_nodes_of_different_sizes_share_their_greatest_common_divisor(tmp_path):
    found = load_cluster(written(tmp_path, mix(("gh200-quad", 4), ("h100-dgx", 1))))
    assert (found.accelerators, found.nodes, found.accelerators_per_node) == (24, 5, 4)
    assert [t.spans for t in found.tiers] == [4, 8, None]
    assert found.tiers[0].fabric == "mesh"  # the worst that two parts have
    built = build_graph(found)
    assert [built.host(i) for i in (0, 3, 4, 15, 16, 23)] == [0, 0, 1, 3, 4, 4]


def test_a_mix_plans_like_its_slowest(tmp_path):
    mixed = plan("llama-3.1-8b", MIX, seq_len="8k", global_batch=64, pp=1, tp=1, ulysses=1, ring=1)
    fast = plan(
        "llama-3.1-8b", "h100-dgx:8", seq_len="8k", global_batch=64, pp=1, tp=1, ulysses=1, ring=1
    )
    assert mixed.best.gpus == 64
    assert mixed.best.step_time_s > 1.5 * fast.best.step_time_s
    assert any("core" in name for name in mixed.best.provenance.assumed)


# ------------------------------------------------------------------------------------------ graph


def test_the_parts_graphs_lie_side_by_side_under_the_joining_tier():
    found = load_cluster(MIX)
    built = build_graph(found)
    h100, a100 = (build_graph(part) for part in found.parts)
    for kind in (NodeKind.ACCELERATOR, NodeKind.NIC, NodeKind.LEAF, NodeKind.SPINE):
        assert built.kinds()[kind] == h100.kinds()[kind] + a100.kinds()[kind]
    links = built.links()
    for part in (h100, a100):
        for inner, count in part.links().items():
            assert links[inner] == count
    (core,) = (li for li in links if li.name == "core")
    assert (core.level, core.Bps, links[core]) == (2, 32 * 12.5e9, 4)
    assert [built.graph.nodes[i]["part"] for i in (0, 31, 32, 63)] == [
        *["NVIDIA H100 SXM5 80GB"] * 2,
        *["NVIDIA A100 SXM4 80GB"] * 2,
    ]
    assert [built.host(i) for i in (0, 31, 32, 63)] == [0, 3, 4, 7]
    assert [(b.span, b.Bps) for b in quotient(built)] == [
        (t.spans or 64, t.Bps.value) for t in found.tiers
    ]


def test_both_kinds_are_on_the_picture():
    found = load_cluster(MIX)
    svg, dot = to_svg(build_graph(found), found.title), to_dot(build_graph(found))
    for name in ("host 0: NVIDIA H100 SXM5 80GB", "host 7: NVIDIA A100 SXM4 80GB"):
        assert name in svg
        assert name in dot


def test_a_box_of_every_part_is_drawn_however_far_it_lies(tmp_path):
    parts = [("h100-dgx", 9), ("a100-dgx", 2), ("h200-hgx", 9)]
    picture = fold(build_graph(load_cluster(written(tmp_path, mix(*parts)))))
    assert [box.label.partition(" SXM")[0] for box in picture.boxes] == [
        "host 0: NVIDIA H100",
        "host 9: NVIDIA A100",
        "… 17 more hosts",
        "host 11: NVIDIA H200",
    ]


def test_a_part_may_be_a_graph_or_a_mix(tmp_path):
    (tmp_path / "sub").mkdir()
    nodes = {"accelerator": "gpu[0-7]", "switch": "sw[0-1]", "nic": "nic[0-1]", "leaf": "leaf"}
    wires = [
        link("nvlink", 300, ["gpu[0-3]", "sw0"], ["gpu[4-7]", "sw1"]),
        link("pcie", 60, ["sw[0-1]", "nic[0-1]"], pairing="zip"),
        link("ethernet", 40, ["nic[0-1]", "leaf"]),
    ]
    written(tmp_path / "sub", graph(nodes, *wires), "links.yaml")
    written(tmp_path, mix(("sub/links.yaml", None), ("h100-dgx", 1), name="inner"), "inner.yaml")
    wider = tier("wan", "spine", "all", 1)
    found = load_cluster(
        written(tmp_path, mix(("inner.yaml", None), ("meta-24k", 1), tiers=[wider]))
    )
    assert [part.name for part in found.parts] == ["inner", "meta-24k"]
    assert [t.name for t in found.tiers][-1] == "wan"
    built = build_graph(found)
    assert built.accelerators == 24
    assert len(set(quotient(built)[-1].block)) == 1
    assert [built.host(i) for i in (0, 7, 8, 16, 23)] == [0, 1, 2, 3, 3]


def test_joining_tiers_take_whole_parts(tmp_path):
    room = tier("room", "spine", 32, 10, paths=2)
    parts = [("h100-dgx", 2), ("a100-dgx", 2), ("h100-dgx", 4)]
    found = load_cluster(written(tmp_path, mix(*parts, tiers=[room, CORE])))
    assert [t.spans for t in found.tiers] == [8, 16, 32, None]
    kinds = build_graph(found).kinds()
    assert kinds[NodeKind.CORE] == 2 + 2 + 1
    split = [("room", "spine", 16, 10), ("core", "spine", "all", 5)]
    for spans in (24, 0, -16):
        tiers = [tier(*split[0][:2], spans, 10), tier(*split[1])]
        found = mends(written(tmp_path, mix(*parts, tiers=tiers)))
        mend = "blocks of whole parts, which have 16, 16, 32, or all"
        assert found == [("tiers.0.spans", str(spans), mend)]


def test_a_faster_network_reaches_into_the_parts():
    faster = load_cluster(MIX).scale_network(3.0)
    rates = sorted({li.Bps / 1e9 for li in build_graph(faster).links() if li.level == 1})
    assert rates == [75, 150, 300, 600]
    assert faster.tiers[2].Bps.value == 37.5e9


# ------------------------------------------------------------------------------------------ slips


def test_only_all_of_a_mix_can_be_taken():
    assert load_cluster(f"{MIX}:8", gpus=64).accelerators == 64
    for kwargs, name in (({"gpus": 32}, ""), ({"gpus": 128}, ""), ({}, ":4")):
        ((_, _, mend),) = mends(MIX + name, **kwargs)
        assert "all 64 accelerators (8 nodes) of the mix" in mend
        assert "change the nodes of its parts" in mend


def test_a_file_that_is_a_part_of_itself_is_refused(tmp_path):
    ((field, value, mend),) = mends(written(tmp_path, mix(("mine.yaml", 1), ("h100-dgx", 1))))
    assert (field, value) == ("parts", "mine.yaml")
    assert mend == "this file is a part of itself (mine.yaml -> mine.yaml)"
    written(tmp_path, mix(("mine.yaml", 1), ("h100-dgx", 1)), "other.yaml")
    ((_, _, mend),) = mends(written(tmp_path, mix(("other.yaml", 1), ("h100-dgx", 1))))
    assert mend.endswith("(mine.yaml -> other.yaml -> mine.yaml)")


def test_parts_within_parts_end_somewhere(tmp_path):
    for depth in range(5):
        inner = ("h100-dgx", 1) if depth == 4 else (f"m{depth + 1}.yaml", None)
        written(tmp_path, mix(inner, ("h100-dgx", 1)), f"m{depth}.yaml")
    ((_, _, mend),) = mends(str(tmp_path / "m0.yaml"))
    assert "3 files deep at most" in mend


@pytest.mark.parametrize(
    ("content", "field", "mend"),
    [
        (mix(("h100-dgx", 1)), "parts", "at least 2 items"),
        (mix(("h100_dgx", 1), ("a100-dgx", 1)), "parts.0.cluster", "did you mean h100-dgx"),
        (mix(("h100-dgx", 1), ("none.yaml", 1)), "file", "cannot be read"),
        (mix(("h100-dgx", 0), ("a100-dgx", 1)), "parts.0.nodes", "greater than or equal to 1"),
        (mix(("h100-dgx", 1), ("meta-24k", 1)), "parts.1", "parts need as many tiers"),
        (mix(("tpu-v4", 1), ("tpu-v5e", 1)), "tier 0", "only mixes with the same torus"),
        (mix(("h100-dgx", 1), ("mi300x", 1)), "parts.1", "no library of collectives spans nvidia"),
        (mix(("h100-dgx", 1), ("a100-dgx", 1), nodes=3), "nodes", "parts and tiers has none"),
        (
            mix(("h100-dgx", 1), ("a100-dgx", 1), tiers=[tier("x", "nic", "all", 10)]),
            "tiers.0.fabric",
            "joined by spine tiers",
        ),
        (
            mix(("h100-dgx", 1), ("a100-dgx", 1), tiers=[tier("x", "spine", 16, 10)]),
            "tiers.0.spans",
            "the last tier, and only the last, spans all",
        ),
        (
            mix(("h100-dgx", 1), ("a100-dgx", 1), tier=[]),
            "tier",
            "did you mean tiers",
        ),
        (
            mix(("h100-dgx", 9999), ("a100-dgx", 1)),
            "parts.0.cluster h100-dgx:9999",
            "ends at 32768",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_slip_is_one_message_with_its_mend(tmp_path, content, field, mend):
    found = [entry for entry in mends(written(tmp_path, content)) if entry[0] == field]
    assert len(found) == 1
    assert mend in found[0][2]


def test_a_part_without_cards_cannot_be_joined(tmp_path):
    alone = box()
    alone["tiers"] = [tier("nvlink", "nvswitch", "all", 100)]
    written(tmp_path, alone, "alone.yaml")
    found = mends(written(tmp_path, mix(("alone.yaml", 1), ("alone.yaml", 1))))
    assert [(field, "add a nic tier" in mend) for field, _, mend in found] == [
        ("parts.0", True),
        ("parts.1", True),
    ]


def test_slips_of_all_parts_and_tiers_come_at_once(tmp_path):
    content = mix(("h100_dgx", 1), ("nothing.yaml", 1), tiers=[tier("x", "nic", "all", 400)])
    fields = [field for field, _, _ in mends(written(tmp_path, content))]
    assert fields == ["parts.0.cluster", "file", "tiers.0.GBps", "tiers.0.fabric"]


def test_what_the_mean_and_the_least_say_is_as_soft_as_the_softest():
    found = load_cluster(MIX).accelerator
    assert found.power_W.kind is Provenance.SPEC
    assert found.matmul_flops.kind is Provenance.MEASURED
