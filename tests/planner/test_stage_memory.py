"""Bills of all kinds of rank against the bill of the fullest, and against the event clock's."""

import numpy as np
import pytest

from models.software import softwares
from planner.ask import estimate_scenario
from planner.choices import Choices
from planner.complete import legal_layout
from planner.disturbances import Disturbances
from planner.scenario import Scenario
from planner.simulated import simulate_layout
from planner.stage_memory import stage_memory

AXES = [
    {"pp": 1},
    {"pp": 4, "tp": 2},
    {"pp": 8, "schedule": "zb-v"},
    {"pp": 4, "vp": 4},
    {"pp": 8, "schedule": "dualpipe"},
    {"pp": 5, "tp": 1, "stage_split": "balanced"},
    {"pp": 4, "vp": 3, "stage_split": "balanced"},
    {"pp": 8, "vp": 3, "stage_split": "balanced"},
    {"pp": 2, "vp": 3, "stage_split": "balanced"},
]


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_the_fullest_is_the_plans_and_all_ranks_are_there(axes):
    gpus = 5 * 8 if axes["pp"] == 5 else 32
    asked = Scenario.asked(
        "llama-3.1-8b",
        "h100-dgx",
        seq_len=8192,
        global_batch=gpus * 4,
        gpus=gpus,
        choices=Choices(),
    )
    plan = estimate_scenario(asked, axes)
    found = stage_memory(asked, plan.layout)
    fullest = max(found, key=lambda each: each.total_bytes)
    assert fullest.memory_bytes == plan.memory_bytes
    assert fullest.stage == plan.memory_stage
    assert [each.stage for each in found] == list(range(plan.layout.pp))
    held = sum(each.layers for each in found)
    both_ways = 2 if axes.get("schedule") == "dualpipe" else 1
    assert held == both_ways * len(asked.architecture.layers)


def test_each_stage_is_as_full_as_the_event_clock_finds_it():
    asked = Scenario.asked(
        "llama-3.1-8b", "h100-dgx", seq_len=8192, global_batch=64, gpus=32, choices=Choices()
    )
    layout = legal_layout(asked, {"pp": 4, "tp": 2})
    played = simulate_layout(asked, layout, Disturbances()).ranks()
    found = {each.stage: each.total_bytes for each in stage_memory(asked, layout)}
    peaks = {place: rank["peak_memory_bytes"] for place, rank in enumerate(played)}
    assert found.keys() == peaks.keys()
    for stage, total in found.items():
        np.testing.assert_allclose(total, peaks[stage], rtol=0.02)


@pytest.mark.parametrize("gradients", ["fp32", "bf16"])
@pytest.mark.parametrize("software", sorted(softwares()))
def test_both_clocks_hold_as_much_whatever_runs_them(software: str, gradients: str) -> None:
    """Outputs that were sent, and copies for the optimizer's step, are there in both."""
    choices = Choices(software=software, gradients=gradients)
    asked = Scenario.asked(
        "llama-3.1-8b", "h100-dgx", seq_len=4096, global_batch=64, gpus=16, choices=choices
    )
    layout = legal_layout(asked, {"tp": 2, "pp": 4, "recompute": "full"})
    played = simulate_layout(asked, layout, Disturbances()).ranks()
    for stage, rank in zip(stage_memory(asked, layout), played, strict=True):
        np.testing.assert_allclose(stage.total_bytes, rank["peak_memory_bytes"], rtol=0.002)
