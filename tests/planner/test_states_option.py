"""Optimizer and dtypes of gradients as people ask for them: options, arguments, JSON, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner import estimate, plan, simulate, sweep
from topologies.errors import SpecError

JOB = ["--cluster", "h100-dgx", "--seq-len", "8k", "--global-batch", "16"]
CHEAP = ["--optimizer", "adamw-bf16", "--gradients", "bf16", "--reduce", "bf16"]
STATES = {"optimizer": "adamw-bf16", "gradients": "bf16", "reduce": "bf16"}
USUAL = {"optimizer": "adamw", "gradients": "fp32", "reduce": "fp32"}
WORK = {"seq_len": 8192, "global_batch": 16}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from planner.cli import main; main()", *arguments]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["plan", "estimate", "simulate", "sweep"])
def test_unknown_names_are_refused_with_all_else_that_is_wrong(command: str) -> None:
    wrong = ["--optimizer", "adam", "--gradients", "fp16", "--reduce", "int8", "--tp", "x"]
    done = run(command, "llama-3.1-8", *JOB, *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    for line in (
        "--optimizer = adam: one of adamw, adamw-remainders, adamw-bf16, adamw-8bit, adafactor, "
        "sgd-momentum, adamw-bf16-master, adamw-pure-bf16, muon",
        "--gradients = fp16: one of fp32, bf16, bf16+fp32",
        "--reduce = int8: one of fp32, bf16",
    ):
        assert lines.count(line) == 1
    assert any(line.startswith("--tp = x") for line in lines)
    assert any(line.startswith("MODEL = llama-3.1-8:") for line in lines)


def test_the_header_names_states_that_are_not_the_usual() -> None:
    asked, plain = (
        run("estimate", "llama-3.1-8b", *JOB, "--tp", "8", *more) for more in (CHEAP, [])
    )
    first = asked.stdout.splitlines()[0]
    assert first.endswith("a step, bf16, adamw-bf16, gradients bf16, reduced in bf16")
    assert plain.stdout.splitlines()[0].endswith("a step, bf16")


def test_a_sweep_names_them_too() -> None:
    done = run("sweep", "llama-3.2-1b", *JOB, "--pp", "1", "--optimizer", "sgd-momentum")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith(
        "parameters, sgd-momentum, gradients fp32, reduced in fp32"
    )


@pytest.mark.parametrize("command", ["estimate", "simulate"])
def test_json_says_the_states(command: str) -> None:
    answers = [
        json.loads(run(command, "llama-3.1-8b", *JOB, "--tp", "8", *more, "--json", "-").stdout)
        for more in (CHEAP, [])
    ]
    assert [answer["states"] for answer in answers] == [STATES, USUAL]
    cheap, usual = (answer["memory_bytes"] for answer in answers)
    assert usual["gradients"] == 2 * cheap["gradients"]
    assert usual["optimizer"] / cheap["optimizer"] == pytest.approx(12 / 8)


def test_what_no_framework_has_is_refused_and_planned_without_one() -> None:
    adafactor = ["--optimizer", "adafactor", "--pp", "1", "--top", "1"]
    done = run("plan", "llama-3.2-1b", *JOB, *adafactor)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--framework = any: runs no layout of this job")
    assert "(no adafactor); try --framework unrestricted" in done.stderr
    free = run("plan", "llama-3.2-1b", *JOB, *adafactor, "--framework", "unrestricted")
    assert free.returncode == 0, free.stderr
    assert "none known" in free.stdout
    one = run("estimate", "llama-3.2-1b", *JOB, "--optimizer", "adafactor")
    assert "  megatron: no adafactor\n" in one.stdout
    assert "adafactor.moment_bytes" in one.stdout


def test_a_search_keeps_to_what_a_framework_runs_with_an_optimizer() -> None:
    found = plan("llama-3.2-1b", "h100-dgx", **WORK, framework="megatron", pp=1, **STATES)
    assert found.plans
    for each in found.plans:
        layout = each.layout
        assert layout.zero == 1 or layout.dp * layout.cp == 1
        assert "megatron" in each.runs_in
        assert each.to_dict()["states"] == STATES
    with pytest.raises(SpecError, match="no adamw-8bit"):
        plan("llama-3.2-1b", "h100-dgx", **WORK, framework="megatron", optimizer="adamw-8bit")


def test_python_takes_the_same_names() -> None:
    one = estimate("llama-3.2-1b", "h100-dgx", **WORK, **STATES)
    usual = estimate("llama-3.2-1b", "h100-dgx", **WORK)
    assert one.memory_total_bytes < usual.memory_total_bytes
    assert one.step_time_s < usual.step_time_s
    both = [
        simulate("llama-3.2-1b", "h100-dgx", **WORK, **more).step.step_s for more in (STATES, {})
    ]
    assert both[0] < both[1]
    points = sweep(
        "llama-3.2-1b", "h100-dgx", seq_lens=[8192], global_batches=[16], pp=1, zero=1, **STATES
    )
    assert all(found.to_dict()["states"] == STATES for found in points[0].by_method.values())
    with pytest.raises(SpecError, match="--reduce = fp8: one of fp32, bf16"):
        estimate("llama-3.2-1b", "h100-dgx", **WORK, reduce="fp8")
