"""Where ranks sit, on the command line: the table, the line of a plan, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = ["llama-3.1-8b", "--cluster", "h100-dgx:2", "--seq-len", "8k", "--global-batch", "16"]
LAYOUT = ["--tp", "2", "--ring", "4", "--pp", "2", "--dp", "1"]
OUTWARD = ["--rank-order", "tp-pp-cp-ep-dp"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from planner.cli import main; main()", *arguments]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        command, cwd=cwd or root, env=environment, capture_output=True, text=True, check=False
    )


def answered(*arguments: str, cwd: Path | None = None) -> str:
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_estimate_shows_where_ranks_sit() -> None:
    lines = answered("estimate", *MODEL, *LAYOUT).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("where ranks sit"))
    assert [line.split() for line in lines[start : start + 4]] == [
        ["where", "ranks", "sit", "size", "stride", "reach"],
        ["tp", "2", "1", "nvlink"],
        ["ring", "4", "2", "nvlink"],
        ["pp", "2", "8", "infiniband"],
    ]
    assert lines[start + 4 : start + 6] == [
        "node 0: pp0 ring0..3 tp0..1",
        "node 1: pp1 ring0..3 tp0..1",
    ]


def test_one_accelerator_has_no_table() -> None:
    assert "where ranks sit" not in answered("estimate", *MODEL, "--gpus", "1")


def test_plan_says_where_the_first_sits() -> None:
    shown = answered(
        "plan", *MODEL, *LAYOUT, "--framework", "unrestricted", *OUTWARD, "--inner-ring", "1"
    )
    said = "Placement of the first (innermost first): tp 2 and pp 2 inside nvlink; ring 4 across"
    assert said in " ".join(shown.split())
    assert "tp-pp-cp-ep-dp" in shown


def test_a_rank_order_that_changes_nothing_is_not_shown() -> None:
    data_only = ["estimate", *MODEL, "--tp", "2"]
    assert "tp-pp-cp-ep-dp" not in answered(*data_only, *OUTWARD)
    assert "runs in none" not in answered(*data_only, *OUTWARD)
    cut = answered("estimate", *MODEL, *LAYOUT, *OUTWARD)
    assert "tp-pp-cp-ep-dp" in cut
    assert "megatron: no rank order tp-pp-cp-ep-dp" in cut


def test_json_has_the_placement_of_every_plan() -> None:
    one = json.loads(answered("estimate", *MODEL, *LAYOUT, *OUTWARD, "--json", "-"))
    assert one["placement"] == {
        "rank_order": "tp-pp-cp-ep-dp",
        "axes": [
            {"axis": "tp", "size": 2, "stride": 1, "reach": "nvlink"},
            {"axis": "pp", "size": 2, "stride": 2, "reach": "nvlink"},
            {"axis": "ring", "size": 4, "stride": 4, "reach": "infiniband"},
        ],
        "expert_axes": [],
        "accelerators_per_node": 8,
        "map": "accelerator = sum of coordinate * stride",
    }
    plans = json.loads(answered("plan", *MODEL, "--json", "-"))["plans"]
    for plan in plans:
        degrees = {axis["axis"]: axis["size"] for axis in plan["placement"]["axes"]}
        layout = plan["layout"]
        axes = ("tp", "ulysses", "ring", "dp", "pp")
        assert degrees == {axis: layout[axis] for axis in axes if layout[axis] > 1}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_map_holds_every_rank(tmp_path: Path) -> None:
    shown = answered("estimate", *MODEL, *LAYOUT, "--map", "map.csv", cwd=tmp_path)
    assert shown.startswith("Wrote map.csv.\n")
    assert "where ranks sit" in shown
    text = (tmp_path / "map.csv").read_text()
    expected = [
        {"rank": 8 * pp + 2 * ring + tp, "node": pp, "place": 2 * ring + tp}
        | {"tp": tp, "ring": ring, "pp": pp}
        for pp in range(2)
        for ring in range(4)
        for tp in range(2)
    ]
    assert [{key: int(value) for key, value in row.items()} for row in rows(text)] == expected
    assert answered("estimate", *MODEL, *LAYOUT, "--map", "-") == text
    assert list(tmp_path.iterdir()) == [tmp_path / "map.csv"]


def test_the_map_and_the_json_agree(tmp_path: Path) -> None:
    files = ["--json", "-", "--map", str(tmp_path / "map.csv")]
    plan = json.loads(answered("estimate", *MODEL, *LAYOUT, *OUTWARD, *files))
    strides = {axis["axis"]: axis["stride"] for axis in plan["placement"]["axes"]}
    for row in rows((tmp_path / "map.csv").read_text()):
        assert int(row["rank"]) == sum(int(row[axis]) * step for axis, step in strides.items())


def test_the_map_of_one_accelerator_has_no_axes() -> None:
    text = answered("estimate", *MODEL, "--gpus", "1", "--map", "-")
    assert text == "rank,node,place\n0,0,0\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["--map", "-", "--json", "-"], "--map = -: --json is written there"),
        (["--map", "x", "--json", "x"], "--map = x: --json is written there"),
        (["--map", "/no/such/folder/x.csv"], "no folder /no/such/folder: make it first"),
        (["--map", ""], "the name of a file"),
    ],
)
def test_a_map_that_cannot_be_written_is_refused(
    files: list[str], message: str, tmp_path: Path
) -> None:
    done = run("estimate", *MODEL, *LAYOUT, *files, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_map_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("old")
    done = run("estimate", *MODEL, "--tp", "3", "--map", "map.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "map.csv").read_text() == "old"
