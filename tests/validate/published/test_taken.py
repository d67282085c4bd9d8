"""What predictions took for what rows leave unstated, and the commands that give them again."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from planner.scenario import Scenario
from tests.planner.test_cli import run
from tests.validate.published.sample import sample
from validate.published.accuracy_record import csv_text, record
from validate.published.estimate_command import catalogue_model, estimate_command
from validate.published.predicted import Quantity
from validate.published.taken import TAKEN


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return record(sample())["rows"]


def test_every_predicted_run_says_what_was_taken(rows: list[dict[str, Any]]) -> None:
    stated = [name for name in TAKEN if name not in ("packed_len", "sequence_order", "command")]
    for row in rows:
        done = row["predicted"] is not None
        assert all((row[name] is not None) == done for name in stated), row["id"]


def test_what_was_taken_is_what_the_row_is_evaluated_on() -> None:
    told = {row["id"]: row for row in record(sample())["rows"]}
    for each in sample().times:
        row = told[each.row.text("id")]
        if each.scenario is None or each.layout is None:
            continue
        assert row["layout"].startswith(str(each.layout))
        assert row["software"] == each.scenario.workload.software
        assert row["cluster"].startswith(
            f"{each.scenario.cluster.name}, {each.scenario.cluster.accelerators:,} accelerators"
        )
        assert row["sequence_order"] == ("zigzag" if each.layout.ring > 1 else None)


def test_commands_give_the_same_step_time() -> None:
    """One command of each set of options that commands have."""
    kinds = {}
    for each in sample().times:
        if each.scenario and each.layout and (line := estimate_command(each.scenario, each.layout)):
            words = shlex.split(line)
            kinds[tuple(word for word in words if word.startswith("--"))] = (words, each)
    assert len(kinds) > 15
    for words, each in list(kinds.values())[::5]:
        done = run(*words[1:], "--json", "-")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["step_time_s"] == pytest.approx(each.predicted, rel=1e-9)
        assert answer["interval_s"] == pytest.approx(each.interval, rel=1e-9)
        assert each.layout.to_dict().items() <= answer["layout"].items()


def test_what_options_cannot_say_has_no_command() -> None:
    each = next(
        each
        for each in sample().times
        if each.scenario and each.layout and estimate_command(each.scenario, each.layout)
    )
    scenario, layout = each.scenario, each.layout
    assert scenario is not None
    assert layout is not None
    slower = replace(scenario, cluster=scenario.cluster.scale_network(0.5))
    assert estimate_command(slower, layout) is None
    part = replace(scenario, cluster=replace(scenario.cluster, accelerators=3))
    assert estimate_command(part, layout) is None
    narrower = replace(scenario, architecture=replace(scenario.architecture, vocab=1000))
    assert estimate_command(narrower, layout) is None
    renamed = replace(scenario, architecture=replace(scenario.architecture, name="another"))
    assert estimate_command(renamed, layout) == estimate_command(scenario, layout)


def test_models_that_predict_further_are_told_apart() -> None:
    load = {"seq_len": 4096, "global_batch": 8, "gpus": 8}
    plain = Scenario.load("deepseek-v3", "h100-dgx", **load)
    deeper = Scenario.load("deepseek-v3", "h100-dgx", **load, predict_depth=1)
    assert catalogue_model(plain.architecture) == ("deepseek-v3", 0)
    assert catalogue_model(deeper.architecture) == ("deepseek-v3", 1)


def test_only_times_have_commands(rows: list[dict[str, Any]]) -> None:
    answer = record(sample())
    quantities = {r["quantity"] for r in answer["rows"] + answer["further_rows"] if r["command"]}
    assert quantities == {str(Quantity.TIME)}
    assert sum(row["command"] is not None for row in rows) > 50


def test_csv_has_what_was_taken() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(sample()))))
    by_id = {row["id"]: row for row in record(sample())["rows"]}
    first = {}
    for line in lines:
        first.setdefault(line["id"], line)
    for name, line in first.items():
        assert all(line[key] == str(by_id[name][key] or "") for key in TAKEN)
