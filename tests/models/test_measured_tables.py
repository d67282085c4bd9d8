"""Tables of measured collectives: each shape read by hand, and how predictions agree with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.agreement import ACROSS_TARGET, CLASSES, INSIDE_TARGET, Agreement, Spread, agreements
from models.measured_tables import Table, read_table
from planner.cli import build
from tests.calibrations import ratio
from tests.calibrations import written as calibrated
from topologies.errors import SpecError

SAMPLES = Path(__file__).parents[1] / "data" / "collective_tables"
#: Of each sample its shape, rows that are compared, and rows left out.
SHAPES = {
    "aiconfigurator": ("aiconfigurator", 32, 0),
    "apex_plus": ("apex_plus", 52, 0),
    "estimate_train_time": ("estimate-train-time", 48, 76),
    "galvatron": ("galvatron", 20, 0),
    "nccl_tests": ("nccl-tests", 16, 0),
    "vidur": ("vidur", 45, 35),
}
VIDUR = "cluster,op,workers,devices_per_node,bytes,us_median,us_min,nodes"


def sample(name: str) -> Table:
    return read_table(SAMPLES / f"{name}.csv")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def totals(table: Table) -> dict[str, Agreement]:
    return {found.collective: found for found in agreements(table.measured) if not found.system}


@pytest.mark.parametrize("name", SHAPES)
def test_samples_are_read(name: str) -> None:
    table = sample(name)
    assert (table.shape, table.measured.nbytes.size, table.left_out) == SHAPES[name]
    assert table.measured.held_out.all()


@pytest.mark.parametrize(
    ("shape", "text", "case", "nbytes", "seconds"),
    [
        (
            "aiconfigurator",
            "system,dir_version,op,dtype,gpus,bytes,us\nh100_sxm,2,alltoall,int8,8,4096,12.5\n",
            ("h100-dgx", "1", "8", "all_to_all", "0", "nccl_tests"),
            4096,
            12.5e-6,
        ),
        (
            "vidur",
            f"{VIDUR}\nh100_dgx,send_recv,2,1,2048,24,20,2\n",
            ("h100-dgx", "2", "2", "shift", "1", "vidur"),
            2048,
            24e-6,
        ),
        (
            "apex_plus",
            "gpu,op,num_nodes,num_gpus_per_node,dtype,size(kb),time(us)\n"
            "H200,reduce_scatter,2,4,half,3,7\n",
            ("h200-hgx", "2", "8", "reduce_scatter", "1", "apex"),
            3072,
            7e-6,
        ),
        (
            "vtrain",
            "source,gpu,n_gpus,bytes,oop_ns\nlab/x:trace/a100/AR_GPU4_LUT,a100,4,1048576,44210\n",
            ("a100-dgx", "1", "4", "all_reduce", "1", "nccl_tests"),
            2**20,
            44.21e-6,
        ),
        (
            "galvatron",
            "source,key,value\nPKU-DAIR/Hetu-Galvatron@1:x.json,all2all_size_8_16MB_time,0.2\n",
            ("a100-dgx", "1", "8", "all_to_all", "1", "torch_bench"),
            2**24,
            2e-4,
        ),
        (
            "estimate-train-time",
            "cluster,kind,op,columns,values\n"
            "Vista,nccl,allreduce_large_fp16_8_1,shape|nodes|GPUsPerNode|dur(us),1024|8|1|9.5\n",
            ("gh200", "8", "8", "all_reduce", "1", "nccl_tests"),
            2048,
            9.5e-6,
        ),
        (
            "nccl-tests",
            "collective,hardware,n_gpus,n_nodes,size_bytes,time_us\n"
            "all_reduce,A100-80GB p4de.24xlarge,16,2,64,161\n",
            ("aws-p4d", "2", "16", "all_reduce", "1", "nccl_tests"),
            64,
            161e-6,
        ),
    ],
)
def test_one_row_of_each_shape(
    tmp_path: Path, shape: str, text: str, case: tuple[str, ...], nbytes: float, seconds: float
) -> None:
    table = read_table(written(tmp_path / "one.csv", text))
    assert (table.shape, table.left_out, table.measured.cases) == (shape, 0, (case,))
    assert table.measured.nbytes.tolist() == [nbytes]
    assert table.measured.seconds.tolist() == [pytest.approx(seconds)]


def test_a_network_that_is_not_the_catalogue_s_is_left_out(tmp_path: Path) -> None:
    rows = "a100_dgx,all_reduce,16,8,1048576,500,500,2\na100_dgx,all_reduce,8,8,1048576,64,60,1\n"
    table = read_table(written(tmp_path / "two.csv", f"{VIDUR}\n{rows}"))
    assert (table.left_out, table.measured.cases[0][:3]) == (1, ("a100-dgx", "1", "8"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no table of a known shape"),
        (f"{VIDUR}\nmy_dgx,all_reduce,8,8,1,1,1,1\n", "systems of this shape are a100_dgx"),
        (f"{VIDUR}\nh100_dgx,all_reduce,8,8,1,soon,1,1\n", "line 2: could not convert"),
        (f"{VIDUR}\nh100_dgx,all_reduce\n", "line 2: has fewer values than columns"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_table(written(tmp_path / "bad.csv", text))


def test_a_file_that_is_not_there_or_not_packed_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", written(tmp_path / "plain.csv.gz", "a,b\n")):
        with pytest.raises(SpecError, match="cannot be read as CSV"):
            read_table(path)


def test_a_spread_by_hand() -> None:
    found = Spread.of(np.array([-0.1, 0.3, 0.2]))
    assert (found.rows, found.median, found.bias) == (3, 0.2, 0.2)
    assert found.p90 == pytest.approx(0.28)
    assert Spread.of(np.array([])).record() == {
        "rows": 0,
        "median_error": None,
        "p90_error": None,
        "bias": None,
    }


def test_made_up_times_are_recovered() -> None:
    """Times that are the predictions are met; a tenth longer, every prediction is too short."""
    measured = sample("apex_plus").measured
    longer = replace(measured, seconds=1.1 * measured.predicted())
    for found in agreements(longer):
        assert found.above.bias == pytest.approx(-0.1 / 1.1)
        assert found.above.median == pytest.approx(0.1 / 1.1)


def test_rows_fall_into_one_class_each() -> None:
    measured = sample("aiconfigurator").measured
    for found in agreements(measured):
        _, *large = found.classes
        assert found.above.rows == sum(spread.rows for spread in large)
    assert len(found.classes) == len(CLASSES)


@pytest.mark.parametrize("name", SHAPES)
def test_samples_agree_as_wanted_from_1_mib_up(name: str) -> None:
    """None of their rows was chosen by its error."""
    found = totals(sample(name))
    for total, target in (("all, one domain", INSIDE_TARGET), ("all, across", ACROSS_TARGET)):
        if total in found:
            assert found[total].above.rows >= 5
            assert found[total].above.median <= target


@pytest.mark.parametrize("name", ["estimate_train_time", "nccl_tests", "vidur"])
def test_rings_and_sends_between_nodes_agree_group_by_group(name: str) -> None:
    """A send over one card is slower than a ring's share of it, and a hop takes a few us."""
    across = [found for found in agreements(sample(name).measured) if found.nodes > 1]
    assert across
    for found in across:
        assert found.above.median <= 0.15


@pytest.mark.parametrize("name", SHAPES)
def test_shuffled_times_are_far_off(name: str) -> None:
    measured = sample(name).measured
    random = np.random.default_rng(3)
    shuffled = replace(measured, seconds=random.permutation(measured.seconds))
    for found in agreements(shuffled):
        if not found.system and found.above.rows >= 16:
            assert found.above.median > 0.3


def test_the_command_says_it_for_people_and_programs() -> None:
    paths = [str(SAMPLES / f"{name}.csv") for name in ("vidur", "nccl_tests")]
    command = ["topologies", "collectives", *paths]
    done = CliRunner().invoke(build(), [*command, "--json", "-"])
    vidur, tests = json.loads(done.stdout)["tables"]
    assert (vidur["shape"], vidur["rows_left_out"], tests["shape"]) == ("vidur", 35, "nccl-tests")
    sends = [row for row in vidur["groups"] if row["nodes"] == 2]
    assert [(row["collective"], row["1 MiB up"]["rows"]) for row in sends] == [("shift", 5)]
    shown = CliRunner().invoke(build(), command).stdout
    assert "vidur, 35 rows left out" in shown
    assert "all, one domain" in shown


def test_the_command_takes_the_device_of_a_profile(tmp_path: Path) -> None:
    """Ten times the hop and the start of sends: those of its device only are predicted longer."""
    file = calibrated(tmp_path, collectives=[ratio("all_reduce", 10, 10, 10)])
    command = ["topologies", "collectives", str(SAMPLES / "vidur.csv"), "--json", "-"]
    groups = [
        {
            (row["system"], row["collective"], row["gpus"], row["nodes"]): row["1 MiB up"]["bias"]
            for row in json.loads(CliRunner().invoke(build(), arguments).stdout)["tables"][0][
                "groups"
            ]
        }
        for arguments in (command, [*command, "--profile", file])
    ]
    usual, mine = groups
    assert {system for system, *_ in usual} == {"a100_dgx", "h100_dgx", ""}
    assert {system for system, *_ in mine} == {"h100_dgx", ""}
    reduce, send = ("h100_dgx", "all_reduce", 8, 1), ("h100_dgx", "shift", 2, 1)
    assert 1 + mine[reduce] == pytest.approx(10 * (1 + usual[reduce]))
    assert mine[send] == usual[send]
