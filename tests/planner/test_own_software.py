"""A framework that layouts are restricted to times them as its own software runs them."""

from __future__ import annotations

import pytest

import planner
from models.framework_choice import frameworks
from models.software import USUAL, softwares

JOB = {"seq_len": "8k", "global_batch": 16}


@pytest.mark.parametrize("name", sorted(frameworks()))
def test_every_framework_names_software_that_is_known(name: str) -> None:
    assert frameworks()[name].software in set(softwares()) - {USUAL}


def test_plans_are_timed_as_the_framework_runs_them() -> None:
    (best,) = planner.plan(
        "llama-3.2-1b", "h100-dgx", **JOB, framework="torchtitan", top=1, simulate=False
    ).plans
    own = frameworks()["torchtitan"].software
    assert best.provenance.software == own
    axes = {
        axis: getattr(best.layout, axis)
        for axis in ("dp", "tp", "ring", "pp", "zero", "kernels", "recompute", "micro_batch")
    }
    job = {**JOB, **axes, "tp_sp": best.layout.tp_sp, "cp_method": best.layout.cp_method}
    again = planner.estimate("llama-3.2-1b", "h100-dgx", **job, software=own)
    assert again.step_time_s == best.step_time_s
    assert planner.estimate("llama-3.2-1b", "h100-dgx", **job).step_time_s != best.step_time_s


@pytest.mark.parametrize(
    ("framework", "asked", "taken"),
    [("any", "usual", "usual"), ("megatron", "megatron-2021", "megatron-2021")],
)
def test_what_was_asked_stays(framework: str, asked: str, taken: str) -> None:
    found = planner.plan(
        "llama-3.2-1b", "h100-dgx", **JOB, framework=framework, software=asked, simulate=False
    )
    assert found.best is not None
    assert found.best.provenance.software == taken


def test_sweeps_take_it_too() -> None:
    (point,) = planner.sweep(
        "llama-3.2-1b", "h100-dgx", seq_lens="8k", global_batches=16, gpus=8, framework="deepspeed"
    )
    assert point.best is not None
    assert point.best.provenance.software == "hugging-face"
