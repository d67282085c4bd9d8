"""How far groups reach, against every group looked at one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from topologies import cluster_names, load_cluster
from topologies.reach import outermost_tier

DEGREES = st.sampled_from([1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 32, 72])


def found_one_by_one(name: str, accelerators: int, size: int, stride: int) -> str:
    """Return the first tier whose blocks hold every group of an axis whole."""
    cluster = load_cluster(name).take(accelerators)
    groups = [
        [first + step * stride for step in range(size)]
        for first in range(accelerators)
        if first // stride % size == 0
    ]
    for tier in cluster.tiers:
        span = tier.spans or accelerators
        if all(len({member // span for member in group}) == 1 for group in groups):
            return tier.name
    raise AssertionError


@pytest.mark.parametrize("name", cluster_names())
@given(size=DEGREES, stride=DEGREES, outer=DEGREES, whole=st.booleans())
def test_the_reach_is_that_of_the_farthest_group(
    name: str, size: int, stride: int, outer: int, whole: bool
) -> None:
    assume(size > 1)
    cluster = load_cluster(name)
    unit = cluster.accelerators_per_node if whole else 1
    accelerators = int(np.lcm(unit, size * stride * outer))
    most = min((cluster.max_nodes or 1024) * cluster.accelerators_per_node, 12_000)
    assume(accelerators <= most)
    assume(accelerators % cluster.accelerators_per_node == 0)
    found = outermost_tier(cluster.take(accelerators), size, stride).name
    assert found == found_one_by_one(name, accelerators, size, stride)


@pytest.mark.parametrize(
    ("cluster", "size", "stride", "reach"),
    [
        ("h100-dgx:4", 8, 1, "nvlink"),
        ("h100-dgx:4", 2, 4, "nvlink"),
        ("h100-dgx:4", 2, 8, "infiniband"),
        ("h100-dgx:4", 16, 1, "infiniband"),
        ("h100-dgx:3", 3, 1, "infiniband"),  # ranks 6, 7 and 8
        ("h100-dgx:1", 8, 1, "nvlink"),
        ("gb200-nvl72:36", 8, 1, "nvlink"),  # over two trays of one rack
        ("gb200-nvl72:36", 9, 8, "nvlink"),
        ("gb200-nvl72:36", 16, 1, "infiniband"),  # ranks 64 to 79 lie in racks 0 and 1
        ("gb200-nvl72:36", 2, 8, "infiniband"),  # ranks 64 and 72
        ("gb200-nvl72:16", 16, 1, "nvlink"),  # 64 of one rack's 72: no border
        ("meta-24k:768", 8, 1, "nvlink"),
        ("meta-24k:768", 16, 8, "roce"),
        ("meta-24k:768", 16, 128, "spine"),  # ranks 2048 to 4095 lie in pods 0 and 1
        ("meta-24k:768", 2, 3072, "spine"),
        ("meta-24k:384", 16, 128, "roce"),  # one pod
    ],
)
def test_the_reach_by_hand(cluster: str, size: int, stride: int, reach: str) -> None:
    assert outermost_tier(load_cluster(cluster), size, stride).name == reach
