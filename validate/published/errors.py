"""How far predictions are from what was published: medians, bias, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from validate.published.predicted import Predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of some predictions of one quantity, each weighted by one over its repeats.

    Parameters
    ----------
    n, skipped
        Rows predicted, and not.
    mean, median, p90
        Of the absolute relative error.
    bias
        Mean relative error, with its sign.
    coverage
        Share of rows whose interval holds what was measured.
    """

    n: int
    skipped: int
    mean: float
    median: float
    p90: float
    bias: float
    coverage: float

    @classmethod
    def of(cls, rows: Iterable[Predicted]) -> Errors:
        """Return the errors of some rows; not a number where nothing is predicted."""
        all_rows = list(rows)
        done = [each for each in all_rows if each.error is not None]
        skipped = len(all_rows) - len(done)
        if not done:
            names = ("mean", "median", "p90", "bias", "coverage")
            return cls(n=0, skipped=skipped, **dict.fromkeys(names, float("nan")))
        error = np.array([each.error for each in done], dtype=float)
        weight = np.array([each.row.weight for each in done])
        covered = np.array([each.covered for each in done])
        return cls(
            n=len(done),
            skipped=skipped,
            mean=float(np.average(np.abs(error), weights=weight)),
            median=weighted_quantile(np.abs(error), weight, 0.5),
            p90=weighted_quantile(np.abs(error), weight, 0.9),
            bias=float(np.average(error, weights=weight)),
            coverage=float(np.average(covered, weights=weight)),
        )

    def record(self) -> dict[str, Any]:
        """Return the errors as JSON holds them, ``null`` where there is nothing."""
        named = {
            "median_abs_error": self.median,
            "p90_abs_error": self.p90,
            "mean_abs_error": self.mean,
            "bias": self.bias,
            "interval_coverage": self.coverage,
        }
        shown = {name: value if self.n else None for name, value in named.items()}
        return {"n": self.n, "skipped": self.skipped, **shown}


def weighted_quantile(values: Any, weights: Any, share: float) -> float:  # noqa: ANN401 - arrays
    """Return the least value that has so large a share of the weight at or below it.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), 0.5)
    2.0
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / np.sum(weights)
    return float(values[order][np.searchsorted(reached, share - 1e-12)])
