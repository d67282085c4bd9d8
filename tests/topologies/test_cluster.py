"""Taking part of a cluster, and changing its network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.catalogue import cluster_names, load_cluster
from topologies.errors import SpecError

DGX = load_cluster("h100-dgx:4")


@pytest.mark.parametrize(
    ("accelerators", "nodes"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 2), (24, 3), (256, 32)]
)
def test_divisors_of_a_node_and_whole_nodes_can_be_taken(accelerators: int, nodes: int) -> None:
    taken = DGX.take(accelerators)
    assert (taken.accelerators, taken.nodes) == (accelerators, nodes)
    assert taken.tiers == DGX.tiers
    assert load_cluster("h100-dgx", gpus=accelerators) == taken


@pytest.mark.parametrize(
    ("accelerators", "examples"), [(3, "1 or 8"), (12, "8 or 16"), (63, "56 or 64")]
)
def test_other_numbers_name_the_nearest_that_work(accelerators: int, examples: str) -> None:
    with pytest.raises(SpecError, match=rf"--gpus = {accelerators}: .*for example {examples}"):
        DGX.take(accelerators)
    for fitting in map(int, examples.split(" or ")):
        assert DGX.take(fitting)


@pytest.mark.parametrize("accelerators", [0, -8])
def test_a_cluster_has_at_least_one_accelerator(accelerators: int) -> None:
    with pytest.raises(SpecError, match="at least 1"):
        DGX.take(accelerators)


def test_a_catalogue_cluster_cannot_outgrow_its_building() -> None:
    assert DGX.take(32768).nodes == 4096
    with pytest.raises(SpecError, match="ends at 32768"):
        DGX.take(32776)


@given(st.integers(1, 4096))
def test_what_can_be_taken_fills_nodes_evenly(accelerators: int) -> None:
    try:
        taken = DGX.take(accelerators)
    except SpecError:
        assert 8 % accelerators
        assert accelerators % 8
    else:
        assert taken.nodes * min(accelerators, 8) == accelerators


@pytest.mark.parametrize("name", cluster_names())
def test_a_faster_network_changes_nothing_inside_a_node(name: str) -> None:
    cluster = load_cluster(name)
    for before, after in zip(cluster.tiers, cluster.scale_network(3.0).tiers, strict=True):
        factor = 3.0 if before.scale_out else 1.0
        assert after.Bps.value == pytest.approx(before.Bps.value * factor)
        assert after.peer_Bps.value == pytest.approx(before.peer_Bps.value * factor)
        assert (after.latency_s, after.spans) == (before.latency_s, before.spans)
