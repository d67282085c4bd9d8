"""``--profile`` and ``profile=``: one file, the same answer everywhere, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import planner
from models.profile import PROFILES
from planner.cli import build, main
from planner.scenario import Scenario
from tests.calibrations import figure, ratio, written

JOB = ["--cluster", "h100-dgx", "--seq-len", "32k", "--global-batch", "8"]
PYTHON = {"seq_len": "32k", "global_batch": 8}
COMMANDS = {
    "plan": ["plan", "llama-3.1-8b", *JOB, "--top", "2", "--pp", "1", "--no-simulate"],
    "estimate": ["estimate", "llama-3.1-8b", *JOB, "--ulysses", "8"],
    "simulate": ["simulate", "llama-3.1-8b", *JOB, "--ulysses", "8"],
    "sweep": ["sweep", "llama-3.1-8b", *JOB, "--pp", "1", "--tp", "1"],
    "fabric": ["topologies", "fabric", "h100-dgx:2"],
    "collectives": ["topologies", "collectives"],
}
#: Half the products' rate, and exchanges that take fifty times as long.
SLOW = {
    "parameters": {"gemm_fraction": figure(0.4)},
    "collectives": [ratio("all_to_all", 50, 50, 50)],
}


def answer(command: str, *more: str):
    done = CliRunner().invoke(build(), [*COMMANDS[command], "--json", "-", *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(monkeypatch, capsys, *arguments: str) -> list[str]:
    """Return the lines of a refusal as a terminal shows them."""
    monkeypatch.setattr(sys, "argv", ["meshwright", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    return err.splitlines()


def plans_of(command: str, content) -> list:
    if command == "plan":
        return content["plans"]
    if command == "sweep":
        return [plan for point in content["points"] for plan in point["by_method"].values()]
    return [content]


# ------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("command", ["plan", "estimate", "simulate", "sweep"])
def test_slower_products_slow_every_answer_and_the_file_is_named(command, tmp_path):
    file = written(tmp_path, parameters={"gemm_fraction": figure(0.4)})
    before, after = plans_of(command, answer(command)), []
    after = plans_of(command, answer(command, "--profile", file))
    assert min(plan["step_time_s"] for plan in after) > 1.3 * min(
        plan["step_time_s"] for plan in before
    )
    assert {plan["provenance"]["profile"] for plan in before} == {"h100"}
    assert {plan["provenance"]["profile"] for plan in after} == {"h100-sxm, measured (mine.json)"}


@pytest.mark.parametrize("command", ["plan", "estimate", "simulate", "sweep", "fabric"])
def test_a_profile_that_measured_nothing_answers_to_the_bit(command, tmp_path):
    def bare(content):
        if isinstance(content, dict):
            left = ("seconds", "profile")
            return {key: bare(value) for key, value in content.items() if key not in left}
        return [bare(part) for part in content] if isinstance(content, list) else content

    assert bare(answer(command, "--profile", written(tmp_path))) == bare(answer(command))


def test_slower_exchanges_slow_what_exchanges(tmp_path):
    file = written(tmp_path, collectives=[ratio("all_to_all", 50, 50, 50)])
    before, after = (answer("estimate", *more) for more in ([], ["--profile", file]))
    old, new = before["time_s"], after["time_s"]
    assert new["cp"] == pytest.approx(50 * old["cp"])
    for part in ("compute", "optimizer", "overhead", "tp"):
        assert new[part] == old[part]
    assert 0 < new["dp"] < old["dp"]  # longer passes hide more of the gradients
    rows = [answer("fabric", *more)["rows"] for more in ([], ["--profile", file])]
    for one, other in zip(*rows, strict=True):
        near = one["collective"] == "all_to_all" and one["size"] * one["stride"] <= 8
        assert other["time_s"] == (50 if near else 1) * one["time_s"]


def test_python_takes_the_same_file(tmp_path):
    file = Path(written(tmp_path, **SLOW))
    name = "h100-sxm, measured (mine.json)"
    job = ("llama-3.1-8b", "h100-dgx")
    one = planner.estimate(*job, **PYTHON, profile=file, ulysses=8)
    assert one.provenance.profile == name
    assert one.step_time_s == answer("estimate", "--profile", str(file))["step_time_s"]
    assert "gemm_fraction" not in one.provenance.assumed
    played = planner.simulate(*job, **PYTHON, profile=str(file), ulysses=8)
    assert played.plan == replace(one, event_step_s=played.step.step_s)
    best = planner.plan(*job, **PYTHON, profile=file, pp=1, simulate=False).best
    assert best is not None
    assert best.provenance.profile == name
    (point,) = planner.sweep(*job, seq_lens=["32k"], global_batches=[8], profile=file, pp=1, tp=1)
    assert {plan.provenance.profile for plan in point.by_method.values()} == {name}
    scenario = Scenario.load(*job, seq_len=32768, global_batch=8, profile=file)
    assert scenario.device.profile.name == name


def test_every_size_length_and_layout_set_beside_is_planned_with_it(tmp_path):
    file = written(tmp_path, **SLOW)
    content = answer(
        "plan", "--profile", file, "--gpus", "4,8", "--beside", "ulysses=2,dp=2", "--dp", "1..8"
    )
    every = [*content["plans"], *content["beside"]]
    assert {plan["layout"]["gpus"] for plan in every} == {4, 8}
    assert {plan["provenance"]["profile"] for plan in every} == {"h100-sxm, measured (mine.json)"}
    swept = answer("sweep", "--profile", file, "--network", "0.5,1", "--gpus", "4,8")
    assert len(swept["points"]) == 4
    assert {plan["provenance"]["profile"] for plan in plans_of("sweep", swept)} == {
        "h100-sxm, measured (mine.json)"
    }


def test_tables_name_the_file_and_how_its_spreads_are_known(tmp_path):
    def header(*more: str) -> str:
        done = CliRunner().invoke(build(), [*COMMANDS["estimate"], *more])
        assert done.exit_code == 0, done.output
        return " ".join(done.stdout.split())

    usual = "profile h100: compute ±10% (fitted), communication ±35% (assumed)"
    assert usual in header()
    one = written(tmp_path, name="my[b].json", parameters={"compute_spread": figure(0.05)})
    assert (
        "profile h100-sxm, measured (my[b].json): compute ±5% (measured), "
        "communication ±35% (assumed)"
    ) in header("--profile", one)


def test_collectives_are_compared_for_the_profile_s_device_only(tmp_path):
    everything = {row["system"]: row for row in answer("collectives")["systems"]}
    mine = answer("collectives", "--profile", written(tmp_path))["systems"]
    assert 0 < len(mine) < len(everything)
    assert all(row == everything[row["system"]] for row in mine)


# ----------------------------------------------------------------------------------- what it is not


def test_a_file_cut_short_ends_with_exit_code_2(monkeypatch, capsys, tmp_path):
    path = Path(written(tmp_path))
    path.write_text(path.read_text()[:-20])
    for arguments in COMMANDS.values():
        (line,) = refused(monkeypatch, capsys, *arguments, "--profile", str(path))
        assert line == f"--profile = {path}: cut short: run `meshwright calibrate` again"


def test_another_version_ends_with_exit_code_2(monkeypatch, capsys, tmp_path):
    path = written(tmp_path, schema_version="sp-profile/7")
    for arguments in COMMANDS.values():
        (line,) = refused(monkeypatch, capsys, *arguments, "--profile", path)
        assert "sp-profile/7: this version of Meshwright reads sp-profile/1" in line


def test_another_device_ends_with_exit_code_2(monkeypatch, capsys, tmp_path):
    path = written(tmp_path, accelerator="h200-sxm")
    for name, arguments in COMMANDS.items():
        if name != "collectives":
            (line,) = refused(monkeypatch, capsys, *arguments, "--profile", path)
            assert line.startswith("--profile mine.json = h200-sxm: the cluster has h100-sxm: ")
    whole = str(PROFILES / "a100.yaml")
    (line,) = refused(monkeypatch, capsys, *COMMANDS["plan"], "--profile", whole)
    assert "the cluster has h100-sxm" in line
    core = written(tmp_path, accelerator="cpu-core")
    (line,) = refused(monkeypatch, capsys, *COMMANDS["collectives"], "--profile", core)
    assert line.startswith("--profile = cpu-core: no measured system has that device; they have ")


@pytest.mark.parametrize("command", ["plan", "estimate", "simulate", "sweep"])
def test_its_problems_come_with_all_others(command, monkeypatch, capsys, tmp_path):
    path = written(tmp_path, parameters={"gemm_fraction": figure(-1)})
    arguments = [*COMMANDS[command], "--profile", path]
    arguments[1] = "llama-9"
    arguments[arguments.index("h100-dgx")] = "h100-dgy"
    arguments[arguments.index("32k")] = "32q"
    lines = refused(monkeypatch, capsys, *arguments)
    for words in ("llama-9", "h100-dgy", "32q", "mine.json: parameters.gemm_fraction"):
        assert sum(words in line for line in lines) == 1, lines
    assert len(lines) == 4


def test_one_problem_is_said_once_for_all_sizes(monkeypatch, capsys, tmp_path):
    path = written(tmp_path, schema_version="sp-profile/7")
    lines = refused(monkeypatch, capsys, *COMMANDS["plan"], "--gpus", "2,4,8", "--profile", path)
    assert len(lines) == 1


# ------------------------------------------------------------------------------ processes on a CPU


def test_processes_of_a_machine_can_be_planned():
    found = planner.plan(
        "qwen3-0.6b", "cpu-gloo", seq_len="4k", global_batch=8, gpus=8, simulate=True
    )
    best = found.best
    assert best is not None
    assert best.fits
    assert 0.1 < best.mfu < 1.0
    assert best.provenance.profile == "cpu-core"
    assert best.event_step_s == pytest.approx(best.step_time_s, rel=0.05)
    assert best.cost_usd_per_step is None


def test_what_gloo_sends_hides_behind_nothing():
    """It works on the cores that compute: a ring costs its compute and its hops."""
    ring, alone = (
        planner.estimate("qwen3-0.6b", "cpu-gloo", seq_len="8k", global_batch=2, gpus=2, **axes)
        for axes in ({"ring": 2}, {"ring": 2, "cp_method": "all_gather"})
    )
    assert ring.time_s["cp"] > 0.5 * alone.time_s["cp"] > 0


def test_a_calibration_of_a_core_is_laid_over_its_profile(tmp_path):
    job = {"seq_len": "8k", "global_batch": 2, "gpus": 2, "ulysses": 2}
    file = written(tmp_path, accelerator="cpu-core", collectives=[ratio("all_to_all", 2, 2, 2)])
    before, after = (
        planner.estimate("qwen3-0.6b", "cpu-gloo", **job, profile=profile)
        for profile in (None, file)
    )
    assert after.time_s["cp"] == pytest.approx(2 * before.time_s["cp"])
