"""Placements against each order estimated by itself."""

from planner.ask import estimate_scenario
from planner.choices import Choices
from planner.placements import placements
from planner.scenario import Scenario


def scenario(gpus=64):
    return Scenario.asked(
        "llama-3.1-8b", "h100-dgx", seq_len=32768, global_batch=16, gpus=gpus, choices=Choices()
    )


def test_every_order_that_differs_is_there_once_and_the_fastest_first():
    asked = scenario()
    axes = {"tp": 2, "ulysses": 2, "ring": 2, "pp": 2, "dp": 4}
    layout = estimate_scenario(asked, axes).layout
    found = placements(asked, layout)
    steps = [plan.step_time_s for plan in found]
    assert steps == sorted(steps)
    # Four places of cp, pp and dp among each other (six orders), and two ways to nest.
    assert len(found) == 12
    assert layout in [plan.layout for plan in found]
    for plan in found:
        alone = estimate_scenario(
            asked,
            axes
            | {
                "rank_order": plan.layout.rank_order.label,
                "cp_placement": plan.layout.cp_placement.label,
            },
        )
        assert alone.step_time_s == plan.step_time_s


def test_orders_that_put_ranks_in_the_same_place_are_one():
    asked = scenario()
    only = placements(asked, estimate_scenario(asked, {"dp": 16, "tp": 4}).layout)
    assert [plan.layout.dp for plan in only] == [16]
