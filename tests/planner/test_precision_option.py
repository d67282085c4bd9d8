"""Precision as people ask for it: options, arguments, JSON, refusals, and both clocks."""

from __future__ import annotations

import json

import pytest

from planner import estimate, plan, simulate
from tests.planner.test_states_option import run
from topologies.errors import SpecError

WORK = {"seq_len": 8192, "global_batch": 16}
JOB = ["--seq-len", "8k", "--global-batch", "16"]


def test_a_device_without_it_is_refused_with_those_that_have_it() -> None:
    done = run(
        "estimate", "llama-3.2-1b", "--cluster", "a100-dgx", *JOB, "--precision", "fp8-delayed"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "--precision = fp8-delayed: NVIDIA A100 SXM4 80GB does not run it"
    )
    assert "h100-sxm" in done.stderr
    assert "a100" not in done.stderr
    with pytest.raises(SpecError, match="by nvidia with a dense fp4 peak, such as b200-sxm"):
        plan("llama-3.2-1b", "h100-dgx", **WORK, precision="nvfp4")


def test_unknown_names_are_refused() -> None:
    done = run("plan", "llama-3.2-1b", "--cluster", "h100-dgx", *JOB, "--precision", "fp9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--precision = fp9: one of bf16, fp16, fp8-tensorwise")


def test_the_output_and_json_say_it() -> None:
    asked = ["--cluster", "h100-dgx", *JOB, "--tp", "2", "--precision", "fp8-blockwise"]
    done = run("estimate", "llama-3.2-1b", *asked)
    said = "fp8-blockwise (MFU of the dense fp8 peak)"
    assert done.stdout.splitlines()[0].endswith(f"sequences a step, {said}")
    swept = run("sweep", "llama-3.2-1b", *asked, "--pp", "1", "--zero", "1")
    assert swept.stdout.splitlines()[0].endswith(f"parameters, {said}")
    found = json.loads(run("estimate", "llama-3.2-1b", *asked, "--json", "-").stdout)
    assert found["precision"] == "fp8-blockwise"
    assert "gemm_fp8_fraction" not in found["provenance"]["assumed"]  # fitted on this device


def test_a_search_keeps_to_what_a_framework_runs() -> None:
    found = plan("llama-3.2-1b", "h100-dgx", **WORK, precision="fp8-rowwise", pp=1, top=3)
    assert {name for each in found.plans for name in each.runs_in} == {"torchtitan"}
    with pytest.raises(SpecError, match="no fp8-delayed"):
        plan("llama-3.2-1b", "h100-dgx", **WORK, precision="fp8-delayed", framework="torchtitan")


@pytest.mark.parametrize("precision", ["fp8-delayed", "fp8-tensorwise", "fp8-blockwise"])
@pytest.mark.parametrize(
    "layout",
    [
        {"tp": 2, "dp": 4, "zero": 1},
        {"tp": 2, "dp": 2, "pp": 2, "zero": 1},
        {"dp": 8, "zero": 3},
        {"dp": 4, "ulysses": 2, "zero": 3, "kernels": "eager"},
    ],
    ids=str,
)
def test_both_clocks_agree(precision: str, layout: dict[str, object]) -> None:
    job = ("llama-3.1-8b", "h100-dgx")
    closed = estimate(*job, **WORK, precision=precision, **layout).step_time_s
    played = simulate(*job, **WORK, precision=precision, **layout).step.step_s
    assert played == pytest.approx(closed, rel=0.01)
    assert closed < estimate(*job, **WORK, **layout).step_time_s
