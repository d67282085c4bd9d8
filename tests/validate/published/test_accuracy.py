"""Published runs: their machines and models, and the command's tables, files and report."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.planner.test_cli import refused, run
from tests.validate.published.made_up import guess, row
from tests.validate.published.sample import FILE, sample
from validate.published.accuracy import Accuracy
from validate.published.accuracy_record import record
from validate.published.accuracy_report import markdown
from validate.published.accuracy_sheets import errors_sheet, screen_sheets, sheets
from validate.published.errors import Errors
from validate.published.machine_of import _node_Bps, machine_of
from validate.published.model_of import model_of
from validate.published.row import Row, Table, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from validate.published.predicted import Predicted
    from validate.published.sheet import Sheet


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return read_table(str(FILE)).rows


@pytest.mark.parametrize(
    ("text", "gigabits"),
    [
        ("DGX H100: NVLink4, IB 8x400 Gb/s", 3200),
        ("NVLink4 900 GB/s bidir/GPU; IB 8x400 Gb/s per node; TDP 700W", 3200),
        ("NVLink; 4 x 100 Gb/s RoCE per node", 400),
        ('"800 Gbps" per node', 800),
        ("800 Gb/s inter-node, 150 GB/s intra-node", 800),
        ("RoCE 1600 Gb/s node-node (200 Gb/s per GPU)", 1600),
        ("Selene: NVLink/NVSwitch in node, 8x HDR IB 200 Gb/s", 1600),
        ("EFA, 3.2 Tb/s per node", 3200),
        ("NDR, 400 Gb/s per GPU", 3200),
        ("H100 cluster (not detailed)", None),
        ("ICI 3D torus 4x4x8", None),
    ],
)
def test_networks_are_read_as_rows_state_them(text: str, gigabits: float | None) -> None:
    found = _node_Bps(text, 8)
    assert found == (None if gigabits is None else gigabits * 1e9 / 8)


def test_a_machine_has_the_network_of_its_row(rows: tuple[Row, ...]) -> None:
    ran = next(row for row in rows if row.text("source") == "internevo")
    (card,) = (tier for tier in machine_of(ran).tiers if tier.fabric == "nic")
    assert card.Bps.value == pytest.approx(400e9 / 8 / 8)


def test_models_are_built_of_what_rows_say(rows: tuple[Row, ...]) -> None:
    by_name = {row.text("model"): row for row in rows if row.text("vocab")}
    for name, billions in (("llama3-8b", 8.03), ("llama3-70b", 70.55), ("qwen3-30b-a3b", 30.53)):
        model = model_of(by_name[name])
        assert model.params / 1e9 == pytest.approx(billions, rel=0.001)
        assert model_of(by_name[name]) is model


def test_the_command_prints_and_writes_the_documented_keys(tmp_path: Path) -> None:
    file, second = _few(tmp_path, "first.csv", 20), _few(tmp_path, "second.csv", 60)
    target, plain, report = (tmp_path / name for name in ("out.json", "out.csv", "ALL.md"))
    options = ["--json", str(target), "--csv", str(plain), "--report", str(report)]
    done = run("accuracy", file, second, *options)
    assert done.returncode == 0, done.stderr
    for words in ("median |error|", "Kendall's tau", "Skipped, and why", "first.csv"):
        assert words in done.stdout
    answer = json.loads(target.read_text(encoding="utf-8"))
    keys = {"n", "skipped", "median_abs_error", "p90_abs_error", "bias", "interval_coverage"}
    assert keys <= set(answer["overall"])
    assert all(keys <= set(errors) for errors in answer["by_source"].values())
    assert set(answer["by_file"]) == {"first.csv", "second.csv"}
    row_keys = {"id", "measured", "predicted", "interval", "error", "skipped_because"}
    assert all(row_keys <= set(row) for row in answer["rows"])
    tables = [read_table(path).rows for path in (file, second)]
    ids = [row.text("id") for rows in tables for row in rows]
    assert [row["id"] for row in answer["rows"]] == ids
    with plain.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(answer["rows"]) + len(answer["further_rows"])
    text = report.read_text(encoding="utf-8")
    for words in ("## Errors by source", "## Fitted parameters", "gemm_fraction", "](ALL.svg)"):
        assert words in text
    assert all(f"| {each} |" in text for each in ids)
    assert (tmp_path / "ALL.svg").read_text(encoding="utf-8").startswith("<svg")


def test_overall_errors_are_those_of_the_rows_that_count(tmp_path: Path) -> None:
    found = sample()
    answer = record(found)
    rows = answer["rows"]
    timed = [row for row in rows if row["quantity"] == "time"]
    counted = [row for row in timed if row["counted"] and row["error"] is not None]
    assert answer["overall"]["n"] == len(counted)
    weights = {row.text("id"): row.weight for row in found.tables[0].rows}
    weight = np.array([weights[row["id"]] for row in counted])
    error = np.array([row["predicted"] / row["measured"] - 1.0 for row in counted])
    assert answer["overall"]["bias"] == pytest.approx(np.average(error, weights=weight))
    others = answer["parts"]["standing"]["other hardware"]["n"]
    by_source = sum(errors["n"] for errors in answer["by_source"].values())
    assert by_source == len(counted) + others
    assert others > 0
    left_out = [row for row in rows if row["skipped_because"].startswith("left out")]
    assert len(left_out) == sum(answer["left_out"].values()) > 0


def test_the_report_is_the_same_each_time_and_tells_what_is_left_out() -> None:
    found = sample()
    text = markdown(found, [], "meshwright accuracy")
    assert text == markdown(found, [], "meshwright accuracy")
    assert "Sources left out" not in text
    left = [errors_sheet("Sources left out", "source", {"one": Errors.of(found.counted)})]
    assert "## Sources left out" in markdown(found, [], "meshwright accuracy", left)


def test_grades_that_no_row_has_are_refused() -> None:
    (line,) = refused("accuracy", str(FILE), "--grades", "Z")
    assert line.startswith("--grades = Z: no row has such a grade: letters among A, B")


def test_a_table_need_not_have_every_grade(tmp_path: Path) -> None:
    header, *lines = FILE.read_text().splitlines()
    grade = next(csv.reader([header])).index("completeness")
    only = [line for line in lines if next(csv.reader([line]))[grade] == "A"]
    table = tmp_path / "only_a.csv"
    table.write_text("\n".join([header, *only[:3]]))
    assert "overall" in run("accuracy", str(table)).stdout


def test_rows_of_a_table_without_grades_all_count(tmp_path: Path) -> None:
    rows = list(csv.DictReader(FILE.read_text().splitlines()))[:3]
    table, found = tmp_path / "ungraded.csv", tmp_path / "found.json"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [name for name in rows[0] if name != "completeness"])
        writer.writeheader()
        writer.writerows({name: row[name] for name in writer.fieldnames} for row in rows)
    run("accuracy", str(table), "--json", str(found))
    assert json.loads(found.read_text())["overall"]["n"] == len(rows)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "header.csv"
    table.write_text(FILE.read_text().splitlines()[0])
    (line,) = refused("accuracy", str(table))
    assert line.endswith("header.csv: a row for each run below its header")


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (line,) = refused("accuracy", str(FILE), "--report", str(tmp_path / "none" / "ALL.md"))
    assert "--report" in line
    (line,) = refused("accuracy", str(FILE), "--report", str(tmp_path / "ALL.svg"))
    assert "its picture" in line


def _few(folder: Path, name: str, every: int) -> str:
    """Write some of the sample's rows, and all layouts of one source."""
    head, *lines = FILE.read_text(encoding="utf-8").splitlines()
    kept = [each for at, each in enumerate(lines) if at % every == 0 or "vtrain-multi" in each]
    (folder / name).write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    return str(folder / name)


def test_a_misspelt_column_is_named_with_the_one_that_is_missing(tmp_path: Path) -> None:
    head, *lines = FILE.read_text(encoding="utf-8").splitlines()
    table, found = tmp_path / "mine.csv", tmp_path / "found.json"
    table.write_text("\n".join([head.replace("ref_step_time_s", "stepp_time"), *lines[:5]]))
    done = run("accuracy", str(table), "--json", str(found))
    assert "stepp_time (did you mean ref_step_time_s?)" in done.stdout
    unread = json.loads(found.read_text())["unread_columns"]["mine.csv"]
    assert unread["stepp_time"] == ["ref_step_time_s"]
    assert "mfu" not in unread  # known to people, like nothing that is missing
    table.write_text("\n".join([head, *lines[:5]]))
    assert "not read" not in run("accuracy", str(table)).stdout


@pytest.mark.parametrize("name", ["published_runs", "published_memory", "sequence_parallel_rows"])
def test_columns_of_the_reference_tables_are_no_misspellings(name: str) -> None:
    assert not read_table(str(FILE.with_name(f"{name}.csv"))).unread


def test_reasons_name_the_first_of_their_rows() -> None:
    rows = [row(id=f"r{at}") for at in range(5)]
    skipped = [guess(each, 1.0, None) for each in rows]
    found = Accuracy(tables=(), predicted=tuple(skipped), left_out=tuple(skipped[4:]))
    by_title = {sheet.title: sheet for sheet in sheets(found, [])}
    assert by_title["Skipped, and why"].rows == (("no reason", "r0, r1, r2, ...", "5"),)
    assert by_title["Left out, and why"].rows == (("no reason", "r4", "1"),)


def test_a_few_rows_are_shown_one_by_one(tmp_path: Path) -> None:
    head, *lines = FILE.read_text(encoding="utf-8").splitlines()
    table = tmp_path / "few.csv"
    table.write_text("\n".join([head, *lines[:2]]))
    shown = run("accuracy", str(table)).stdout
    for each in read_table(str(table)).rows:
        (line,) = (line for line in shown.splitlines() if line.startswith(each.text("id")))
        assert f"{each.number('step_s'):.4g} s" in line
    assert "Errors by" not in shown
    one = sheets_of(guess(row(id="alone"), 1.0, 1.1))
    assert [sheet.title for sheet in one] == ["Predicted and measured"]


def test_more_rows_are_shown_by_part() -> None:
    shown = [sheet.title for sheet in screen_sheets(sample(), [])]
    assert "Predicted and measured" not in shown
    assert "Errors by source" in shown


def sheets_of(*predicted: Predicted) -> list[Sheet]:
    """Return what the screen shows of some predictions."""
    table = Table(file="", rows=tuple(each.row for each in predicted), missing=(), unread={})
    return [*screen_sheets(Accuracy(tables=(table,), predicted=predicted, left_out=()), [])]
