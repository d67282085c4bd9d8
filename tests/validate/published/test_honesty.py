"""Errors that could not be otherwise would say nothing: what must move them does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import planner.scenario
from tests.validate.published.sample import sample
from validate.published.accuracy import Accuracy
from validate.published.errors import Errors
from validate.published.job_of import scenario_of
from validate.published.parts import parts

if TYPE_CHECKING:
    from models.profile import Profile
    from validate.published.predicted import Predicted

#: Times a layer's parameters are read for one micro-batch, at least: forward and backward.
READS = 2
#: Bytes of the smallest type that parameters are read in (fp4).
LEAST_BYTES = 0.5


@pytest.fixture(scope="module")
def done() -> list[Predicted]:
    return [each for each in sample().counted if each.error is not None]


def test_most_rows_are_predicted_and_all_others_say_why_not() -> None:
    found = sample()
    assert all((each.error is None) == bool(each.skipped_because) for each in found.times)
    errors = Errors.of(found.counted)
    assert errors.n >= 0.9 * (errors.n + errors.skipped)


def test_shuffled_measurements_are_noticed(done: list[Predicted]) -> None:
    right = Errors.of(done)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(done))
        shuffled = Errors.of(
            replace(each, measured=done[at].measured) for each, at in zip(done, order, strict=True)
        )
        assert shuffled.median > 5 * right.median
        assert shuffled.p90 > 5 * right.p90


def test_measurements_shuffled_inside_each_source_are_noticed(done: list[Predicted]) -> None:
    random, shuffled = np.random.default_rng(0), []
    for rows in parts(done)["source"].values():
        order = random.permutation(len(rows))
        shuffled += [
            replace(e, measured=rows[at].measured) for e, at in zip(rows, order, strict=True)
        ]
    assert Errors.of(shuffled).mean > 4 * Errors.of(done).mean


@pytest.mark.parametrize("name", ["gemm_fraction", "hbm_fraction"])
def test_a_parameter_that_is_off_by_a_fifth_moves_the_table(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = planner.scenario.load_profile

    def slower(accelerator: str) -> Profile:
        profile = usual(accelerator)
        figure = getattr(profile, name)
        return replace(profile, **{name: replace(figure, value=0.8 * figure.value)})

    some = replace(sample().tables[0], rows=sample().tables[0].rows[::10])
    before = Accuracy.of([some], "AB")
    monkeypatch.setattr(planner.scenario, "load_profile", slower)
    after = Accuracy.of([some], "AB")
    moved = [
        each.predicted / other.predicted
        for each, other in zip(after.times, before.times, strict=True)
        if each.predicted and other.predicted
    ]
    assert moved
    assert min(moved) >= 1.0
    assert np.median(moved) > {"gemm_fraction": 1.05, "hbm_fraction": 1.005}[name]
    bias = [Errors.of(found.counted).bias for found in (before, after)]
    assert bias[1] > bias[0] + 0.005


def test_no_prediction_is_faster_than_physics(done: list[Predicted]) -> None:
    assert len(done) > 200
    for each in done:
        assert each.predicted is not None
        assert each.predicted > bound_s(each), each.row.text("id")


def test_a_prediction_faster_than_physics_would_be_noticed(done: list[Predicted]) -> None:
    shares = [bound_s(each) / (each.predicted or 1.0) for each in done]
    assert max(shares) > 0.5  # the bound is near enough to what some runs reach
    assert np.median(shares) > 0.2


def bound_s(each: Predicted) -> float:
    """Return the seconds below which no step can be: products at the peak, or parameters read.

    Written apart from the models: 6 FLOP for each token and parameter that it uses (embeddings look
    up, they do not multiply), none for attention; parameters of the layers read from memory twice a
    micro-batch at half a byte each, sharded over tensor- and pipeline-parallel ranks.
    """
    scenario, layout = scenario_of(each.row), each.layout
    model, work = scenario.architecture, scenario.workload
    assert layout is not None
    embeddings = model.vocab * model.hidden * (1 if model.tied else 2)
    active, whole = model.active_params - embeddings, model.params - embeddings
    chip = scenario.device.accelerator
    products = (
        6.0 * active * work.tokens_per_step / (layout.gpus * chip.peak_flops(work.recipe.peak))
    )
    micro_batches = work.global_batch / (layout.dp * layout.micro_batch)
    held = whole / (layout.tp * layout.pp * max(layout.ep, 1))
    read = READS * micro_batches * held * LEAST_BYTES / float(chip.hbm_Bps)
    return max(products, read)
