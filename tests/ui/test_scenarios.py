"""Words of a question become scenarios, with every problem at once; layouts survive their text."""

from dataclasses import replace

import pytest

from models.layout import LayoutBatch
from planner.bounds import Bounds
from planner.choices import USUAL_CHANCE
from planner.ranking import plan_scenario
from topologies.errors import SpecError
from ui.estimates import estimate, offers, placed, usual_layout
from ui.export import csv_text, plan_call, search_call
from ui.presets import PRESETS
from ui.question import Question
from ui.scenarios import bounds_of, layout_text, pins_of, read_layout, scenarios
from ui.tables import ranked

SMALL = Question(model="llama-3.1-8b", gpus="64", seq_len="32k", global_batch="64")


def test_several_numbers_of_accelerators_are_several_scenarios():
    found = scenarios(Question(model="llama-3.1-8b", gpus="128, 64,128", seq_len="8k"))
    assert [each.cluster.accelerators for each in found] == [64, 128]


def test_every_problem_is_told_at_once():
    wrong = Question(
        model="lama",
        cluster="h100",
        gpus="x",
        seq_len="long",
        global_batch="0",
        framework="mega",
        pins="tp",
    )
    with pytest.raises(SpecError) as error:
        scenarios(wrong)
    assert len(error.value.problems) == 7


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.title)
def test_presets_can_be_asked_and_begun_with(preset):
    scenario = scenarios(preset.question)[0]
    assert bounds_of(preset.question) == Bounds.parse(pins_of(preset.question))
    text = usual_layout(preset.question)
    found = estimate(preset.question, text)
    assert found.plan.layout.gpus == scenario.cluster.accelerators
    assert found.stages
    assert found.operations


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.title)
def test_the_layout_to_begin_with_is_as_pinned(preset):
    _, layout = read_layout(preset.question, usual_layout(preset.question))
    batch = LayoutBatch.of([layout])
    bounds = bounds_of(preset.question)
    assert all(bounds.allows(axis, getattr(batch, axis)).all() for axis in bounds.axes)


def test_pins_that_no_common_layout_has_are_left_to_the_search():
    question = Question(model="llama-3.1-8b", gpus="64", seq_len="32k", pins="tp=3")
    assert usual_layout(question) == usual_layout(replace(question, pins=""))


def test_texts_of_layouts_are_read_back_exactly():
    question = Question(model="llama-3.1-8b", gpus="64", seq_len="32k")
    found = plan_scenario(scenarios(question)[0], Bounds({}), "unrestricted", top=40)
    for plan in (*found.plans, *found.front):
        assert read_layout(question, layout_text(plan.layout))[1] == plan.layout


def test_a_layout_finds_the_scenario_whose_accelerators_it_fills():
    question = Question(model="llama-3.1-8b", gpus="64,128", seq_len="8k", global_batch="128")
    scenario, layout = read_layout(question, "dp=64")
    assert (scenario.cluster.accelerators, layout.dp) == (64, 64)


@pytest.mark.parametrize("text", ["tp=3", "tp", "nothing=1", "tp=8,tp=8", "dp=" + "9" * 40])
def test_what_is_no_layout_is_refused(text):
    with pytest.raises(SpecError):
        read_layout(SMALL, text)


@pytest.mark.parametrize(
    "asked",
    [{}, {"software": "torch-fsdp", "packed_len": "2k"}, {"fit_chance": "0.9"}],
    ids=str,
)
def test_calls_make_the_same_plan(asked):
    small = replace(SMALL, **asked)
    plan = estimate(small, "tp=4,ulysses=2,dp=8,zero=3").plan
    space: dict[str, object] = {}
    exec(plan_call(small, plan), space)
    assert space["answer"].to_dict() == plan.to_dict()


def test_a_framework_is_taken_with_its_own_software():
    asked = replace(SMALL, framework="torchtitan")
    (found,) = scenarios(asked)
    assert found.workload.software == "torch-fsdp-2026"
    plan = estimate(asked, "dp=8,ring=8,zero=3,kernels=eager").plan
    space: dict[str, object] = {}
    exec(plan_call(asked, plan), space)
    assert space["answer"].to_dict() == plan.to_dict()


def test_tables_name_all_degrees_of_a_layout():
    layout = "tp=2,pp=2,vp=2,dp=16,ep=4,etp=2,schedule=interleaved,stage_split=balanced"
    plan = estimate(replace(SMALL, model="mixtral-8x7b"), layout).plan
    (row,) = ranked([plan])
    assert (row["tp"], row["pp"], row["ep"]) == (2, 2, 4)
    assert row["and"].startswith("vp2 etp2 zero1")


def test_what_is_packed_and_what_runs_it_change_a_plan():
    layout = "tp=4,ulysses=2,dp=8,zero=3"
    usual = estimate(SMALL, layout).plan
    packed = estimate(replace(SMALL, packed_len="256"), layout).plan
    copying = estimate(replace(SMALL, software="torch-fsdp"), layout).plan
    assert packed.packed_len == 256
    assert packed.time_s["compute"] < usual.time_s["compute"]
    assert copying.time_s["cp"] > usual.time_s["cp"]
    with pytest.raises(SpecError, match="--packed-len"):
        estimate(replace(SMALL, packed_len="1m"), layout)
    with pytest.raises(SpecError, match="--software"):
        estimate(replace(SMALL, software="none"), layout)


def test_a_chance_to_fit_is_asked_for():
    assert scenarios(SMALL)[0].fit_chance == USUAL_CHANCE
    assert scenarios(replace(SMALL, fit_chance="0.9"))[0].fit_chance == 0.9
    assert "fit_chance=0.9" in search_call(replace(SMALL, fit_chance="0.9"), 64)
    for wrong in ("most", "1.5", "nan"):
        with pytest.raises(SpecError, match="chance"):
            scenarios(replace(SMALL, fit_chance=wrong))


def test_a_search_makes_the_same_plans():
    space: dict[str, object] = {}
    question = Question(
        model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="tp=1..2 zero=1,3"
    )
    call = search_call(question, 8)
    exec(call, space)
    found = plan_scenario(scenarios(question)[0], bounds_of(question), top=10)
    assert [plan.layout for plan in space["answer"].plans] == [p.layout for p in found.plans]


def test_estimates_are_remembered():
    assert estimate(SMALL, "dp=64") is estimate(SMALL, "dp=64")
    assert offers(SMALL, "dp=64") is offers(SMALL, "dp=64")
    assert len(placed(SMALL, "tp=8,dp=8")) == 1


def test_csv_has_a_header_and_every_row():
    assert csv_text([{"a": 1, "b": "x,y"}, {"a": 2, "b": None}]) == 'a,b\n1,"x,y"\n2,\n'
    assert csv_text([]) == ""
