"""All-reduces over nodes and in switches, racks, trays and host memory, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.collectives import cost
from tests.topologies.test_fabric import (
    CARD,
    DGX,
    FAR,
    GB,
    HOP,
    NVLINK,
    PROFILE,
    SWITCH,
    all_to_all_GBps,
    hops_us,
    links,
    per_byte_s,
    ring_GBps,
    seconds,
)
from topologies.algorithms import way
from topologies.catalogue import load_cluster
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.library import Algorithm
from topologies.members import peers_taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from topologies.group_links import GroupLinks


def chosen(nbytes: float, found: GroupLinks) -> str:
    """Return the algorithm that the library takes for an all-reduce."""
    taken = cost(Collective.ALL_REDUCE, found, PROFILE)
    return taken.chosen(np.array([nbytes]))[0].value


def test_a_switch_reduces_long_messages_of_more_than_four_ranks_of_one_node() -> None:
    node = links((8, 1))
    assert seconds(Collective.ALL_REDUCE, 1e12, node) == pytest.approx(
        1e12 / (SWITCH * GB), rel=0.01
    )
    assert chosen(1e4, node) == "ring"
    assert chosen(1e9, node) == "nvls"
    for others in ((4, 1), (8, 8)):
        assert chosen(1e9, links(others)) not in ("nvls", "nvls_tree")
    a100 = links((8, 1), fabric=Fabric(load_cluster("a100-dgx")))
    assert chosen(1e9, a100) == "ring"
    together = DGX.links((np.array([8.0, 4.0]), np.array([1.0, 1.0])))
    both = cost(Collective.ALL_REDUCE, together, PROFILE).seconds(np.array([1e9, 1e9]))
    assert both[1] == seconds(Collective.ALL_REDUCE, 1e9, links((4, 1)))


def test_between_nodes_the_size_of_the_message_decides_as_in_nccl_s_tables() -> None:
    two, sixteen = links((16, 1)), links((128, 1))
    assert chosen(1e6, two) == "tree"
    assert chosen(1e9, two) == "nvls_tree"
    assert chosen(1e6, sixteen) == "tree"
    assert chosen(2.0**34, sixteen) == "ring"


@pytest.mark.parametrize(
    ("size", "stride", "GBps", "latency_us"),
    [
        # Inside a node a chain: every byte up and down each link but the last.
        (8, 1, NVLINK, 7 * HOP),
        # Over nodes a tree: 2 (K - 1) / K of the bytes, not 2 (n - 1) / n.
        (4, 8, CARD / (3 / 4), 2 * FAR),
        (4, 4, 2 * CARD / (1 / 2), 1 * HOP + 1 * FAR),
        (8, 4, 2 * CARD / (3 / 4), 1 * HOP + 2 * FAR),
        (16, 1, NVLINK, 7 * HOP + 1 * FAR),
    ],
)
def test_a_tree_over_nodes_moves_fewer_bytes_than_a_ring(
    size: int, stride: int, GBps: float, latency_us: float
) -> None:
    found = links((size, stride))
    busy = per_byte_s(Collective.ALL_REDUCE, Algorithm.TREE, found)
    assert 2.0 / busy / GB == pytest.approx(GBps)
    hops = hops_us(Collective.ALL_REDUCE, Algorithm.TREE, found)
    assert hops == pytest.approx(2 * latency_us)


@pytest.mark.parametrize("algorithm", [Algorithm.HIERARCHICAL, Algorithm.HALVING_DOUBLING])
def test_level_by_level_each_moves_what_is_left_and_times_add_up(algorithm: Algorithm) -> None:
    """16 nodes of 8: scattered 7/8 inside, then 15/16 of an eighth outside, and back."""
    found = links((128, 1))
    inside, outside = 7 / 8 / NVLINK, 1 / 8 * 15 / 16 / CARD
    busy = per_byte_s(Collective.ALL_REDUCE, algorithm, found)
    assert busy * GB == pytest.approx(2 * (inside + outside))
    steps = {
        Algorithm.HIERARCHICAL: 7 * HOP + 15 * FAR,
        Algorithm.HALVING_DOUBLING: 3 * HOP + 4 * FAR,
    }
    hops = hops_us(Collective.ALL_REDUCE, algorithm, found)
    assert hops == pytest.approx(2 * steps[algorithm])


def test_nvls_over_nodes_is_the_slower_of_the_switch_and_the_tree_outside() -> None:
    found = links((32, 1))
    busy = per_byte_s(Collective.ALL_REDUCE, Algorithm.NVLS_TREE, found)
    assert busy * GB == pytest.approx(max(1 / SWITCH, 2 * 3 / 4 / (8 * CARD)))
    start_us = DGX.cluster.tiers[0].nvls_start_s.value * 1e6
    waited = hops_us(Collective.ALL_REDUCE, Algorithm.NVLS_TREE, found)
    assert waited == pytest.approx(start_us + 2 * 2 * FAR)  # four nodes: two doublings each way


def test_tori_reduce_along_all_dimensions_at_once() -> None:
    """TPU v4, a cube of 64 chips, 45 GB/s a link and way, usable 95%: six links."""
    pod = Fabric(load_cluster("tpu-v4", gpus=64))
    found = links((64, 1), fabric=pod)
    busy = per_byte_s(Collective.ALL_GATHER, Algorithm.TORUS, found)
    assert 63 / 64 / busy / GB == pytest.approx(6 * 42.75)
    flat = per_byte_s(Collective.ALL_GATHER, Algorithm.RING, found)
    assert 63 / 64 / flat / GB == pytest.approx(2 * 42.75)


def test_a_job_inside_one_rack_straddles_no_border() -> None:
    """16 ranks of 64 GPUs stay in a rack of 72; among 144 GPUs some groups of 16 do not."""
    rack, racks = (Fabric(load_cluster("gb200-nvl72", gpus=gpus)) for gpus in (64, 144))
    assert not links((16, 1), fabric=rack).scale_out[0]
    assert links((16, 1), fabric=racks).scale_out[0]


def test_sends_to_peers_beyond_the_tray_are_issued_one_by_one() -> None:
    rack = Fabric(load_cluster("gb200-nvl72", gpus=64))
    assert links((4, 1), fabric=rack).issue_s == [0]
    far = links((64, 1), fabric=rack)
    assert far.issue_s[0] * 1e6 == pytest.approx(63 * 10.1)
    assert seconds(Collective.ALL_TO_ALL, 1.0, far) == far.issue_s[0]
    assert seconds(Collective.ALL_GATHER, 1.0, far) < far.issue_s[0]


def test_bytes_through_host_memory_take_their_share_wherever_they_go() -> None:
    box = Fabric(load_cluster("l40s-pcie"))
    for size, share in ((2, 0.856), (4, 0.178), (8, 0.048)):
        found = links((size, 1), fabric=box)
        for rate in (ring_GBps(found), all_to_all_GBps(found), found.shift_Bps[0] / GB):
            assert rate == pytest.approx(31 * share)


def test_ranks_of_different_nodes_meet_no_host_memory() -> None:
    """One GPU of each of two L40S boxes: their cards set the rate, not what peers inside share."""
    boxes = load_cluster("l40s-pcie:2")
    card = boxes.tiers[-1]
    found = links((2, 8), fabric=Fabric(boxes))
    assert ring_GBps(found) == pytest.approx(card.Bps.value * card.usable_fraction.value / GB)


def test_a_broadcast_has_one_root_that_sends_all() -> None:
    found = links((2, 8))
    assert per_byte_s(Collective.BROADCAST, Algorithm.TREE, found) * GB == pytest.approx(1 / CARD)


def test_an_all_to_all_by_levels_goes_first_to_its_place_in_the_node() -> None:
    busy = per_byte_s(Collective.ALL_TO_ALL, Algorithm.HIERARCHICAL, links((16, 1)))
    assert busy * GB == pytest.approx(7 / 8 / NVLINK + 1 / 2 / CARD)


def test_hops_of_a_torus_go_half_way_round_every_side() -> None:
    """Closed sides of 4, 4 and 8 chips: two, two and four hops along them, 1 us each."""
    box = links((128, 1), fabric=Fabric(load_cluster("tpu-v4", gpus=128)))
    for algorithm in (Algorithm.TORUS, Algorithm.HIERARCHICAL):
        assert hops_us(Collective.ALL_GATHER, algorithm, box) == pytest.approx(8)
    row = links((4, 1), fabric=Fabric(load_cluster("tpu-v5e", gpus=16)))  # open: three links
    assert hops_us(Collective.ALL_GATHER, Algorithm.TORUS, row) == pytest.approx(3)


def test_bridges_carry_what_is_for_the_partner_only() -> None:
    """Bridged pairs in a PCIe box: of four ranks' all-to-all a quarter crosses the bridge."""
    found = links((4, 1), fabric=Fabric(load_cluster("h100-pcie")))
    levels = way(Collective.ALL_TO_ALL, Algorithm.PAIRWISE, found).levels_s[:, 0]
    assert levels[:2] * GB == pytest.approx([1 / 4 / (300 * 0.385), 2 / 4 / (63 * 0.762)])


def test_links_of_a_mesh_are_told_apart_by_the_distance_of_their_ends() -> None:
    def apart(taken: NDArray[np.float64]) -> list[int]:
        return [int(at) + 1 for at in np.flatnonzero(taken[:, 0])]

    def pair(*axes: tuple[int, int]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        return [(np.array([float(n)]), np.array([float(s)])) for n, s in axes]

    every, neighbours = peers_taken(pair((2, 1), (2, 4)), 8)  # ranks 0, 1, 4, 5
    assert apart(every) == [1, 3, 4, 5]
    assert apart(neighbours) == [1]
    assert [apart(one) for one in peers_taken(pair((4, 2)), 8)] == [[2, 4, 6], [2, 6]]
    assert [apart(one) for one in peers_taken(pair((1, 8)), 8)] == [[], []]
