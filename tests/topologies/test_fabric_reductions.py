"""All-reduces over nodes and in switches, racks, trays and host memory, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.collectives import cost
from models.operation import Collective
from tests.topologies.test_fabric import (
    CARD,
    DGX,
    FAR,
    GB,
    HOP,
    NVLINK,
    PROFILE,
    SWITCH,
    links,
    seconds,
)
from topologies.catalogue import load_cluster
from topologies.fabric import Fabric


def test_a_switch_reduces_long_messages_of_more_than_four_ranks_of_one_node() -> None:
    node = links((8, 1))
    assert node.switch_Bps[0] / GB == pytest.approx(SWITCH)
    assert seconds(Collective.ALL_REDUCE, 1e12, node) == pytest.approx(
        1e12 / (SWITCH * GB), rel=0.01
    )
    ring = replace(cost(Collective.ALL_REDUCE, node, PROFILE), switched=None)
    assert seconds(Collective.ALL_REDUCE, 1e4, node) == ring.seconds(np.array([1e4]))[0]
    assert seconds(Collective.ALL_REDUCE, 1e9, node) < ring.seconds(np.array([1e9]))[0]
    for others in ((4, 1), (16, 1), (8, 8)):
        assert links(others).switch_Bps == [0]
    assert links((8, 1), fabric=Fabric(load_cluster("a100-dgx"))).switch_Bps == [0]
    together = DGX.links((np.array([8.0, 4.0]), np.array([1.0, 1.0])))
    both = cost(Collective.ALL_REDUCE, together, PROFILE).seconds(np.array([1e9, 1e9]))
    assert both[1] == seconds(Collective.ALL_REDUCE, 1e9, links((4, 1)))


@pytest.mark.parametrize(
    ("size", "stride", "GBps", "latency_us"),
    [
        (8, 1, NVLINK, 7 * HOP),
        # Over nodes a tree: 2 (K - 1) / K of the bytes, not 2 (n - 1) / n.
        (4, 8, CARD, 2 * FAR),
        (4, 4, 2 * CARD * (3 / 4) / (1 / 2), 1 * HOP + 1 * FAR),
        (8, 4, 2 * CARD * (7 / 8) / (3 / 4), 1 * HOP + 2 * FAR),
        (16, 1, NVLINK, 7 * HOP + 1 * FAR),
    ],
)
def test_an_all_reduce_over_nodes_moves_what_a_tree_moves(
    size: int, stride: int, GBps: float, latency_us: float
) -> None:
    found = links((size, stride))
    assert found.reduce_Bps[0] / GB == pytest.approx(GBps)
    assert found.reduce_latency_s[0] * 1e6 == pytest.approx(latency_us)


def test_a_job_inside_one_rack_straddles_no_border() -> None:
    """16 ranks of 64 GPUs stay in a rack of 72; among 144 GPUs some groups of 16 do not."""
    rack, racks = (Fabric(load_cluster("gb200-nvl72", gpus=gpus)) for gpus in (64, 144))
    assert not links((16, 1), fabric=rack).scale_out[0]
    assert links((16, 1), fabric=racks).scale_out[0]


def test_sends_to_peers_beyond_the_tray_are_issued_one_by_one() -> None:
    rack = Fabric(load_cluster("gb200-nvl72", gpus=64))
    assert links((4, 1), fabric=rack).peers_s == [0]
    far = links((64, 1), fabric=rack)
    assert far.peers_s[0] * 1e6 == pytest.approx(63 * 10.1)
    assert seconds(Collective.ALL_TO_ALL, 1.0, far) == far.peers_s[0]
    assert seconds(Collective.ALL_GATHER, 1.0, far) < far.peers_s[0]


def test_bytes_through_host_memory_take_their_share_wherever_they_go() -> None:
    box = Fabric(load_cluster("l40s-pcie"))
    for size, share in ((2, 0.856), (4, 0.178), (8, 0.048)):
        found = links((size, 1), fabric=box)
        for rate in (found.ring_Bps, found.all_to_all_Bps, found.reduce_Bps, found.shift_Bps):
            assert rate[0] / GB == pytest.approx(31 * share)
