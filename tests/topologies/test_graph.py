"""Cluster graphs: what the builders join, and that their quotient gives the tiers back."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest

from topologies import cluster_names, load_cluster
from topologies.builders import build_graph
from topologies.errors import SpecError
from topologies.graph import NodeKind
from topologies.quotient import quotient
from topologies.torus import Slice

if TYPE_CHECKING:
    from topologies.cluster import Cluster


def of_several_blocks(name: str) -> Cluster:
    """Return a catalogue cluster with two blocks of its innermost tier, where that is not huge."""
    one = load_cluster(name)
    span = one.tiers[0].spans or one.accelerators_per_node
    wanted = 64 if one.tiers[0].fabric == "torus" else 2 * span
    node = one.accelerators_per_node
    return one.take(-(-wanted // node) * node)


@pytest.mark.parametrize("name", cluster_names())
def test_the_quotient_of_a_built_graph_is_the_tiers_it_was_built_from(name):
    cluster = of_several_blocks(name)
    found = {blocks.level: blocks for blocks in quotient(build_graph(cluster))}
    for level, tier in enumerate(cluster.tiers):
        blocks = found[level]
        assert blocks.span == min(tier.spans or cluster.accelerators, cluster.accelerators)
        assert blocks.latency_s == tier.latency_s.value
        if tier.fabric == "torus":
            box = cluster.torus(tier)
            ends = [1 if not wrap else 2 for wrap in box.wraps]
            assert blocks.Bps >= tier.peer_Bps.value * sum(ends[:1])
        else:
            assert blocks.Bps == pytest.approx(tier.Bps.value, rel=0.01)


@pytest.mark.parametrize("name", cluster_names())
def test_every_cable_has_two_directions_and_every_part_is_joined(name):
    graph = build_graph(of_several_blocks(name))
    edges = {(tail, head) for tail, head, _ in graph.edges()}
    assert edges == {(head, tail) for tail, head in edges}
    assert all(degree > 0 for _, degree in graph.graph.degree())
    (last,) = np.unique(quotient(graph)[-1].block)
    assert last >= 0


def test_rails_join_accelerators_of_one_position():
    graph = build_graph(load_cluster("h100-dgx:4"))
    assert graph.kinds()[NodeKind.LEAF] == 8
    card_of = {
        i: next(n for n in graph.graph[i] if kind(graph, n) is NodeKind.NIC) for i in range(32)
    }
    leaf_of = {
        i: next(n for n in graph.graph[card] if kind(graph, n) is NodeKind.LEAF)
        for i, card in card_of.items()
    }
    assert leaf_of[0] == leaf_of[8] == leaf_of[24]
    assert len({leaf_of[i] for i in range(8)}) == 8


def kind(graph, node):
    return graph.graph.nodes[node]["kind"]


def test_an_oversubscribed_spine_leaves_a_seventh():
    cluster = load_cluster("meta-24k").take(2 * 3072)
    levels = quotient(build_graph(cluster))
    assert [blocks.span for blocks in levels] == [8, 3072, 6144]
    assert levels[1].Bps / levels[2].Bps == pytest.approx(7, rel=0.01)


def test_a_mesh_too_large_to_draw_every_link_of_is_refused():
    from dataclasses import replace

    cluster = load_cluster("mi300x")
    tiers = (replace(cluster.tiers[0], spans=1024), cluster.tiers[1])
    wide = replace(cluster, tiers=tiers, accelerators=1024)
    with pytest.raises(SpecError, match="full mesh"):
        build_graph(wide)


@pytest.mark.parametrize(
    ("pod", "accelerators", "multiple", "dims", "wraps"),
    [
        ((16, 20, 28), 64, 4, (4, 4, 4), (True, True, True)),
        ((16, 20, 28), 8960, 4, (16, 20, 28), (True, True, True)),
        ((16, 16), 256, 16, (16, 16), (True, True)),
        ((16, 16), 32, 16, (4, 8), (False, False)),
        ((8,), 8, 0, (8,), (False,)),
        ((4, 4), 7, 4, (1, 7), (False, False)),  # no box has 7 chips: a line
    ],
)
def test_a_slice_is_the_most_cubic_box(pod, accelerators, multiple, dims, wraps):
    box = Slice.of(pod, accelerators, multiple)
    assert (box.dims, box.wraps, box.size) == (dims, wraps, accelerators)


@pytest.mark.parametrize("dims", [(4, 4, 4), (8,), (2, 4), (3, 5)])
@pytest.mark.parametrize("wrap", [False, True])
def test_chips_of_a_torus_have_two_neighbours_along_every_side_longer_than_two(dims, wrap):
    from topologies.builders import _neighbours

    pairs = list(_neighbours(Slice(dims, (wrap,) * len(dims))))
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    expected = sum(prod(dims) // side * (side if wrap and side > 2 else side - 1) for side in dims)
    assert len(pairs) == expected


def test_rings_round_the_end_have_twice_the_rate_of_lines_and_sides_add_up():
    one, four = np.array([1.0]), np.array([4.0])
    closed, opened = Slice((4, 4), (True, True)), Slice((4, 4), (False, False))
    inner = (four, one)
    assert closed.rates([inner], 10.0)[1][0] == 20.0
    assert opened.rates([inner], 10.0)[1][0] == 10.0
    ring, torus, _, _, taken, across = closed.rates([(np.array([16.0]), one)], 10.0)
    assert (ring[0], torus[0], taken[:, 0].tolist()) == (20.0, 40.0, [1.0, 1.0])
    assert across[0] == 2 + 2  # half way round each side
    assert opened.rates([(np.array([16.0]), one)], 10.0)[5][0] == 3 + 3
    assert closed.rates([inner], 10.0)[4][:, 0].tolist() == [0.0, 1.0]
    # Every second chip: two groups share each link.
    assert opened.rates([(np.array([2.0]), np.array([2.0]))], 10.0)[1][0] == 5.0


def test_all_to_all_on_a_closed_ring_takes_a_quarter_of_an_all_gather():
    size = np.array([8.0])
    ring, _, everywhere, *_ = Slice((8,), (True,)).rates([(size, np.array([1.0]))], 1.0)
    gather_s = 7 * 1.0 / ring  # seven shards pass every chip
    exchange_s = 7 / 8 * 1.0 / everywhere  # seven eighths of each shard go elsewhere
    assert exchange_s[0] == pytest.approx(gather_s[0] * 8 / 7 / 4)
