"""Cross-validation that leaves whole sources out, with a made-up fit."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from tests.validate.published.made_up import guess, row
from validate.published.left_out import by_source_left_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.published.predicted import Predicted
    from validate.published.row import Row

#: Steps take twice, twice and three times the work.
ROWS = [
    row(source=source, family=family, work=work, step_s=factor * work)
    for source, family, factor in (("a1", "a", 2.0), ("a2", "a", 2.0), ("b", "", 3.0))
    for work in (1.0, 2.0)
]


def _factor(rows: Sequence[Row]) -> float:
    """Fit the seconds of a unit of work."""
    return fmean(each.number("step_s") / each.number("work") for each in rows)


def _predict(rows: Sequence[Row], factor: float) -> list[Predicted]:
    return [guess(each, each.number("step_s"), factor * each.number("work")) for each in rows]


def test_each_source_is_predicted_by_what_the_others_say() -> None:
    found = by_source_left_out(ROWS, _factor, _predict)
    assert list(found) == ["overall", "a1", "a2", "b"]
    # 3 seconds of b alone, not of a1 and b: releases of one family leave together
    assert found["a1"].bias == found["a2"].bias == pytest.approx(3.0 / 2.0 - 1.0)
    assert found["b"].bias == pytest.approx(2.0 / 3.0 - 1.0)
    assert [errors.n for errors in found.values()] == [6, 2, 2, 2]


def test_no_fit_sees_what_it_predicts() -> None:
    seen: list[set[str]] = []

    def spy(rows: Sequence[Row]) -> set[str]:
        return {each.text("source") for each in rows}

    def predict(rows: Sequence[Row], fitted_to: set[str]) -> list[Predicted]:
        seen.append(fitted_to)
        assert not fitted_to & {each.text("source") for each in rows}
        return _predict(rows, 1.0)

    by_source_left_out(ROWS, spy, predict)
    assert seen == [{"b"}, {"a1", "a2"}]


def test_one_source_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="one source only: a"):
        by_source_left_out(ROWS[:4], _factor, _predict)
