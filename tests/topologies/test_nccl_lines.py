"""Times and rates of NCCL's algorithms, computed by hand, and the channels of known machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.topologies.nccl_groups import GIB, MIB, choice, groups
from topologies.nccl_graph import nvls_channels, ring_channels, tree_channels
from topologies.nccl_tables import GENERATIONS, load_tables
from topologies.nccl_tuning import ALGORITHMS, PROTOCOLS, Groups, Tuning

if TYPE_CHECKING:
    from topologies.nccl_lines import Line


@pytest.mark.parametrize(
    ("group", "collective", "nbytes", "wanted", "us"),
    [
        # 8.4 + 14 steps of 3.4 + 1 of 14; 8 channels of 48 GB/s, 16/15 of that
        (groups(8, 2), "all_gather", GIB, "ring/simple", 70.0 + GIB / 409.6e3),
        (groups(8, 2), "reduce_scatter", GIB, "ring/simple", 70.0 + GIB / 409.6e3),
        # 25 + 2 * 2 * 20.9; 8 of 45.5 GB/s, 32/62 of that
        (groups(8, 4), "all_reduce", 64 * MIB, "nvls_tree/simple", 465.81),
        # two nodes: 25 + 2 * 20.9; 8 of 57.7, 16/30
        (groups(8, 2), "all_reduce", GIB, "nvls_tree/simple", 66.8 + GIB / 246186.67),
        # 8.4 + 56 * 3.4 + 6 * 14, times 1.9; 48 GB/s, 32/62
        (groups(8, 4, "volta", node=48e9), "all_reduce", 16 * GIB, "ring/simple", 693995.64),
        # one rank per node: 6.6 + 2 steps of a tree's 5.0; half of 48 GB/s
        (groups(1, 2, "ampere", node=48e9), "all_reduce", 1024, "ring/ll", 16.6427),
        # 25 + 2 * 2 * 20.9; 8 of 48, 32/62; 0.7 of that but on Arm
        (groups(8, 4, "blackwell"), "all_reduce", 16 * MIB, "nvls_tree/simple", 229.53),
        (groups(8, 4, "blackwell", cpu="arm"), "all_reduce", 16 * MIB, "nvls_tree/simple", 193.25),
        # PCIe: 8.4 + 6 * 5.7; 12 GB/s, 4/6; LL128 would take 171 us, but needs NVLink
        (groups(4, 1, "ampere", inside=12e9, pcie=True), "all_reduce", MIB, "ring/simple", 173.67),
        # 6.6 + 14 steps + 2.7: steps of 1 us on Intel, 2 on AMD
        (groups(8, 2), "all_gather", 64, "ring/ll", 23.3),
        (groups(8, 2, cpu="amd"), "all_gather", 64, "ring/ll", 37.3),
        # 6.8 + 2 (7 * 0.6 + 4 * 5.0), 20.4 GB/s on Intel, 19 on AMD; 0.85 * 0.5 * 0.9 of that
        (groups(8, 16), "all_reduce", 16384, "tree/ll", 55.2 + 16384 / (20.4e3 * 0.3825 * 7 / 9)),
        # 8.4 + 3.4 in one node, + 16 of them over two
        (groups(8, 1), "broadcast", GIB, "ring/simple", 11.8 + GIB / 360e3),
        (groups(8, 2), "broadcast", GIB, "ring/simple", 62.8 + GIB / 384e3),
    ],
)
def test_lines_by_hand(
    group: Groups, collective: str, nbytes: float, wanted: str, us: float
) -> None:
    found, taken_us = choice(Tuning.of(group, collective), nbytes)
    assert found == wanted
    assert taken_us == pytest.approx(us, rel=1e-4)


def line(group: Groups, collective: str, name: str) -> Tuning:
    """Return the tuning that knows one algorithm and protocol only."""
    (found,) = (e for e in Tuning.of(group, collective).lines if called(e) == name)
    return Tuning((found,))


def called(line: Line) -> str:
    return f"{ALGORITHMS[line.algorithm]}/{PROTOCOLS[line.protocol]}"


@pytest.mark.parametrize(
    ("group", "collective", "name", "GBps"),
    [
        # 8 channels of 48 GB/s: 0.92 of 384 is more than 8 * 36
        (groups(8, 16), "all_reduce", "tree/simple", 288 * 0.425),
        # 120/128 of that is more than 8 * 29
        (groups(8, 16), "all_reduce", "tree/ll128", 232 * 0.425),
        # 0.92 of 12 * 30, 7/9 of that
        (groups(8, 1), "all_reduce", "tree/ll128", 331.2 * 7 / 9 * 0.425),
        # 0.92 of 384 is more than 8 * 36.7
        (groups(8, 2), "all_gather", "ring/ll128", 8 * 36.7 * 16 / 15),
        # the switch gives 48 * 0.74 * 7/8 * 2 per channel, less than twice 48
        (groups(8, 2, "blackwell"), "all_reduce", "nvls_tree/simple", 8 * 62.16 * 16 / 30),
        # 8 of 40 * 0.85 * 7/8 * 7/8
        (groups(8, 1), "all_gather", "nvls/simple", 8 * 26.03125 * 8 / 7),
        # 0.5 of 360, more than 141
        (groups(8, 1), "all_reduce", "ring/ll", 141 * 8 / 14),
    ],
)
def test_rates_by_hand(group: Groups, collective: str, name: str, GBps: float) -> None:
    """Of single lines, chosen or not, between two sizes at which no tree is corrected."""
    alone = line(group, collective, name)
    slope_s = alone.seconds(2.0**35) - alone.seconds(2.0**34)
    assert 2.0**34 / slope_s / 1e9 == pytest.approx(GBps)


@pytest.mark.parametrize(
    ("group", "collective", "switched"),
    [
        (groups(8, 1), "all_reduce", {"nvls/simple"}),
        (groups(8, 2), "all_reduce", {"nvls_tree/simple"}),
        (groups(8, 1), "reduce_scatter", {"nvls/simple"}),
        (groups(8, 2), "reduce_scatter", set()),
        (groups(8, 1), "broadcast", set()),
        (groups(8, 1, pcie=True), "all_reduce", set()),
        (groups(8, 2, pcie=True), "all_reduce", set()),
        (groups(8, 1, "ampere"), "all_reduce", set()),
        (groups(1, 8), "all_reduce", set()),
    ],
)
def test_who_may_reduce_in_the_switch(group: Groups, collective: str, switched: set[str]) -> None:
    names = {called(found) for found in Tuning.of(group, collective).lines}
    assert {name for name in names if name.startswith("nvls")} == switched
    assert any(name.startswith("tree") for name in names) == (collective == "all_reduce")


@pytest.mark.parametrize(("per_node", "pcie", "able"), [(8, 0, 1), (1, 1, 1), (2, 1, 0), (1, 0, 1)])
def test_ll128_needs_nvlink_between_the_ranks_of_a_node(per_node, pcie, able) -> None:
    found = Tuning.of(groups(per_node, 4, pcie=bool(pcie)), "all_gather").lines
    assert ("ring/ll128" in {called(line) for line in found}) == bool(able)


@pytest.mark.parametrize(
    ("find", "group", "wanted"),
    [
        (ring_channels, groups(8, 1, "ampere"), (12, 20, 20)),
        (ring_channels, groups(8, 1, "hopper"), (12, 30, 30)),
        (ring_channels, groups(8, 1, "blackwell"), (12, 60, 60)),
        (ring_channels, groups(8, 4, "blackwell"), (8, 48, 48)),
        (ring_channels, groups(1, 4, "hopper", node=48.5e9), (8, 6, 6)),
        (tree_channels, groups(8, 2, "ampere", node=48e9), (8, 12, 6)),
        (tree_channels, groups(8, 2, "ampere", node=192e9), (8, 30, 24)),  # 48 are too many
        (tree_channels, groups(8, 2, "blackwell"), (8, 96, 48)),
        (nvls_channels, groups(8, 1, "blackwell"), (8, 80, 80)),
        (nvls_channels, groups(72, 1, "blackwell"), (32, 20, 20)),
        (nvls_channels, groups(8, 4, "hopper"), (8, 40, 48)),
        (nvls_channels, groups(8, 4, "hopper", node=98e9), (8, 12, 12)),
    ],
)
def test_channels_of_known_machines(find, group: Groups, wanted: tuple[int, int, int]) -> None:
    found = find(group.whole(), load_tables())
    between = found.between_GBps if group.nodes > 1 else found.inside_GBps
    assert (float(found.count), float(found.inside_GBps), float(between)) == wanted


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("cards", range(1, 9))
@pytest.mark.parametrize("per_node", [1.0, 2.0, 8.0])
def test_channels_carry_what_the_cards_do(generation: str, cards: int, per_node: float) -> None:
    """Cards of 400 Gb/s, 48 GB/s of which are usable; the node's inside where that is less.

    The grid is coarse: 8x30 is what A100 gives of 274 GB/s.
    """
    group = groups(per_node, 4.0, generation, node=cards * 48e9).whole()
    limit = float(np.minimum(group.node_Bps, group.through_Bps)) / 1e9
    for find in (ring_channels, tree_channels, nvls_channels):
        found = find(group, load_tables())
        carried = float(found.count * found.between_GBps)
        assert carried <= cards * 48 * (1 + 1e-9)
        if find is not nvls_channels:
            assert 0.87 * limit <= carried <= limit * (1 + 1e-9)
        assert found.between_GBps in load_tables().channel_GBps.between.of(generation)


def test_a_card_slower_than_the_slowest_channel_is_one_channel() -> None:
    found = ring_channels(groups(8, 2, node=0.05e9).whole(), load_tables())
    assert (float(found.count), float(found.between_GBps)) == (1.0, pytest.approx(0.05))


def test_corrections_are_those_of_single_doublings() -> None:
    correction = load_tables().tree_correction
    for name in PROTOCOLS:
        factors = getattr(correction, name)
        assert len(factors) == 23
        assert all(0.4 <= factor <= 1 for factor in factors)
    alone = line(groups(8, 16), "all_reduce", "tree/simple")
    (tree,) = alone.lines
    for nbytes, factor in (
        (63.0, 1),
        (64.0, 0.9),
        (2.0**20 - 1, 0.5),
        (2.0**29 - 1, 0.9),
        (2.0**29, 1),
    ):
        wanted = tree.start_s + nbytes * tree.per_byte_s / factor
        assert alone.seconds(nbytes) == pytest.approx(float(wanted), rel=1e-12)
