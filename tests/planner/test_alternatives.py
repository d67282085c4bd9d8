"""Values of axes that are offered are legal, those refused are not, and all are reachable."""

from dataclasses import fields

import pytest

from models.layout import AXES, Layout
from models.legality import problems
from models.named_axes import NAMED_AXES
from planner.alternatives import alternatives, changed
from planner.choices import Choices
from planner.complete import legal_layout
from planner.scenario import Scenario

JOBS = [
    ("llama-3.1-8b", "h100-dgx", 64, 32768, 64),
    ("deepseek-v3", "h800-hgx", 256, 4096, 512),
    ("gemma-3-27b", "h100-dgx", 48, 131072, 48),
]


def scenario(model, cluster, gpus, seq_len, batch):
    return Scenario.asked(
        model, cluster, seq_len=seq_len, global_batch=batch, gpus=gpus, choices=Choices()
    )


@pytest.fixture(scope="module", params=JOBS, ids=lambda job: job[0])
def asked(request):
    return scenario(*request.param)


def some_layout(asked):
    axes = {
        "llama-3.1-8b": {"tp": 4, "pp": 2, "ring": 2, "vp": 2},
        "deepseek-v3": {"pp": 8, "ep": 8, "zero": 1, "recompute": "full", "recompute_layers": 2},
        "gemma-3-27b": {"tp": 2, "ulysses": 4, "micro_batch": 2},
    }
    return legal_layout(asked, axes[asked.architecture.name])


def test_every_axis_has_its_own_value_and_offers_only_what_is_legal(asked):
    layout = some_layout(asked)
    found = alternatives(asked, layout)
    assert list(found) == list(AXES)
    for axis, values in found.items():
        assert getattr(layout, axis) in [each.value for each in values]
        for each in values:
            assert getattr(each.layout, axis) == each.value
            broken = problems(each.layout, asked.job)
            assert bool(broken) == bool(each.refused), (axis, each.value)
            assert len(each.refused) == len(broken)


def test_offers_fill_the_cluster(asked):
    layout = some_layout(asked)
    offers = [x for values in alternatives(asked, layout).values() for x in values if not x.refused]
    assert {each.layout.gpus for each in offers} == {asked.cluster.accelerators}
    assert len(offers) > len(AXES)


def test_the_layouts_own_values_change_nothing(asked):
    layout = some_layout(asked)
    for field in fields(Layout):
        assert changed(layout, field.name, getattr(layout, field.name), asked.job) == layout


def test_schedules_of_several_chunks_are_reached_in_one_step_and_left_in_one():
    asked = scenario(*JOBS[0])
    layout = changed(Layout(dp=16, tp=4), "pp", 4, asked.job)
    assert (layout.dp, layout.schedule.label) == (4, "1f1b")
    chunked = changed(layout, "vp", 2, asked.job)
    assert chunked.schedule.label == "interleaved"
    assert changed(layout, "schedule", NAMED_AXES["schedule"](2), asked.job).vp == 2
    assert changed(layout, "schedule", NAMED_AXES["schedule"](6), asked.job).vp == 2
    assert changed(chunked, "vp", 1, asked.job) == layout
    assert changed(chunked, "pp", 1, asked.job).schedule.label == "1f1b"


def test_refusals_say_what_a_rule_says():
    asked = scenario(*JOBS[0])
    ulysses = alternatives(asked, Layout(dp=64))["ulysses"]
    refused = {each.value: each.refused for each in ulysses if each.refused}
    assert 64 in refused
    assert any("heads" in reason for reason in refused[64])
