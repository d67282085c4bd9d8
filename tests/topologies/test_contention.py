"""Collectives of several axes at once on shared links, and flows hashed onto equal links."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.max_min import certificate
from topologies import load_cluster
from topologies.algorithms import ALGORITHMS, way
from topologies.collective import Collective
from topologies.contention import Flow, shares
from topologies.ecmp import Ecmp, slowdown
from topologies.fabric import Fabric
from topologies.library import Algorithm

DGX = Fabric(load_cluster("h100-dgx:32"))
TPU = Fabric(load_cluster("tpu-v4", gpus=64))
AXES = st.sampled_from([(2, 1), (8, 1), (16, 1), (4, 8), (8, 8), (2, 64), (32, 8)])
KINDS = st.sampled_from([(c, a) for c in Collective for a in ALGORITHMS[c]])


def flow(
    collective: Collective, algorithm: Algorithm, *axes: tuple[float, float], fabric: Fabric = DGX
) -> Flow:
    pairs = ((np.array([float(n)]), np.array([float(s)])) for n, s in axes)
    return Flow(collective=collective, algorithm=algorithm, links=fabric.links(*pairs))


HOP = flow(Collective.SHIFT, Algorithm.DIRECT, (4, 8))
SEND = flow(Collective.SHIFT, Algorithm.DIRECT, (8, 32))
GRADIENTS = flow(Collective.REDUCE_SCATTER, Algorithm.RING, (32, 8))
#: What a send takes of a card at the rate of NCCL's sends.
SENT = 0.747 / 0.97
TENSOR = flow(Collective.ALL_GATHER, Algorithm.RING, (8, 1))


def test_a_collective_alone_has_its_own_speed():
    for one in (HOP, GRADIENTS, TENSOR):
        assert shares([one]) == [1.0]


def test_those_on_other_links_do_not_meet():
    assert shares([TENSOR, HOP]).tolist() == [1.0, 1.0]


def test_three_axes_on_one_card_fill_it():
    """Ring attention hops while gradients reduce while the pipeline sends, all over the NIC."""
    assert shares([HOP, GRADIENTS, SEND]) == pytest.approx([1 / (1 + 2 * SENT)] * 3)
    assert shares([HOP, GRADIENTS, SEND, TENSOR])[3] == 1.0


def test_what_one_cannot_use_the_others_get():
    """A ring over whole nodes keeps NVLink busy 92% of its time, so tensor parallelism has 1/2."""
    whole = flow(Collective.ALL_GATHER, Algorithm.RING, (16, 1))
    occupied = whole.occupancy()
    assert occupied[1] == 1.0  # eight cards
    assert occupied[0] == pytest.approx(8 * 48.5 * 7 / 8 / (450 * 0.824))
    beside = shares([whole, TENSOR])
    assert beside @ [occupied[0], 1.0] == pytest.approx(1.0)
    with_hops = shares([whole, TENSOR, HOP])
    assert with_hops[:2] == pytest.approx(beside)  # NVLink is full before the cards are
    assert with_hops[0] + SENT * with_hops[2] == pytest.approx(1.0)


def test_axes_that_cross_different_tiers_share_the_card_both_pass():
    """HPN: gradients inside a segment and pipeline sends between segments leave by one card."""
    hpn = Fabric(load_cluster("alibaba-hpn:512"))
    inside = flow(Collective.REDUCE_SCATTER, Algorithm.RING, (4, 8), fabric=hpn)
    between = flow(Collective.SHIFT, Algorithm.DIRECT, (4, 1024), fabric=hpn)
    assert shares([inside, between]) == pytest.approx([1 / (1 + SENT)] * 2)


def test_axes_of_a_mesh_share_the_links_between_the_same_peers_only():
    mesh = Fabric(load_cluster("mi300x:2"))
    pairs, fours, across = (
        flow(Collective.SHIFT, Algorithm.DIRECT, axis, fabric=mesh)
        for axis in ((2, 1), (4, 1), (2, 4))
    )
    everything = flow(Collective.ALL_GATHER, Algorithm.RING, (8, 1), fabric=mesh)
    assert shares([pairs, pairs]).tolist() == [0.5, 0.5]
    assert shares([pairs, fours]).tolist() == [0.5, 0.5]
    assert shares([fours, across]).tolist() == [1.0, 1.0]
    assert shares([everything, across]).tolist() == [0.5, 0.5]


def test_axes_along_different_dimensions_of_a_torus_do_not_meet():
    across, along, both = (
        flow(Collective.ALL_GATHER, Algorithm.TORUS, axis, fabric=TPU)
        for axis in ((4, 16), (4, 1), (16, 1))
    )
    assert shares([across, along]).tolist() == [1.0, 1.0]
    assert shares([both, along]) == pytest.approx([0.5, 0.5])


@given(st.lists(st.tuples(KINDS, AXES), min_size=1, max_size=6))
def test_shares_carry_a_certificate(chosen):
    """No class of links over its capacity, and every flow at full speed or through a full class."""
    flows = [flow(*kind, axis) for kind, axis in chosen]
    found = shares(flows)
    occupied = np.stack([one.occupancy() for one in flows])
    limited = np.concatenate([occupied, np.eye(len(flows))], axis=1)  # nobody faster than alone
    assert certificate(limited, np.ones(limited.shape[1]), found)
    assert ((found > 0) & (found <= 1)).all()
    assert shares([*flows, HOP])[: len(flows)].min() <= found.min() + 1e-12


@given(KINDS, AXES)
def test_the_busiest_level_sets_the_time_of_those_that_work_at_once(kind, axis):
    one = flow(*kind, axis)
    found = way(*kind, one.links)
    in_turn = kind[1] in (Algorithm.HIERARCHICAL, Algorithm.HALVING_DOUBLING)
    levels = found.levels_s[:, 0]
    assert found.per_byte_s[0] == pytest.approx(levels.sum() if in_turn else levels.max())


# ------------------------------------------------------------------------------------ equal links


@pytest.mark.parametrize("sets", [1, 6])
@pytest.mark.parametrize(("flows", "links"), [(2, 2), (8, 4), (32, 8), (64, 64), (1024, 16)])
def test_the_expected_fullest_link_is_the_mean_of_many_draws(flows, links, sets):
    many = np.array([float(flows)])
    draws = [slowdown(many, links, Ecmp.SEEDED, seed, sets)[0] for seed in range(1500)]
    expected = slowdown(many, links, Ecmp.EXPECTED, sets=sets)[0]
    assert expected == pytest.approx(np.mean(draws), rel=0.04)
    assert min(draws) >= 1.0


def test_perfect_routing_and_a_single_link_lose_nothing():
    flows = np.array([1.0, 8.0, 1000.0])
    assert slowdown(flows, 16, Ecmp.PERFECT).tolist() == [1.0] * 3
    assert slowdown(flows, 1, Ecmp.EXPECTED).tolist() == [1.0] * 3


def test_many_flows_even_out_and_a_lone_one_has_one_link():
    found = slowdown(np.array([1.0, 16.0, 1e5]), 16, Ecmp.EXPECTED)
    assert found[0] == pytest.approx(16.0)
    assert found[0] > found[1] > found[2] > 1.0
    assert found[2] < 1.05


def pods(**spine):
    """Return four pods of 64 GPUs, 8 uplinks each."""
    nvlink, card, top = load_cluster("meta-24k:32").tiers
    tiers = (nvlink, replace(card, spans=64, paths=4), replace(top, paths=8, **spine))
    return replace(load_cluster("meta-24k:32"), tiers=tiers)


def test_collisions_count_the_flows_of_every_pattern():
    """A rank's sends to three peers are flows of their own; of a shift, one in eight crosses."""
    perfect, hashed = (Fabric(pods(), mode) for mode in (Ecmp.PERFECT, Ecmp.EXPECTED))
    uplink = 7.14e9 * 0.97

    def slower(flows):
        return slowdown(np.array([flows]), 8, Ecmp.EXPECTED, sets=2 * 4)[0]

    across = (np.array([4.0]), np.array([64.0]))
    rates = [fabric.links(across).crossings[-1].all_to_all_Bps[0] for fabric in (perfect, hashed)]
    assert rates == pytest.approx([uplink, uplink / slower(64.0 * 3)])
    through = (np.array([16.0]), np.array([8.0]))
    found = hashed.links(through).crossings[-1]
    assert found.below == 8
    assert found.shift_Bps[0] == pytest.approx(8 * uplink / slower(8.0))
    assert found.ring_Bps[0] == pytest.approx(8 * uplink / slower(64.0))
    inside = (np.array([8.0]), np.array([8.0]))  # cards meet at their leaf, whatever spines it has
    assert hashed.links(inside).ring_Bps == perfect.links(inside).ring_Bps


def test_a_spine_faster_than_the_cards_gives_no_more_than_they_do():
    fast = pods(Bps=replace(load_cluster("meta-24k").tiers[2].Bps, value=400e9))
    pair = (np.array([2.0]), np.array([64.0]))
    for alone in (False, True):
        found = Fabric(fast, alone=alone).links(pair)
        assert found.ring_Bps[0] == pytest.approx(50e9 * 0.97)
        busy = way(Collective.ALL_TO_ALL, Algorithm.PAIRWISE, found).per_byte_s[0]
        assert 0.5 / busy == pytest.approx(50e9 * 0.97)


def test_hashed_uplinks_slow_those_who_cross_them_only():
    """Pods of 256 GPUs with 64 uplinks each: hashing costs rings between pods, none inside."""
    large = load_cluster("meta-24k:1024")
    large = replace(large, tiers=(*large.tiers[:2], replace(large.tiers[2], paths=64)))
    across, inside = ((np.array([2.0]), np.array([float(stride)])) for stride in (3072, 8))
    perfect, hashed, drawn = (Fabric(large, mode, seed=7) for mode in Ecmp)
    assert hashed.links(inside).ring_Bps == perfect.links(inside).ring_Bps
    lost = perfect.links(across).ring_Bps / hashed.links(across).ring_Bps
    wanted = slowdown(np.array([3072.0]), 64, Ecmp.EXPECTED, sets=2 * 3)  # three pods, out and in
    assert lost[0] == pytest.approx(wanted[0])
    assert 1.2 < lost[0] < 1.6
    assert (
        drawn.links(across).ring_Bps[0] == Fabric(large, Ecmp.SEEDED, 7).links(across).ring_Bps[0]
    )
    seeds = [Fabric(large, Ecmp.SEEDED, seed).links(across).ring_Bps[0] for seed in range(8)]
    assert len(set(seeds)) > 1
