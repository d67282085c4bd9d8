"""Published runs: read, predicted, compared; what is skipped and why; that errors can fail."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.rates import rates
from tests.planner.test_cli import run
from topologies.errors import SpecError
from validate.published.errors import Errors, Sweeps, weighted_quantile
from validate.published.job_of import layout_of, scenario_of
from validate.published.machine_of import _node_Bps, machine_of
from validate.published.model_of import model_of
from validate.published.predict import predict
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, UnexpressedError, read_table

FILE = Path(__file__).parents[2] / "data" / "published_runs.csv"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return read_table(str(FILE)).rows


@pytest.fixture(scope="module")
def found(rows: tuple[Row, ...]) -> tuple[Predicted, ...]:
    return predict(rows)


def test_rows_of_every_source_are_predicted_or_say_why_not(found: tuple[Predicted, ...]) -> None:
    assert all((each.error is None) == bool(each.skipped_because) for each in found)
    assert sum(each.error is not None for each in found) >= 22
    reasons = {each.skipped_because for each in found} - {""}
    assert any("lora" in reason for reason in reasons)
    assert any("not in the catalogue" in reason or "offload" in reason for reason in reasons)


def test_a_shuffled_column_of_measurements_is_noticed(found: tuple[Predicted, ...]) -> None:
    done = [each for each in found if each.error is not None]
    measured = [each.measured for each in done]
    order = np.random.default_rng(0).permutation(len(done))
    shuffled = [replace(each, measured=measured[at]) for each, at in zip(done, order, strict=True)]
    assert Errors.of(shuffled).median > 2 * Errors.of(done).median


def test_no_prediction_beats_the_peak_of_its_products(rows: tuple[Row, ...]) -> None:
    from models.layout import LayoutBatch
    from models.prepared import Prepared

    for row in rows:
        try:
            scenario = scenario_of(row)
            layout = layout_of(row, scenario)
        except UnexpressedError:
            continue
        (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
        work = Prepared.of(scenario.architecture, scenario.workload, LayoutBatch.of([layout]))
        assert rates(work, np.array([plan.step_time_s]), scenario.device).mfu < 0.8


def test_repeats_weigh_as_much_as_one(rows: tuple[Row, ...]) -> None:
    twice = [row.weight for row in rows if row.text("id") == "RA-0231"]
    assert twice == [0.5, 0.5]
    assert weighted_quantile(np.array([1.0, 9.0]), np.array([3.0, 1.0]), 0.5) == 1.0


def test_a_sweep_is_ranked_and_its_choice_regretted() -> None:
    cells = {"source": "s", "model": "m", "seq_len": "1", "gpus": "8", "precision": "bf16"}
    row = Row({**cells, "global_batch": "8"}, 1.0)
    layouts = [layout_of(*_plain(tp)) for tp in (1, 2, 4)]
    measured, predicted = (1.0, 1.02, 2.0), (2.0, 1.5, 1.0)
    sweep = [
        Predicted(row=row, measured=m, predicted=p, layout=layout, interval=(0.5, 3.0))
        for m, p, layout in zip(measured, predicted, layouts, strict=True)
    ]
    ranked = Sweeps.of(sweep)
    assert (ranked.jobs, ranked.tau, ranked.regret) == (1, -1.0, 1.0)  # one pair is too close
    assert Sweeps.of([replace(each, quantity=Quantity.MEMORY) for each in sweep]).jobs == 0
    other = Row({**row.cells, "pass": "bwd"}, 1.0)
    assert Sweeps.of([replace(sweep[0], row=other), *sweep[1:]]).jobs == 0


def _plain(tp: int) -> tuple[Row, object]:
    row = read_table(str(FILE)).rows[0]
    scenario = scenario_of(row)
    return Row({**row.cells, "tp": str(tp), "pp": "1", "cp": "1", "vp": "1"}, 1.0), scenario


@pytest.mark.parametrize(
    ("text", "gigabits"),
    [
        ("DGX H100: NVLink4, IB 8x400 Gb/s", 3200),
        ("NVLink4 900 GB/s bidir/GPU; IB 8x400 Gb/s per node; TDP 700W", 3200),
        ("NVLink; 4 x 100 Gb/s RoCE per node", 400),
        ('"800 Gbps" per node', 800),
        ("800 Gb/s inter-node, 150 GB/s intra-node", 800),
        ("RoCE 1600 Gb/s node-node (200 Gb/s per GPU)", 1600),
        ("Selene: NVLink/NVSwitch in node, 8x HDR IB 200 Gb/s", None),
        ("ICI 3D torus 4x4x8", None),
    ],
)
def test_networks_are_read_as_rows_state_them(text: str, gigabits: float | None) -> None:
    found = _node_Bps(text)
    assert found == (None if gigabits is None else gigabits * 1e9 / 8)


def test_a_machine_has_the_network_of_its_row(rows: tuple[Row, ...]) -> None:
    row = next(row for row in rows if row.text("source") == "internevo")
    (card,) = (tier for tier in machine_of(row).tiers if tier.fabric == "nic")
    assert card.Bps.value == pytest.approx(400e9 / 8 / 8)


def test_models_are_built_of_what_rows_say(rows: tuple[Row, ...]) -> None:
    by_name = {row.text("model"): model_of(row) for row in rows if row.text("layers")}
    for name, billions in (("llama3-8b", 8.03), ("llama3-70b", 70.55), ("qwen3-30b-a3b", 30.53)):
        if name in by_name:
            assert by_name[name].params / 1e9 == pytest.approx(billions, rel=0.001)
    same = next(row for row in rows if row.text("layers"))
    assert model_of(same) is model_of(same)


def test_a_table_of_neither_schema_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SpecError, match="row_id"):
        read_table(str(other))
    with pytest.raises(SpecError, match="cannot be read"):
        read_table(str(tmp_path / "none.csv"))


def test_columns_that_are_missing_are_listed_and_others_ignored(tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("row_id,ref_step_time_s,colour\nX,1.0,blue\n", encoding="utf-8")
    table = read_table(str(short))
    assert "accel_class" in table.missing
    assert predict(table.rows)[0].skipped_because


def test_the_command_prints_and_writes_the_documented_keys(tmp_path: Path) -> None:
    target, plain = tmp_path / "out.json", tmp_path / "out.csv"
    done = run("accuracy", str(FILE), "--json", str(target), "--csv", str(plain))
    assert done.returncode == 0, done.stderr
    for words in ("median |error|", "Kendall's tau", "Left out for grade"):
        assert words in done.stdout
    answer = json.loads(target.read_text(encoding="utf-8"))
    keys = {"n", "skipped", "median_abs_error", "p90_abs_error", "bias", "interval_coverage"}
    assert set(answer["overall"]) == keys
    assert all(set(errors) == keys for errors in answer["by_source"].values())
    row_keys = {"id", "measured", "predicted", "interval", "error", "skipped_because"}
    assert all(row_keys <= set(row) for row in answer["rows"])
    with plain.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(answer["rows"])
