"""Rank agreement: which rows make a job, Kendall's tau against SciPy's, regret by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from tests.validate.published.made_up import guess, row
from validate.published.predicted import Predicted, Quantity
from validate.published.sweeps import JOB, Sweeps


def _sweep(measured: list[float], predicted: list[float], **cells: object) -> list[Predicted]:
    pairs = zip(measured, predicted, strict=True)
    return [guess(row(**cells), m, p, tp=2**at) for at, (m, p) in enumerate(pairs)]


def test_a_sweep_is_ranked_and_its_choice_regretted() -> None:
    found = Sweeps.of(_sweep([1.0, 1.02, 2.0], [2.0, 1.5, 1.0]))
    assert (found.jobs, found.pairs) == (1, 2)  # one pair is too close
    assert (found.tau, found.regret, found.worst_regret) == (-1.0, 1.0, 1.0)


def test_tau_is_scipys_where_all_pairs_are_far_apart() -> None:
    random = np.random.default_rng(7)
    measured = list(1.1 ** random.permutation(12))
    predicted = list(random.permutation(12) + 1.0)
    found = Sweeps.of(_sweep(measured, predicted))
    assert found.pairs == 66
    assert found.tau == pytest.approx(kendalltau(measured, predicted).statistic)


def test_tau_pools_pairs_and_regret_averages_jobs() -> None:
    right = _sweep([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], source="right")  # 6 pairs
    wrong = _sweep([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], source="wrong")  # 3 pairs
    found = Sweeps.of(right + wrong)
    assert (found.jobs, found.pairs) == (2, 9)
    assert found.tau == pytest.approx((6 - 3) / 9)
    assert (found.regret, found.worst_regret) == (1.0, 2.0)


def test_layouts_predicted_alike_are_ranked_neither_way() -> None:
    found = Sweeps.of(_sweep([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))
    assert (found.pairs, found.tau, found.regret) == (3, 0.0, 1.0)


@pytest.mark.parametrize("name", JOB)
def test_rows_that_differ_in_more_than_the_layout_are_no_sweep(name: str) -> None:
    layouts = _sweep([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], **{name: "same"})
    assert Sweeps.of(layouts).jobs == 1
    other = guess(row(**{name: "other"}), 3.0, 3.0, tp=4)
    assert Sweeps.of([*layouts[:2], other]).jobs == 0


def test_repeats_of_a_layout_are_one_layout() -> None:
    once = _sweep([1.0, 2.0], [1.0, 2.0])
    again = guess(once[0].row, 3.0, 1.0, tp=1)
    assert Sweeps.of([*once, again]).jobs == 0
    third = guess(once[0].row, 4.0, 0.5, tp=4)
    found = Sweeps.of([*once, again, third])  # means 2 and 2 are alike; the third is chosen
    assert (found.jobs, found.pairs, found.regret) == (1, 2, 1.0)


def test_only_times_are_ranked() -> None:
    memory = [
        guess(row(), value, value, tp=2**at, quantity=Quantity.MEMORY)
        for at, value in enumerate((1.0, 2.0, 3.0))
    ]
    assert Sweeps.of(memory).record() == {
        "jobs": 0,
        "pairs": 0,
        "kendall_tau": None,
        "mean_regret": None,
        "max_regret": None,
    }
