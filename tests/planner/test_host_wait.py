"""How much of compute is waiting for the host, and when that is said."""

from __future__ import annotations

from typing import Any

import pytest

from planner import estimate, plan
from planner.host_wait import host_wait, host_wait_s
from planner.scenario import Scenario

#: Small kernels: experts of 768 columns, products in fp8, one sequence at a time.
LATE: dict[str, Any] = {"seq_len": 4096, "global_batch": 512, "precision": "fp8-tensorwise"}
SMALL = ("qwen3-30b-a3b", "b200-dgx:1")
LARGE = ("llama-3.1-8b", "h100-dgx:1")


def waiting(names: tuple[str, str], job: dict[str, Any], **axes: Any) -> tuple[float, str, float]:
    scenario = Scenario.load(*names, **job)
    found = estimate(*names, **job, **axes)
    return host_wait_s(scenario, found), host_wait(scenario, found), found.time_s["compute"]


def test_compute_without_waiting_is_that_of_graphs() -> None:
    axes = {"dp": 8, "ep": 8}
    late, sentence, compute = waiting(SMALL, LATE, **axes)
    graphs = estimate(*SMALL, **LATE, **axes, software="cuda-graphs").time_s["compute"]
    assert compute - late == pytest.approx(graphs, rel=0.02)
    assert late > graphs
    assert "waiting for the host" in sentence


def test_large_kernels_wait_for_nobody() -> None:
    job = {"seq_len": 32_768, "global_batch": 8}
    late, sentence, compute = waiting(LARGE, job, ulysses=8, zero=3, recompute="full")
    assert 0.0 <= late < 1e-3 * compute
    assert sentence == ""


def test_answers_say_so() -> None:
    pins: dict[str, Any] = {"pp": 1, "tp": 1, "ulysses": 1, "ring": 1, "micro_batch": 1}
    notes = plan(*SMALL, **LATE, **pins, simulate=False).notes
    assert any("waiting for the host" in note for note in notes)
