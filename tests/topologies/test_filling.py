"""Racks that share fast links are filled evenly."""

from __future__ import annotations

import pytest

from topologies.catalogue import load_cluster
from topologies.reach import outermost_tier


@pytest.mark.parametrize(
    ("gpus", "used"),
    [
        (64, 72),  # one rack, of which the job is a part
        (72, 72),
        (128, 64),
        (144, 72),
        (256, 64),
        (288, 72),
        (1024, 64),
        (76, 72),  # 19 racks of a tray each would be even: one after the other instead
        (9216, 72),
    ],
)
def test_racks_are_filled_evenly_where_that_leaves_few_idle(gpus: int, used: int) -> None:
    cluster = load_cluster("gb200-nvl72", gpus=gpus)
    assert cluster.tiers[0].spans == used
    assert bool(cluster.filling) == (used < 72)
    assert cluster.fast_domain == min(used, gpus)


def test_groups_of_an_even_filling_stay_in_their_racks() -> None:
    cluster = load_cluster("gb200-nvl72", gpus=256)
    assert cluster.filling == "64 of the 72 that each nvlink domain joins"
    assert outermost_tier(cluster, 64, 1).name == "nvlink"
    assert outermost_tier(cluster.take(288), 64, 1).name == "infiniband"


def test_a_cluster_taken_again_knows_its_whole_racks() -> None:
    cluster = load_cluster("gb200-nvl72", gpus=256)
    assert cluster.take(144).tiers[0].spans == 72
    assert cluster.take(144).filling == ""
    assert cluster.take(512).tiers[0].spans == 64


@pytest.mark.parametrize("name", ["h100-dgx", "meta-24k", "tpu-v5e", "mi300x"])
def test_other_tiers_are_as_they_are(name: str) -> None:
    cluster = load_cluster(name)
    for nodes in (1, 2, 8):
        taken = cluster.take(nodes * cluster.accelerators_per_node)
        assert taken.tiers == cluster.tiers
        assert taken.filling == ""
