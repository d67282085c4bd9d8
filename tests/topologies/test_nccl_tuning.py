"""NCCL's choice of algorithm against another transcription and a sweep, and what always holds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topologies.nccl_groups import GIB, MIB, choice, groups
from topologies.errors import SpecError
from topologies.nccl_tables import GENERATIONS
from topologies.nccl_tuning import ALGORITHMS, COLLECTIVES, Groups, Tuning

ORACLE = Path(__file__).parents[1] / "data" / "nccl_model.csv"
#: Generation, usable bytes/s of a rank inside the node, and of a node's cards.
HARDWARE = {
    "A100-SXM 8x NVLink3": ("ampere", 240e9, 0.0),
    "H200-SXM 8x NVLink4": ("hopper", 370.8e9, 0.0),
    "H100 p5.48xlarge": ("hopper", 370.8e9, 0.0),
    "B200-SXM p6-b200.48xlarge": ("blackwell", 721.8e9, 0.0),
    "A100-80GB p4de.24xlarge": ("ampere", 240e9, 48e9),
}

# ---------------------------------------------------------------------------- against other sources


def oracle_rows() -> list[dict[str, str]]:
    with ORACLE.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("hardware", HARDWARE)
def test_every_choice_and_time_is_that_of_another_transcription(hardware: str) -> None:
    rows = [row for row in oracle_rows() if row["hardware"] == hardware]
    assert len(rows) >= 20
    generation, inside, node = HARDWARE[hardware]
    for row in rows:
        ranks, nodes = float(row["n_gpus"]), float(row["n_nodes"])
        group = groups(ranks / nodes, nodes, generation, node=node, inside=inside)
        found, us = choice(Tuning.of(group, "all_reduce"), float(row["size_bytes"]))
        assert found == row["algo_proto"].lower()
        assert us == pytest.approx(float(row["model_us"]), abs=0.0051)  # rounded to 0.01


def test_no_row_of_the_other_transcription_is_left_out() -> None:
    rows = oracle_rows()
    assert len(rows) == 107
    assert {row["hardware"] for row in rows} == set(HARDWARE)
    assert {row["algo_proto"] for row in rows} == {
        *("Ring/LL", "Ring/LL128", "Ring/Simple", "NVLS/Simple"),
        *("Tree/LL", "Tree/LL128", "Tree/Simple"),
    }


def test_h200_reduces_in_the_switch_from_five_ranks_on() -> None:
    """As the sweep by number of GPUs in stas00/ml-engineering@744d01e (network/README.md)."""
    ranks = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    tuning = Tuning.of(groups(ranks), "all_reduce")
    assert [ALGORITHMS[found] for found in tuning.choose(8 * GIB)] == ["ring"] * 3 + ["nvls"] * 4
    measured_GBps = np.array([414.2, 435.6, 460.0, 473.1])  # bus bandwidth of 5 to 8 GPUs
    share = 2 * np.subtract(ranks, 1) / ranks
    bus_GBps = (share * 8 * GIB / tuning.seconds(8 * GIB) / 1e9)[3:]
    np.testing.assert_allclose(bus_GBps, measured_GBps, rtol=0.12)


# -------------------------------------------------------------------------------------- properties

SIZES = st.floats(min_value=1.0, max_value=2.0**40)
GROUPS = st.builds(
    groups,
    st.sampled_from([1.0, 2.0, 4.0, 8.0, 16.0, 72.0]),
    st.sampled_from([1.0, 2.0, 3.0, 16.0, 1024.0]),
    st.sampled_from(GENERATIONS),
    node=st.floats(1e9, 1e12),
    pcie=st.booleans(),
    cpu=st.sampled_from(["intel", "amd", "arm"]),
)


@given(group=GROUPS, collective=st.sampled_from(COLLECTIVES), nbytes=SIZES, by=st.floats(1, 8))
def test_more_bytes_take_longer_in_every_algorithm(
    group: Groups, collective: str, nbytes: float, by: float
) -> None:
    """But for trees, whose correction eases from one power of two to the next: over doublings."""
    for line in Tuning.of(group, collective).lines:
        more = nbytes * (2.0 ** np.ceil(np.log2(by)) if line.corrected else by)
        alone = Tuning((line,))
        assert alone.seconds(more) >= alone.seconds(nbytes)


@given(group=GROUPS, collective=st.sampled_from(COLLECTIVES), nbytes=SIZES)
def test_what_runs_is_the_fastest_and_able(group: Groups, collective: str, nbytes: float) -> None:
    tuning = Tuning.of(group, collective)
    found, us = choice(tuning, nbytes)
    assert np.isfinite(us)
    assert us == pytest.approx(1e6 * min(float(Tuning((e,)).seconds(nbytes)) for e in tuning.lines))
    if group.ranks <= 1:
        assert (found.split("/")[0], us) == ("ring", 0)
        return
    assert us > 0
    if collective != "all_reduce":
        assert found.startswith("ring/")
    if "nvls" in found:
        assert group.generation in ("hopper", "blackwell")
        assert not group.pcie
        assert group.per_node >= 2
        assert ("tree" in found) == (group.nodes > 1)
    if "ll128" in found:
        assert not group.pcie or group.per_node == 1


def test_sizes_broadcast_and_groups_are_taken() -> None:
    nodes = np.array([1.0, 2.0, 4.0, 16.0])
    tuning = Tuning.of(groups(8, list(nodes)), "all_reduce")
    sizes = np.array([[1024.0], [MIB], [GIB]])
    each = [
        [float(Tuning.of(groups(8, n), "all_reduce").seconds(s)) for n in nodes] for (s,) in sizes
    ]
    np.testing.assert_array_equal(tuning.seconds(sizes), each)
    assert tuning.choose(sizes).shape == tuning.protocol(sizes).shape == (3, 4)
    index = np.array([3, 0, 0, 2])
    for ask in (Tuning.choose, Tuning.protocol, Tuning.seconds):
        np.testing.assert_array_equal(ask(tuning.take(index), sizes), ask(tuning, sizes)[:, index])
        mixed = ask(tuning.take(np.array([1, 2])), np.array([MIB, GIB]))
        np.testing.assert_array_equal(mixed, ask(tuning, sizes)[[1, 2], [1, 2]])


# ----------------------------------------------------------------------------------------- refusals


def test_all_that_the_tables_do_not_know_is_refused_at_once() -> None:
    group = groups(8, 1, "hopper", cpu="intell")
    unknown = Groups(
        **{name: getattr(group, name) for name in group.__slots__} | {"generation": "hoper"}
    )
    with pytest.raises(SpecError) as caught:
        Tuning.of(unknown, "all_to_all")
    found = {problem.field: problem for problem in caught.value.problems}
    assert found["generation"].value == "hoper"
    assert found["generation"].mend.startswith("not in NCCL's tuning model; did you mean hopper")
    assert found["cpu"].mend.endswith("did you mean intel?")
    assert found["collective"].value == "all_to_all"
