"""Which algorithm is taken for how many bytes, and what the lines of each are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.collectives import cost
from models.profile import load_profile
from tests.topologies.test_fabric import links
from topologies import load_cluster
from topologies.algorithms import way
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.library import Algorithm, load_library
from topologies.nccl_tuning import ALGORITHMS, Groups, Tuning

PROFILE = load_profile("h100-sxm")
SIZES = np.exp2(np.arange(10, 36, 0.25))


def taken(cluster, size, stride=1, nbytes=SIZES):
    found = links((size, stride), fabric=Fabric(load_cluster(cluster)))
    return cost(Collective.ALL_REDUCE, found, PROFILE), nbytes


@pytest.mark.parametrize(
    ("cluster", "size", "generation"),
    [("h100-dgx:16", 128, "hopper"), ("a100-dgx:2", 16, "ampere"), ("b200-dgx:4", 32, "blackwell")],
)
def test_nvidia_s_library_takes_what_nccl_s_tables_say(cluster, size, generation):
    fabric = Fabric(load_cluster(cluster))
    found = links((size, 1), fabric=fabric)
    groups = Groups(
        ranks=found.size,
        nodes=found.size / 8,
        generation=generation,
        inside_Bps=found.crossings[0].ring_Bps,
        node_Bps=found.crossings[1].ring_Bps,
    )
    middles = np.exp2(np.floor(np.log2(SIZES)) + 0.5)  # NCCL is asked once per power of two
    wanted = Tuning.of(groups, "all_reduce").choose(middles[:, None])[:, 0]
    chosen = [way.value for way in taken(cluster, size)[0].chosen(SIZES)]
    assert chosen == [ALGORITHMS[at] for at in wanted]
    assert len(set(chosen)) > 1


def test_groups_in_a_pcie_box_are_tuned_as_such():
    """NCCL's latencies over PCIe: trees for small messages there, rings over NVLink."""
    box, _ = taken("l40s-pcie", 8)
    assert load_library("nvidia", "l40s").generation == "ampere"
    small = box.chosen(np.array([1e4]))[0]
    groups = {
        pcie: Groups(
            ranks=np.array([8.0]),
            nodes=np.array([1.0]),
            generation="ampere",
            inside_Bps=links((8, 1), fabric=Fabric(load_cluster("l40s-pcie"))).inside_Bps,
            node_Bps=np.array([0.0]),
            pcie=pcie,
        )
        for pcie in (True, False)
    }
    wanted = {p: Tuning.of(group, "all_reduce").seconds(1e4)[0] for p, group in groups.items()}
    assert wanted[True] != wanted[False]
    assert small.value == ALGORITHMS[Tuning.of(groups[True], "all_reduce").choose(1.5e4)[0]]


@pytest.mark.parametrize(("cluster", "size"), [("a100-dgx:64", 16), ("gb200-nvl72:72", 32)])
def test_more_bytes_never_take_less_time_though_the_tables_switch_too_late(cluster, size):
    found, nbytes = taken(cluster, size)
    times = found.seconds(nbytes)
    assert (np.diff(times) >= 0).all()
    bare = replace(found.selection, least_s=np.zeros_like(found.selection.least_s))
    assert (np.diff(replace(found, selection=bare).seconds(nbytes)) < 0).any()


def test_other_libraries_take_the_fastest():
    found, nbytes = taken("mi300x:4", 32)
    assert {way.value for way in found.chosen(nbytes)} == {"ring", "tree"}
    fastest = (
        found.start_s[:, :1]
        + found.per_byte_s[:, :1] * nbytes
        + found.per_root_byte_s[:, :1] * np.sqrt(nbytes)
    ).min(axis=0)
    middles = np.isclose(np.log2(nbytes) % 1, 0.5)  # where the choice is made
    assert found.seconds(nbytes)[middles] == pytest.approx(fastest[middles])


@pytest.mark.parametrize(
    ("algorithm", "copies"),
    [(Algorithm.RING, True), (Algorithm.TREE, True), (Algorithm.NVLS, False)],
)
def test_a_rank_copies_its_own_share_unless_the_switch_does(algorithm, copies):
    node = links((8, 1))
    found = cost(Collective.ALL_REDUCE, node, PROFILE)
    at = found.algorithms.index(algorithm)
    bare = way(Collective.ALL_REDUCE, algorithm, node)
    copied = PROFILE.collective_copy.value / 8 / node.inside_Bps if copies else 0.0
    assert found.per_byte_s[at] == pytest.approx(bare.per_byte_s + copied)
    started = PROFILE.collective_s.value + node.start_s + bare.hops_s
    assert found.start_s[at] == pytest.approx(started)
    filling = 2 * np.sqrt(node.chunk_s * found.per_byte_s[at])
    assert found.per_root_byte_s[at] == pytest.approx(filling)


def test_nvls_needs_more_than_four_ranks_of_a_switch_that_reduces():
    for cluster, size, able in (("h100-dgx", 8, True), ("h100-dgx", 4, False)):
        found = links((size, 1), fabric=Fabric(load_cluster(cluster)))
        assert way(Collective.ALL_REDUCE, Algorithm.NVLS, found).able.tolist() == [able]
    nodes = links((16, 1))
    assert not way(Collective.ALL_REDUCE, Algorithm.NVLS, nodes).able[0]
    assert way(Collective.ALL_REDUCE, Algorithm.NVLS_TREE, nodes).able[0]
    every_other = links((8, 2))  # four of each node
    assert not way(Collective.ALL_REDUCE, Algorithm.NVLS_TREE, every_other).able[0]
    ampere = links((8, 1), fabric=Fabric(load_cluster("a100-dgx")))
    assert not way(Collective.ALL_REDUCE, Algorithm.NVLS, ampere).able[0]


def test_every_vendor_of_the_catalogue_has_a_library():
    from topologies import accelerator_names, load_accelerator

    for name in accelerator_names():
        accelerator = load_accelerator(name)
        library = load_library(accelerator.vendor, name)
        assert bool(library.generation) == (accelerator.vendor == "nvidia")
        assert all(library.may(collective) for collective in Collective)
