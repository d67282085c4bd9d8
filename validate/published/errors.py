"""How far predictions are from what was published: medians, bias, intervals, rank agreement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from validate.published.predicted import Quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from validate.published.predicted import Predicted

#: Steps closer than this share are of equal length.
ALIKE = 0.05
#: Layouts of a job that make a sweep.
FEWEST_LAYOUTS = 3
#: What rows of one sweep have in common; of attention alone, its heads, mask and pass as well.
JOB = (
    *("source", "accelerator", "model", "seq_len", "gpus", "global_batch", "precision"),
    *("heads", "kv_heads", "head_dim", "causal", "pass"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of some rows, each weighted by one over its repeats.

    Parameters
    ----------
    n, skipped
        Rows predicted, and not.
    median, p90
        Of the absolute relative error.
    bias
        Mean relative error, with its sign.
    coverage
        Share of rows whose interval holds what was measured.
    """

    n: int
    skipped: int
    median: float
    p90: float
    bias: float
    coverage: float

    @classmethod
    def of(cls, rows: Iterable[Predicted]) -> Errors:
        """Return the errors of some rows; not a number where nothing is predicted."""
        all_rows = list(rows)
        done = [each for each in all_rows if each.error is not None]
        if not done:
            nothing = float("nan")
            values = {"median": nothing, "p90": nothing, "bias": nothing, "coverage": nothing}
            return cls(n=0, skipped=len(all_rows), **values)
        error = np.array([each.error for each in done], dtype=float)
        weight = np.array([each.row.weight for each in done])
        covered = np.array([each.covered for each in done])
        return cls(
            n=len(done),
            skipped=len(all_rows) - len(done),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """How well layouts of one job are ranked by their times, over all jobs with several.

    Parameters
    ----------
    jobs
        Jobs with at least three layouts.
    tau
        Kendall's, over pairs of layouts more than 5% apart; not a number without any.
    regret
        Mean of what the layout predicted to be best takes longer than the best one.
    """

    jobs: int
    tau: float
    regret: float

    @classmethod
    def of(cls, rows: Iterable[Predicted]) -> Sweeps:
        """Return the agreement over the sweeps among some rows."""
        sweeps = _sweeps(rows)
        agreeing = [sign for sweep in sweeps for sign in _pairs(sweep)]
        regrets = [_regret(sweep) for sweep in sweeps]
        return cls(
            jobs=len(sweeps),
            tau=float(np.mean(agreeing)) if agreeing else float("nan"),
            regret=float(np.mean(regrets)) if regrets else float("nan"),
        )

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        tau, regret = (None if np.isnan(x) else x for x in (self.tau, self.regret))
        return {"jobs": self.jobs, "kendall_tau": tau, "mean_regret": regret}


def _sweeps(rows: Iterable[Predicted]) -> list[list[Predicted]]:
    jobs: dict[tuple[str, ...], list[Predicted]] = defaultdict(list)
    for each in rows:
        if each.error is not None and each.quantity is Quantity.TIME:
            jobs[tuple(each.row.text(name) for name in JOB)].append(each)
    return [
        sweep
        for sweep in jobs.values()
        if len({str(each.layout) + str(each.layout and each.layout.to_dict()) for each in sweep})
        >= FEWEST_LAYOUTS
    ]


def _pairs(sweep: Sequence[Predicted]) -> list[int]:
    """Return 1 for each pair that is ranked right and -1 for each ranked wrong."""
    found = []
    for one, other in combinations(sweep, 2):
        measured = (one.measured or 0.0) / (other.measured or 1.0)
        predicted = (one.predicted or 0.0) / (other.predicted or 1.0)
        if abs(measured - 1.0) > ALIKE:
            found.append(1 if (measured > 1.0) == (predicted > 1.0) else -1)
    return found


def _regret(sweep: Sequence[Predicted]) -> float:
    chosen = min(sweep, key=lambda each: each.predicted or 0.0)
    fastest = min(each.measured or 0.0 for each in sweep)
    return (chosen.measured or 0.0) / fastest - 1.0
