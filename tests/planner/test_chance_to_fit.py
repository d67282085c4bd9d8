"""How likely a plan fits: even where it just fits, by the spread of published memory."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.layout import Layout, LayoutBatch
from models.named_axes import Recompute
from models.profile import load_profile
from planner.answer import likely
from planner.scenario import Scenario

if TYPE_CHECKING:
    from planner.plans import Plan

JOB: dict[str, Any] = {"global_batch": 8}
LAYOUT = Layout(ulysses=8, zero=3, recompute=Recompute.FULL)


def planned(seq_len: int) -> Plan:
    scenario = Scenario.load("llama-3.1-8b", "h100-dgx:1", seq_len=seq_len, **JOB)
    (plan,) = scenario.evaluate(LayoutBatch.of([LAYOUT]))
    return plan


def test_longer_sequences_fit_less_likely() -> None:
    plans = [planned(2**power) for power in range(15, 22)]
    chances = [plan.chance_to_fit for plan in plans]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.999
    assert chances[-1] < 0.01
    for plan in plans:
        assert plan.fits == (plan.chance_to_fit >= 0.5)


def test_an_even_chance_is_where_the_least_total_is_all_there_is() -> None:
    plan = planned(2**17)
    short = replace(plan, capacity_bytes=plan.memory_least_bytes)
    assert short.chance_to_fit == pytest.approx(0.5)
    held = plan.memory_bytes
    asked = sum(held[line] for line in ("activations", "logits", "working", "buffers", "step"))
    least = load_profile("h100-sxm").fragmentation_least.value * asked
    saved = plan.memory_total_bytes - plan.memory_least_bytes
    assert saved == pytest.approx(held["fragmentation"] - least)
    assert saved > 0


def test_a_capacity_at_the_interval_s_end_is_enough_nine_times_in_ten() -> None:
    plan = planned(2**17)
    high = plan.memory_interval_bytes[1] / plan.memory_total_bytes
    room = replace(plan, capacity_bytes=plan.memory_least_bytes * high)
    assert room.chance_to_fit == pytest.approx(0.9, abs=1e-4)


def test_the_chance_is_the_share_of_errors_drawn_that_fit() -> None:
    plan = planned(2**20)
    spread = np.log(plan.memory_interval_bytes[1] / plan.memory_total_bytes)
    spread /= NormalDist().inv_cdf(0.9)
    drawn = np.random.default_rng(0).lognormal(np.log(plan.memory_least_bytes), spread, 200_000)
    assert plan.chance_to_fit == pytest.approx((drawn <= plan.capacity_bytes).mean(), abs=0.005)


@pytest.mark.parametrize(("room", "said"), [(2.0, "over 99%"), (0.5, "under 1%"), (1.0, "50%")])
def test_nothing_is_said_to_be_certain(room: float, said: str) -> None:
    plan = planned(2**17)
    assert likely(replace(plan, capacity_bytes=room * plan.memory_least_bytes)) == said
