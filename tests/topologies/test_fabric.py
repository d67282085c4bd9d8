"""What groups get from a cluster's links, against rates worked out by hand."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.collectives import cost
from models.layout import Layout, LayoutBatch, strides
from models.named_axes import RankOrder
from models.profile import load_profile
from topologies.algorithms import ALGORITHMS, way
from topologies.catalogue import cluster_names, load_cluster
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.library import Algorithm

if TYPE_CHECKING:
    from topologies.cluster import Cluster
    from topologies.group_links import GroupLinks

GB = 1e9
DGX = Fabric(load_cluster("h100-dgx:32"))
NVLINK, CARD = 450 * 0.824, 50 * 0.97  # usable GB/s of one GPU and of its network card
SWITCH = 450 * 0.608  # GB/s at which NVSwitch reduces
SEND = 50 * 0.747  # GB/s of one send over a network card
HOP, FAR = 0.761, 8.93  # us of a hop over NVLink and over InfiniBand
RELAY = 4.13  # us of a hop over NVLink on a ring that leaves the node
PROFILE = load_profile("h100-sxm")


def links(*axes: tuple[float, float], fabric: Fabric = DGX) -> GroupLinks:
    """Return what groups of some (size, stride) get."""
    return fabric.links(*((np.array([float(n)]), np.array([float(s)])) for n, s in axes))


def ring_GBps(found: GroupLinks) -> float:
    """Return the rate at which each rank passes its share round a ring."""
    size = found.size[0]
    algorithm = Algorithm.TORUS if found.crossings[0].tier.fabric == "torus" else Algorithm.RING
    return float((size - 1) / size / per_byte_s(Collective.ALL_GATHER, algorithm, found) / GB)


def all_to_all_GBps(found: GroupLinks) -> float:
    """Return the rate at which each rank sends to all others."""
    size = found.size[0]
    busy = per_byte_s(Collective.ALL_TO_ALL, Algorithm.PAIRWISE, found)
    return float((size - 1) / size / busy / GB)


def per_byte_s(collective: Collective, algorithm: Algorithm, found: GroupLinks) -> float:
    return float(way(collective, algorithm, found).per_byte_s[0])


def hops_us(collective: Collective, algorithm: Algorithm, found: GroupLinks) -> float:
    return float(way(collective, algorithm, found).hops_s[0]) * 1e6


def seconds(collective: Collective, nbytes: float, found: GroupLinks) -> float:
    return float(cost(collective, found, PROFILE).seconds(np.array([nbytes]))[0])


@pytest.mark.parametrize(
    ("size", "stride", "ring", "all_to_all", "shift", "out"),
    [
        # A whole node, over NVSwitch: every GPU at its own rate, whatever the pattern.
        (8, 1, NVLINK, NVLINK, NVLINK, False),
        (4, 2, NVLINK, NVLINK, NVLINK, False),
        # One GPU of each of 4 nodes: a card each, shared with nobody.
        (4, 8, CARD, CARD, SEND, True),
        # 2 nodes: a ring uses all eight cards (388 GB/s); each GPU's NVLink is crossed at seven of
        # eight turns (424 GB/s), so the cards set its rate. Half of what a rank sends leaves the
        # node; a shift crosses through one card.
        (16, 1, 8 * CARD, CARD / (8 / 15), SEND, True),
        # Far apart: as one GPU per node.
        (2, 128, CARD, CARD, SEND, True),
        # Half a node on each of 2 nodes: four cards for the ring, 194 GB/s.
        (8, 2, 4 * CARD, CARD / (4 / 7), SEND, True),
        # 32 nodes whole.
        (256, 1, 8 * CARD, CARD / (248 / 255), SEND, True),
    ],
)
def test_rates_of_h100_groups_by_hand(
    size: int, stride: int, ring: float, all_to_all: float, shift: float, out: bool
) -> None:
    found = links((size, stride))
    assert found.size == [size]
    assert ring_GBps(found) == pytest.approx(ring)
    assert all_to_all_GBps(found) == pytest.approx(all_to_all)
    assert found.shift_Bps[0] / GB == pytest.approx(shift)
    assert found.scale_out == [out]


@pytest.mark.parametrize(
    ("size", "stride", "ring_us", "tree_us", "hop_us"),
    [
        (8, 1, 7 * HOP, 3 * HOP, HOP),
        (4, 8, 3 * FAR, 2 * FAR, FAR),
        (16, 1, 14 * RELAY + 1 * FAR, 3 * HOP + 1 * FAR, FAR),  # two of sixteen hops leave a node
        (64, 1, 56 * RELAY + 7 * FAR, 3 * HOP + 3 * FAR, FAR),
    ],
)
def test_latencies_of_h100_groups_by_hand(
    size: int, stride: int, ring_us: float, tree_us: float, hop_us: float
) -> None:
    found = links((size, stride))
    assert hops_us(Collective.ALL_GATHER, Algorithm.RING, found) == pytest.approx(ring_us)
    assert hops_us(Collective.ALL_TO_ALL, Algorithm.PAIRWISE, found) == pytest.approx(tree_us)
    assert found.hop_latency_s[0] * 1e6 == pytest.approx(hop_us)


def test_a_mesh_gives_pairs_one_link_and_the_whole_all_of_them() -> None:
    """MI300X: seven xGMI links of 64 GB/s, 48 usable."""
    mesh = Fabric(load_cluster("mi300x:2"))
    for size in (2, 4, 8):
        found = links((size, 1), fabric=mesh)
        assert ring_GBps(found) == pytest.approx((size - 1) * 48)
        assert found.shift_Bps[0] / GB == pytest.approx(48)


def test_sockets_of_a_pcie_box_set_the_rate_of_eight() -> None:
    """QPI carries 24 GB/s: one flow or a ring has all of it; eight ranks to all share it."""
    box = Fabric(load_cluster("a100-pcie"))
    wire = 31 * 0.762
    assert ring_GBps(links((4, 1), fabric=box)) == pytest.approx(wire)
    across = links((8, 1), fabric=box)
    assert ring_GBps(across) == pytest.approx(min(wire, 4 * 6))
    assert across.shift_Bps[0] / GB == pytest.approx(wire)
    assert all_to_all_GBps(across) == pytest.approx(6 / (4 / 7))
    assert all_to_all_GBps(across) < all_to_all_GBps(links((4, 1), fabric=box)) / 2
    assert not across.scale_out[0]


def test_a_flat_ring_crosses_nodes_through_one_card_and_the_hops_of_a_double_ring_through_all() -> (
    None
):
    flat, outer = links((16, 1)), links((2, 8))
    assert flat.shift_Bps[0] / GB == pytest.approx(SEND)
    # Of 16 ranks on 2 nodes, 1 sends out at each hop of a flat ring; 8 do at an outer hop.
    senders = {1: flat, 8: outer}
    for many, found in senders.items():
        crossing = found.crossings[-1]
        assert many * crossing.shift_Bps[0] / GB == pytest.approx(many * CARD)


def test_an_oversubscribed_spine_is_felt_only_by_those_who_cross_it() -> None:
    """Meta's 24K cluster: full rate inside a pod of 3,072, a seventh between pods."""
    pods = Fabric(load_cluster("meta-24k:3072"))
    inside, across = links((2, 1536), fabric=pods), links((2, 3072), fabric=pods)
    assert ring_GBps(inside) == pytest.approx(CARD)
    assert ring_GBps(across) == pytest.approx(7.14 * 0.97)


def test_groups_over_two_axes_are_their_product() -> None:
    """Data and context ranks together: tp 8 inside a node, so one card each, 2 x 4 ranks."""
    both = links((2, 8), (4, 16))
    alone = links((8, 8))
    assert_alike(both, alone)


def test_two_axes_may_share_a_node() -> None:
    """cp 4 of stride 1 and dp 16 of stride 4: four cp ranks and two dp neighbours in each node."""
    found = links((4, 1), (16, 4))
    assert found.size == [64]
    assert ring_GBps(found) == pytest.approx(8 * CARD)
    with_tp_between = links((4, 1), (16, 8))
    assert ring_GBps(with_tp_between) == pytest.approx(4 * CARD)


def assert_alike(one: GroupLinks, other: GroupLinks) -> None:
    """Assert that two kinds of groups get the same."""
    assert one.size == pytest.approx(other.size)
    for ours, theirs in zip(one.crossings, other.crossings, strict=True):
        for field in fields(ours):
            if field.name != "tier":
                assert getattr(ours, field.name) == pytest.approx(getattr(theirs, field.name))


def test_rank_orders_decide_which_axis_leaves_the_node() -> None:
    """tp 4, cp 2, then dp or pp outside: Megatron's RankGenerator."""
    layouts = [
        Layout(tp=4, ring=2, dp=4, pp=2, rank_order=order)
        for order in (RankOrder.TP_CP_EP_DP_PP, RankOrder.TP_CP_EP_PP_DP)
    ]
    found = strides(LayoutBatch.of(layouts))
    assert found.tp.tolist() == [1, 1]
    assert found.ring.tolist() == [4, 4]
    assert found.dp.tolist() == [8, 16]
    assert found.pp.tolist() == [32, 8]


@given(
    st.lists(st.sampled_from([1, 2, 4]), min_size=5, max_size=5),
    st.sampled_from(list(RankOrder)),
    st.integers(0, 1),
)
def test_strides_number_every_rank_once(
    degrees: list[int], order: RankOrder, placement: int
) -> None:
    """All combinations of places on the axes give ranks 0 to n - 1."""
    axes = dict(zip(("tp", "ulysses", "ring", "dp", "pp"), degrees, strict=True))
    layout = Layout(**axes, rank_order=order, cp_placement=placement)
    found = strides(LayoutBatch.of([layout]))
    ranks = np.zeros(1)
    for axis, degree in axes.items():
        ranks = (ranks[:, None] + np.arange(degree) * getattr(found, axis)[0]).ravel()
    assert sorted(ranks) == list(range(layout.gpus))


# ------------------------------------------------------------------------------------- properties

GROUPS = st.tuples(st.sampled_from([1, 2, 4, 8, 16, 64]), st.sampled_from([1, 2, 4, 8, 16, 64]))


def together_Bps(cluster: Cluster) -> float:
    """Return what a rank sends at most: over its links inside and its network card at once."""
    rates: dict[bool, float] = {False: 0.0, True: 0.0}
    for tier in cluster.tiers:
        rate = tier.Bps.value * tier.usable_fraction.value
        rates[tier.scale_out] = max(rates[tier.scale_out], rate)
    return sum(rates.values())


@pytest.mark.parametrize("name", cluster_names())
@given(group=GROUPS)
def test_rates_are_positive_and_no_faster_than_the_fastest_link(
    name: str, group: tuple[int, int]
) -> None:
    cluster = load_cluster(name)
    cluster = cluster.take(min(cluster.max_nodes or 1024, 1024) * cluster.accelerators_per_node)
    assume(group[0] * group[1] <= cluster.accelerators)
    found = links(group, fabric=Fabric(cluster))
    best = together_Bps(cluster)
    if group[0] == 1:
        assert np.isinf(found.ring_Bps).all()
        assert found.hop_latency_s == 0
        return
    passed = group[0] / (group[0] - 1)
    for rate in (found.ring_Bps[0] / GB, found.shift_Bps[0] / GB, ring_GBps(found) / passed):
        assert 0 < rate <= best / GB * (1 + 1e-12)
    assert 0 < all_to_all_GBps(found) <= best * group[0]
    ring_us = hops_us(Collective.BROADCAST, Algorithm.RING, found)
    assert found.hop_latency_s[0] * 1e6 <= ring_us + 1e-9


@given(group=GROUPS, factor=st.sampled_from([1.5, 4.0, 100.0]))
def test_more_bandwidth_never_slows_a_group(group: tuple[int, int], factor: float) -> None:
    cluster = load_cluster("h100-dgx:512")
    usual, faster = (
        links(group, fabric=Fabric(c)) for c in (cluster, cluster.scale_network(factor))
    )
    for field in ("ring_Bps", "shift_Bps"):
        assert getattr(faster, field) >= getattr(usual, field)
    for collective in Collective:
        for algorithm in ALGORITHMS[collective]:  # which one NCCL takes may change for the worse
            less = per_byte_s(collective, algorithm, faster)
            assert less <= per_byte_s(collective, algorithm, usual)


@given(group=GROUPS, nbytes=st.sampled_from([1.0, 1e4, 1e8, 1e11]))
def test_collectives_of_one_rank_are_free_and_others_keep_the_bandwidth_bound(
    group: tuple[int, int], nbytes: float
) -> None:
    size = group[0]
    found = links(group)
    share = (size - 1) / size
    least_sent: dict[Collective, Any] = {
        Collective.ALL_GATHER: share,
        Collective.REDUCE_SCATTER: share,
        Collective.ALL_REDUCE: 2 * share,
        Collective.BROADCAST: share,
        Collective.SHIFT: 1.0,
    }
    most = together_Bps(DGX.cluster)
    for collective in Collective:
        taken = seconds(collective, nbytes, found)
        if size == 1:
            assert taken == 0
        elif collective is Collective.ALL_REDUCE and size > 4:  # NVLS: every byte crosses once
            assert taken >= nbytes / (SWITCH * GB) * (1 - 1e-12)
        elif collective in least_sent:
            assert taken >= nbytes * least_sent[collective] / most
        else:
            assert taken > 0


@given(group=GROUPS)
def test_longer_messages_take_longer_but_less_per_byte(group: tuple[int, int]) -> None:
    found = links(group)
    for collective in Collective:
        times = [seconds(collective, nbytes, found) for nbytes in (1e3, 1e6, 1e9)]
        assert times == sorted(times)
        if group[0] > 1:
            assert times[2] < 1000 * times[1] < 1e6 * times[0]


def test_large_collectives_approach_their_bandwidth() -> None:
    """Over NVSwitch: the shares sent at 371 GB/s, the own one copied; an all-reduce twice."""
    four = links((4, 1))
    copied = PROFILE.collective_copy.value / 4
    gather = seconds(Collective.ALL_GATHER, 1e12, four)
    assert gather == pytest.approx((3 / 4 + copied) * 1e12 / (NVLINK * GB), rel=0.01)
    reduce = seconds(Collective.ALL_REDUCE, 1e12, four)
    assert reduce == pytest.approx((2 * 3 / 4 + copied) * 1e12 / (NVLINK * GB), rel=0.01)


def test_many_groups_at_once_are_each_as_alone() -> None:
    sizes, steps = np.array([8.0, 4.0, 16.0, 1.0]), np.array([1.0, 8.0, 1.0, 4.0])
    together = DGX.links((sizes, steps))
    for i in range(4):
        assert_alike(together.take(np.array([i])), links((sizes[i], steps[i])))
    chosen = together.take(np.array([2, 0]))
    assert chosen.size.tolist() == [16, 8]
