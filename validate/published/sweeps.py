"""How well predictions rank layouts of one job."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from validate.published.predicted import Quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.layout import Layout
    from validate.published.predicted import Predicted

#: Steps closer than this share are of equal length.
ALIKE = 0.05
#: Layouts of a job that make a sweep.
FEWEST_LAYOUTS = 3
#: What rows of one sweep have in common: they differ in layout only. Tables give two models one
#: name now and then, one source measures on several machines, and attention alone is measured by
#: its shape, masks and passes.
JOB = (
    "source",
    "model",
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "head_dim",
    "task",
    "pass",
    "causal",
    "seq_len",
    "accelerator",
    "gpus",
    "global_batch",
    "precision",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """Agreement over all jobs of which several layouts were measured.

    Parameters
    ----------
    jobs
        Jobs with at least three layouts.
    pairs
        Pairs of layouts of one job whose steps are more than 5% apart.
    tau
        Kendall's, pooled over these pairs: ranked right less ranked wrong, over all; a tie is
        neither. Not a number without any.
    regret, worst_regret
        Mean and largest of what the layout predicted to be best takes longer than the best one.
    """

    jobs: int
    pairs: int
    tau: float
    regret: float
    worst_regret: float

    @classmethod
    def of(cls, rows: Iterable[Predicted]) -> Sweeps:
        """Return the agreement over the sweeps among some rows; others than times do not count."""
        sweeps = sweeps_of(rows)
        signs = [sign for sweep in sweeps for sign in _signs(sweep)]
        regrets = [_regret(sweep) for sweep in sweeps]
        nothing = float("nan")
        return cls(
            jobs=len(sweeps),
            pairs=len(signs),
            tau=fmean(signs) if signs else nothing,
            regret=fmean(regrets) if regrets else nothing,
            worst_regret=max(regrets, default=nothing),
        )

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it, ``null`` where there is nothing."""
        named = {
            "kendall_tau": self.tau,
            "mean_regret": self.regret,
            "max_regret": self.worst_regret,
        }
        shown = {name: None if np.isnan(value) else value for name, value in named.items()}
        return {"jobs": self.jobs, "pairs": self.pairs, **shown}


class _Run(NamedTuple):
    """One layout of a sweep: the mean of its repeats."""

    measured: float
    predicted: float


def sweeps_of(rows: Iterable[Predicted]) -> list[list[_Run]]:
    """Return for each job with enough layouts what was measured and predicted of each of them."""
    jobs: dict[tuple[str, ...], dict[Layout | None, list[Predicted]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in rows:
        if each.error is not None and each.quantity is Quantity.TIME:
            jobs[tuple(each.row.text(name) for name in JOB)][each.layout].append(each)
    return [
        [_mean(repeats) for repeats in layouts.values()]
        for layouts in jobs.values()
        if len(layouts) >= FEWEST_LAYOUTS
    ]


def _mean(repeats: Sequence[Predicted]) -> _Run:
    return _Run(
        fmean(each.measured or 0.0 for each in repeats),
        fmean(each.predicted or 0.0 for each in repeats),
    )


def _signs(sweep: Sequence[_Run]) -> Iterator[int]:
    """Give 1 for each pair that is ranked right, -1 for each ranked wrong, 0 for a tie."""
    for one, other in combinations(sweep, 2):
        slower, faster = max(one, other), min(one, other)
        if slower.measured > faster.measured * (1.0 + ALIKE):
            yield int(np.sign(slower.predicted - faster.predicted))


def _regret(sweep: Sequence[_Run]) -> float:
    """Return what the chosen layout takes longer; of several chosen alike, their mean."""
    least = min(run.predicted for run in sweep)
    chosen = fmean(run.measured for run in sweep if run.predicted == least)
    return chosen / min(run.measured for run in sweep) - 1.0
