"""``meshwright topologies fabric``: rows, the mark, filters and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.collectives import cost
from models.profile import load_profile
from planner.cli import build
from tests.topologies.files import EXAMPLES
from tests.topologies.test_fabric import CARD, FAR
from topologies.catalogue import load_cluster
from topologies.collective import Collective
from topologies.errors import SpecError
from topologies.fabric import Fabric

ROW_KEYS = {
    *("size", "stride", "reach", "collective", "algorithm"),
    *("latency_s", "bus_Bps", "sharing", "time_s", "taken"),
}


def run(*arguments: str):
    return CliRunner().invoke(build(), ["topologies", "fabric", *arguments])


def answer(*arguments: str):
    done = run(*arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*arguments: str) -> list[tuple[str, str]]:
    """Return field and value of every problem of a refusal."""
    done = run(*arguments)
    assert isinstance(done.exception, SpecError), done.output
    return [(problem.field, str(problem.value)) for problem in done.exception.problems]


def test_json_has_every_axis_collective_and_algorithm():
    found = answer("h100-dgx:4")
    assert {key: value for key, value in found.items() if key != "rows"} == {
        "cluster": "h100-dgx",
        "accelerators": 32,
        "ecmp": "perfect",
        "ecmp_seed": None,
        "library": "nccl",
        "profile": "h100",
        "bytes": 64 * 2**20,
    }
    rows = found["rows"]
    assert all(set(row) == ROW_KEYS for row in rows)
    assert len({(row["size"], row["stride"]) for row in rows}) == 15
    assert {row["collective"] for row in rows} == {str(one) for one in Collective}
    (across,) = (
        row
        for row in rows
        if (row["size"], row["stride"], row["collective"], row["algorithm"])
        == (4, 8, "all_gather", "ring")
    )
    assert across["reach"] == "infiniband"
    assert across["latency_s"] == pytest.approx(3 * FAR * 1e-6)
    assert across["bus_Bps"] == pytest.approx(CARD * 1e9)
    assert across["time_s"] > 2**26 * 3 / 4 / across["bus_Bps"] + across["latency_s"]


@pytest.mark.parametrize("size", ["1KiB", "4MiB", "1GiB"])
@pytest.mark.parametrize("name", ["h100-dgx:4", "mi300x:2", "gaudi3:2", "tpu-v5p:4"])
def test_the_mark_and_its_time_are_those_of_a_plan(name, size):
    cluster = load_cluster(name)
    links, profile = Fabric(cluster).links, load_profile(cluster.accelerator.name)
    nbytes = np.array([{"1KiB": 2.0**10, "4MiB": 2.0**22, "1GiB": 2.0**30}[size]])
    marked = [row for row in answer(name, "--bytes", size)["rows"] if row["taken"]]
    pairs = {(row["size"], row["stride"]) for row in marked}
    assert len(marked) == len(pairs) * len(Collective)
    for row in marked:
        axis = np.array([float(row["size"])]), np.array([float(row["stride"])])
        found = cost(Collective(row["collective"]), links(axis), profile)
        assert found.chosen(nbytes) == [row["algorithm"]]
        assert found.seconds(nbytes)[0] == pytest.approx(row["time_s"])


def test_what_nccl_takes_changes_with_the_bytes():
    def taken(size):
        rows = answer("h100-dgx:4", "--size", "8", "--stride", "1", "--bytes", size)["rows"]
        return [r["algorithm"] for r in rows if r["taken"] and r["collective"] == "all_reduce"]

    assert taken("64MiB") == ["nvls"]
    assert taken("1KiB") != ["nvls"]


def test_filters_leave_what_they_name():
    rows = answer("h100-dgx:4", "--size", "4", "--collective", "all-to-all")["rows"]
    assert {(row["size"], row["stride"]) for row in rows} == {(4, 1), (4, 2), (4, 4), (4, 8)}
    assert {row["collective"] for row in rows} == {"all_to_all"}
    strided = answer("h100-dgx:4", "--stride", "8")["rows"]
    assert {(row["size"], row["stride"]) for row in strided} == {(2, 8), (4, 8)}


def test_the_screen_shows_telling_axes_and_marks_what_is_taken():
    lines = run("h100-dgx:4").stdout.splitlines()
    assert sum(" * " in line for line in lines) == 6 * len(Collective)
    assert any(line.split()[:3] == ["4", "8", "infiniband"] for line in lines)
    one = run("h100-dgx:4", "--collective", "all_reduce", "--size", "8", "--stride", "1").stdout
    assert "nvls *" in one
    assert "tree  " in one
    assert "all_gather" not in one
    assert "us for 1GiB" in run("h100-dgx", "--bytes", "1GiB").stdout


def test_the_rows_do_not_depend_on_which_others_are_asked_for(tmp_path):
    every = answer("h100-dgx:4")["rows"]
    for row in answer("h100-dgx:4", "--size", "8")["rows"]:
        assert row in every
    file = tmp_path / "fabric.json"
    assert run("h100-dgx:4", "--json", str(file)).stdout == run("h100-dgx:4").stdout
    assert json.loads(file.read_text())["rows"] == every


def test_the_readme_shows_what_the_command_prints():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    excerpt = readme.split("meta-24k:3072 --collective all-to-all`:")[1].split("```")[1]
    printed = [
        line.rstrip()
        for line in run("meta-24k:3072", "--collective", "all-to-all").stdout.splitlines()
    ]
    lines = excerpt.splitlines()[1:]
    assert len(lines) > 4
    assert [line for line in lines if line not in printed] == []


def test_graphs_have_a_table_and_hashing_slows_a_dragonfly():
    boxes = answer(str(EXAMPLES / "bridged-boxes.yaml"), "--collective", "shift")["rows"]
    (across,) = (row for row in boxes if (row["size"], row["stride"]) == (2, 4))
    assert (across["reach"], across["sharing"]) == ("socket", pytest.approx(4.0))
    groups = str(EXAMPLES / "dragonfly.yaml")
    narrow = ("--size", "5", "--stride", "128", "--collective", "shift")
    hashed = answer(groups, *narrow, "--ecmp", "expected")
    assert hashed["ecmp"] == "expected"
    assert hashed["rows"][0]["bus_Bps"] < answer(groups, *narrow)["rows"][0]["bus_Bps"]
    drawn = answer(groups, *narrow, "--ecmp", "seeded", "--seed", "3")
    assert (drawn["ecmp"], drawn["ecmp_seed"]) == ("seeded", 3)


@pytest.mark.parametrize("size", ["64MB", "64", "1.5GiB", "-1", "", "0KiB", "2000GiB", "64mib"])
def test_sizes_of_messages_are_whole_bytes_in_binary_units(size):
    done = run("h100-dgx", "--bytes", size, "--size", "2", "--stride", "1")
    assert (done.exit_code == 0) == (size == "64")
    if size != "64":
        assert refused("h100-dgx", "--bytes", size) == [("--bytes", size)]


def test_all_slips_come_at_once():
    wrong = ["--size", "3", "--stride", "64", "--bytes", "x", "--collective", "gather"]
    fields = refused("h100-dgx:4", *wrong, "--ecmp", "spray", "--seed", "-1")
    assert sorted(fields) == [
        ("--bytes", "x"),
        ("--collective", "gather"),
        ("--ecmp", "spray"),
        ("--seed", "-1"),
        ("--size", "3"),
        ("--stride", "64"),
    ]


def test_axes_that_do_not_fill_the_cluster_are_refused():
    assert refused("h100-dgx:4", "--size", "8", "--stride", "8") == [("--stride", "8")]
    assert refused("h100-dgx:4", "--size", "1") == [("--size", "1")]
    assert refused("gh200") == [("accelerators", "1")]
    assert refused("h100-dgx", "--seed", "2") == [("--seed", "2")]
    assert refused("h100-dxg", "--bytes", "x") == [("--cluster", "h100-dxg"), ("--bytes", "x")]
