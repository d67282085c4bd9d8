"""Operations one by one against the step's own totals, and labels against plain arithmetic."""

import numpy as np
import pytest

from models.inventory import model_flop
from planner.ask import estimate_scenario
from planner.choices import Choices
from planner.roofline import operations
from planner.scenario import Scenario


def scenario(seq_len=8192):
    return Scenario.asked(
        "llama-3.1-8b", "h100-dgx", seq_len=seq_len, global_batch=8, gpus=8, choices=Choices()
    )


def test_compute_adds_up_to_the_step():
    asked = scenario()
    plan = estimate_scenario(asked, {"dp": 8})
    found = operations(asked, plan.layout)
    busy = sum(each.layers * each.seconds for each in found if not each.axis)
    assert busy == pytest.approx(plan.time_s["compute"], rel=0.02)
    assert not [each for each in found if each.axis]


def test_flop_are_the_models():
    asked = scenario()
    found = operations(asked, estimate_scenario(asked, {"dp": 8}).layout)
    whole = 8 * sum(each.layers * each.flop for each in found if each.bound != "links")
    products = model_flop(asked.architecture, asked.workload)
    # Flash attention's backward pass computes scores again: more than what MFU counts.
    assert products < whole < 1.3 * products


def test_products_are_bound_by_compute_and_norms_by_memory():
    asked = scenario()
    found = operations(asked, estimate_scenario(asked, {"dp": 8}).layout)
    bounds = {each.name: each.bound for each in found if each.part == "layer"}
    assert bounds["core attention"] == "compute"
    norms = [bound for name, bound in bounds.items() if "norm" in name]
    assert norms
    assert set(norms) == {"memory"}
    balance = asked.device.accelerator.bf16_flops.value / asked.device.accelerator.hbm_Bps.value
    for each in found:
        if each.bound == "compute" and each.seconds > 1e-4:
            assert each.intensity > 0.3 * balance


def test_short_sequences_leave_little_but_launches():
    asked = scenario(seq_len=16)
    found = operations(asked, estimate_scenario(asked, {"dp": 8}).layout)
    assert {each.bound for each in found if "norm" in each.name} == {"launches"}


def test_communication_is_named_by_its_axis():
    asked = scenario()
    plan = estimate_scenario(asked, {"tp": 2, "ulysses": 2, "ring": 2})
    sent = [each for each in operations(asked, plan.layout) if each.axis]
    assert {each.axis for each in sent} >= {"tp", "ulysses", "inner_ring"} or {
        each.axis for each in sent
    } >= {"tp", "ulysses", "ring"}
    assert all(each.bound == "links" and np.isfinite(each.seconds) for each in sent)
    hidden = {each.hidden_by for each in sent if each.hidden_by}
    assert hidden <= {each.name for each in operations(asked, plan.layout)}
