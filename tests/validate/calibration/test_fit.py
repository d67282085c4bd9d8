"""Least squares over logarithms: figures found back, errors of points that no fit has seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validate.calibration.fit import FURTHEST, fit

NBYTES = np.geomspace(1e2, 1e7, 40)
START = {"start": 1e-5, "per_byte": 1e-8}


def line(values, which):
    return (values["start"] + values["per_byte"] * NBYTES)[which]


def level(values, which):
    return np.full(len(which), values["level"])


@given(
    start=st.floats(1e-6, 1e-3),
    rate=st.floats(3e8, 3e9),
    seed=st.integers(0, 2**20),
)
def test_figures_and_the_noise_are_found_back(start, rate, seed):
    noise = np.exp(0.03 * np.random.default_rng(seed).standard_normal(len(NBYTES)))
    seconds = (start + NBYTES / rate) * noise
    found = fit(START, line, seconds, 0)
    told = found.summary()
    assert found.values["per_byte"] * rate == pytest.approx(1.0, rel=0.08)
    if start * rate > 2 * NBYTES[0]:
        assert found.values["start"] / start == pytest.approx(1.0, rel=0.1)
    assert 0.008 < told["in_sample_median"] < 0.04
    assert 0.008 < told["held_out_median"] < 0.045
    assert told["held_out_median"] <= told["held_out_p90"] < 0.09


def test_points_that_are_three_times_as_slow_move_figures_little():
    seconds = 1e-4 + NBYTES / 1e9
    seconds[[3, 11, 22, 38]] *= 3.0
    found = fit(START, line, seconds, 0)
    assert found.values["start"] == pytest.approx(1e-4, rel=0.03)
    assert found.values["per_byte"] == pytest.approx(1e-9, rel=0.03)
    assert sorted(found.in_sample)[3] < -0.6 < -0.1 < sorted(found.in_sample)[4]


def test_errors_held_out_are_of_fits_that_have_not_seen_the_point():
    """Of five points each is a fold; the others agree on what the last one is not."""
    found = fit({"level": 3.0}, level, np.array([1.0, 1.0, 1.0, 1.0, 10.0]), 0)
    assert found.held_out[4] == pytest.approx(-0.9, abs=1e-5)
    assert found.in_sample[4] > -0.9 + 1e-4
    assert all(found.held_out[:4] > found.in_sample[:4] + 1e-4)


def test_every_point_is_held_out_once_however_few_there_are():
    for count in range(1, 13):
        seconds = np.arange(1.0, count + 1.0)
        found = fit({"level": 2.0}, level, seconds, 0)
        assert len(found.held_out) == count
        assert np.isfinite(found.held_out).all()
        # Whoever is held out has its error from the others, of which it is none.
        assert count == 1 or not np.isclose(found.held_out, found.in_sample).all()


def test_heavier_points_pull_harder():
    seconds = np.array([1.0, 1.0, 2.0, 2.0])
    light, heavy = (
        fit({"level": 1.4}, level, seconds, 0, np.array(weights)).values["level"]
        for weights in ([1e3, 1e3, 1.0, 1.0], [1.0, 1.0, 1e3, 1e3])
    )
    assert light == pytest.approx(1.0, rel=0.01)
    assert heavy == pytest.approx(2.0, rel=0.01)


def test_only_the_proportions_of_weights_matter():
    seconds, weights = np.array([1.0, 1.5, 2.0, 2.0]), np.array([1.0, 4.0, 2.0, 3.0])
    one, other = (
        fit({"level": 1.4}, level, seconds, 0, factor * weights).values["level"]
        for factor in (1.0, 1e6)
    )
    assert one == pytest.approx(other, rel=1e-6)


def test_the_same_seed_gives_the_same_folds():
    seconds = 1e-4 + NBYTES / 1e9 * np.exp(0.1 * np.sin(np.arange(len(NBYTES))))
    one, same, other = (fit(START, line, seconds, seed).held_out for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_a_figure_that_nothing_fixes_stays_within_reach_of_its_start():
    found = fit({"level": 1.0}, level, np.full(6, 1e9), 0)
    assert found.values["level"] <= FURTHEST * (1 + 1e-9)


def test_a_summary_tells_points_errors_and_range():
    told = fit({"level": 1.0}, level, np.array([2.0, 2.0, 2.0, 2.0, 4.0]), 0).summary()
    assert told["parameters"] == ["level"]
    assert (told["points"], told["lowest"], told["highest"]) == (5, 2.0, 4.0)
    assert told["in_sample_median"] < 0.05
    assert told["held_out_median"] < 0.05 < told["held_out_p90"] < 0.5


def test_a_rate_that_something_else_hides_where_the_fit_starts_is_found_back():
    work = np.array([1.0, 2.0, 4.0, 8.0])

    def bounded(values, which):
        return np.maximum(work / values["rate"], 0.1 * work)[which]

    found = fit({"rate": 40.0}, bounded, work / 5.0, seed=0)
    assert found.values["rate"] == pytest.approx(5.0)
