"""Errors by hand: median, 90th percentile, bias, intervals, each row weighed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.validate.published.made_up import guess, row
from validate.published.errors import Errors, weighted_quantile
from validate.published.memory_limits import MemoryLimits
from validate.published.predicted import Quantity


def test_errors_are_those_of_a_hand_count() -> None:
    # errors 0.1, -0.2, 0.3 and 0.0, of which one repeats: weights 1, 1, 1/2, 1/2
    rows = [
        guess(row(), 10.0, 11.0, interval=(9.0, 12.0)),
        guess(row(), 10.0, 8.0, interval=(7.0, 9.0)),
        guess(row(weight=0.5), 10.0, 13.0, interval=(9.0, 20.0)),
        guess(row(weight=0.5), 10.0, 10.0),
        guess(row(), 10.0, None),
    ]
    found = Errors.of(rows)
    assert (found.n, found.skipped) == (4, 1)
    assert found.mean == pytest.approx((0.1 + 0.2 + 0.15) / 3)
    assert found.bias == pytest.approx((0.1 - 0.2 + 0.15) / 3)
    assert found.coverage == pytest.approx(1.5 / 3)
    assert found.median == pytest.approx(0.1)  # 0.0 and 0.1 hold half of the weight
    assert found.p90 == pytest.approx(0.3)


def test_errors_of_nothing_are_null() -> None:
    shown = Errors.of([guess(row(), 1.0, None)]).record()
    assert (shown["n"], shown["skipped"]) == (0, 1)
    assert {shown[name] for name in shown if name not in ("n", "skipped")} == {None}


def test_quantiles_weigh() -> None:
    assert weighted_quantile(np.array([1.0, 9.0]), np.array([3.0, 1.0]), 0.5) == 1.0
    values = np.arange(1.0, 11.0)
    assert weighted_quantile(values, np.ones(10), 0.9) == 9.0


def test_runs_without_memory_and_runs_that_ran_are_counted_apart() -> None:
    twice = row()
    rows = [
        guess(row(), 0.0, 0.0, quantity=Quantity.FITS, fits=False),
        guess(row(), 0.0, 1.0, quantity=Quantity.FITS, fits=True),
        guess(twice, 1.0, 1.0, fits=True),
        guess(twice, 2.0, 1.0, quantity=Quantity.MEMORY, fits=True),  # the same run
        guess(row(), 1.0, 1.0, fits=False),
        guess(row(), 1.0, None),
    ]
    found = MemoryLimits.of(rows)
    assert (found.ended, found.ended_right, found.ran, found.ran_right) == (2, 1, 2, 1)


def test_whether_a_run_fits_has_no_relative_error() -> None:
    assert guess(row(), 0.0, 1.0, quantity=Quantity.FITS, fits=True).error is None
