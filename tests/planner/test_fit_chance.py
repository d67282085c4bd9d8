"""Plans that must fit with a chance that is asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from models.layout import LayoutBatch
from planner import estimate, plan
from planner.answer import SURE, surer
from planner.bounds import Bounds
from planner.layout_words import label
from planner.longest import longest_sequences
from planner.scenario import Scenario
from planner.search import search
from planner.space import Space
from topologies.errors import SpecError
from topologies.units import GIB

if TYPE_CHECKING:
    from planner.plans import Plan, PlanSet

JOB: dict[str, Any] = {"seq_len": 65_536, "global_batch": 64}
#: Few enough layouts to look at each on its own; some of them just fit.
PINS: dict[str, Any] = {"pp": 1, "vp": 1, "dispatch": "all-to-all"}
NAMES = ("llama-3.1-8b", "h100-dgx:1")
#: One mesh of it, at which only the length decides whether it fits.
WHOLE: dict[str, Any] = {
    "global_batch": 8,
    "dp": 1,
    "tp": 1,
    "pp": 1,
    "ulysses": 8,
    "ring": 1,
    "zero": 3,
    "recompute": "full",
    "recompute_layers": 0,
}
CHANCES = (0.3, 0.5, 0.8, 0.9, 0.99)


def found(chance: float, **pins: Any) -> PlanSet:
    return plan(*NAMES, **JOB, **(pins or PINS), simulate=False, fit_chance=chance)


@pytest.fixture(scope="module")
def every() -> list[Plan]:
    """Every legal layout, evaluated one batch at a time, whether it fits or not."""
    scenario = Scenario.load(*NAMES, **JOB)
    space = Space(scenario.job, Bounds.parse({**PINS, "recompute_layers": 0}), "any")
    batches = list(space.batches())
    return [each for batch in batches for each in scenario.evaluate(batch)]


@pytest.mark.parametrize("chance", CHANCES)
def test_the_best_is_the_fastest_of_those_that_are_sure_enough(
    every: list[Plan], chance: float
) -> None:
    best = found(chance, **PINS, recompute_layers=0).best
    sure = [each for each in every if each.chance_to_fit >= chance]
    assert 0 < len(sure) < len(every)
    assert best is not None
    assert best.step_time_s == min(each.step_time_s for each in sure)
    assert best.fits


def test_more_certainty_costs_time_and_leaves_fewer_layouts() -> None:
    sets = [found(chance) for chance in CHANCES]
    for less, more in pairwise(sets):
        assert less.best is not None
        assert more.best is not None
        assert more.search.fit < less.search.fit
        assert more.best.step_time_s >= less.best.step_time_s
    for chance, each in zip(CHANCES, sets, strict=True):
        assert all(one.chance_to_fit >= chance for one in (*each.plans, *each.front))


def test_as_many_layers_are_recomputed_as_certainty_takes() -> None:
    pins = {"dp": 1, "ulysses": 8, "zero": 3, "recompute": "full", "recompute_method": "block"}
    layers = []
    for chance in (0.5, 0.9, 0.99):
        scenario = Scenario.load(*NAMES, seq_len=2**18, global_batch=8, fit_chance=chance)
        space = Space(scenario.job, Bounds.parse(pins), "unrestricted")
        (best,) = scenario.evaluate(search(scenario, space).best)[:1]
        assert best.chance_to_fit >= chance
        one_less = replace(best.layout, recompute_layers=best.layout.recompute_layers - 1)
        (tighter,) = scenario.evaluate(LayoutBatch.of([one_less]))
        assert tighter.chance_to_fit < chance
        assert not tighter.fits
        layers.append(best.layout.recompute_layers)
    assert layers == sorted(set(layers))


def test_an_even_chance_is_what_fits_by_the_prediction() -> None:
    scenario = Scenario.load(*NAMES, **JOB)
    assert scenario.fit_chance == 0.5
    assert scenario.limit_bytes == scenario.capacity_bytes


def test_a_surer_plan_is_named_with_what_it_takes() -> None:
    tight = found(0.5)
    assert tight.best is not None
    assert tight.best.chance_to_fit < SURE
    (sentence,) = [note for note in tight.notes if note.startswith("To be surer")]
    fastest = min(
        (each for each in tight.front if each.chance_to_fit >= SURE),
        key=lambda each: each.step_time_s,
    )
    assert f" {label(fastest.layout)} fits" in sentence
    assert f"{fastest.step_time_s / tight.best.step_time_s - 1.0:.1%} longer" in sentence
    sure = found(SURE)
    assert sure.best is not None
    assert fastest.step_time_s >= sure.best.step_time_s
    assert not [note for note in sure.notes if note.startswith("To be surer")]
    assert surer(tight.best, ()) == "Nothing looked at fits with a chance of 90%."


@pytest.fixture(scope="module")
def tight_len() -> int:
    """Return a length at which one layout fits, but not in nine of ten cases."""
    lengths = range(2**17, 2**21, 2**13)
    chances = (estimate(*NAMES, seq_len=n, **WHOLE).chance_to_fit for n in lengths)
    return next(n for n, chance in zip(lengths, chances, strict=True) if 0.5 < chance < 0.9)


def test_one_layout_fits_or_not_by_the_chance_asked_for(tight_len: int) -> None:
    usual = estimate(*NAMES, seq_len=tight_len, **WHOLE)
    sure = estimate(*NAMES, seq_len=tight_len, **WHOLE, fit_chance=0.9)
    assert usual.fits
    assert not sure.fits
    assert replace(sure, fits=True) == usual


def test_where_nothing_is_sure_enough_the_answer_says_what_would_be(tight_len: int) -> None:
    job = {"seq_len": tight_len, **WHOLE, "micro_batch": 1}
    usual = plan(*NAMES, **job, simulate=False)
    assert usual.best is not None
    assert "Nothing looked at fits with a chance of 90%." in usual.notes
    sure = plan(*NAMES, **job, simulate=False, fit_chance=0.9)
    assert sure.best is None
    assert sure.smallest is not None
    assert sure.smallest.layout == usual.best.layout
    need = sure.smallest.memory_least_bytes / GIB
    scenario = Scenario.load(*NAMES, seq_len=tight_len, global_batch=8, fit_chance=0.9)
    room = scenario.limit_bytes / GIB
    assert room < need < scenario.capacity_bytes / GIB
    assert f"needs {need:.1f} GiB" in sure.notes[0]
    assert f"or {room:.1f} GiB for a chance of 90%" in sure.notes[0]


def test_surer_sequences_are_shorter() -> None:
    lengths = []
    for chance in (0.01, 0.99):
        scenario = Scenario.load(*NAMES, **JOB, fit_chance=chance)
        (one,) = longest_sequences(scenario, [8], Bounds.parse({"zero": 3, "tp": 1}))
        lengths.append(one.seq_len)
    assert lengths[0] is not None
    assert lengths[1] is not None
    assert lengths[0] > lengths[1]


@pytest.mark.parametrize("chance", [0.0, 1.0, -1.0, 90.0, float("nan")])
def test_chances_are_over_0_and_under_1(chance: float) -> None:
    with pytest.raises(SpecError, match="--fit-chance"):
        found(chance)
