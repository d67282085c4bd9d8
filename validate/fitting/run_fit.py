"""Figures of profiles fitted to published training runs, and how runs left out are predicted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import least_squares

from models.profile import load_profile
from topologies.errors import Problem, SpecError
from validate.fitting.run_figures import FIGURES, NAMES, scaled
from validate.published.columns import TRAINING_RUN
from validate.published.evaluated import evaluate
from validate.published.left_out import by_source_left_out, family_of
from validate.published.machine_of import machine_of
from validate.published.predicted import Predicted, Quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from validate.fitting.run_figures import RunFigure
    from validate.published.errors import Errors
    from validate.published.row import Row

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

#: Relative change by which slopes are taken.
STEP = 0.05
#: Relative errors beyond this count less than by their square.
ROBUST = 0.1
#: How far a figure is expected to move, in its logarithm: what no row tells of stays as it is.
PRIOR = 0.3


@dataclass(frozen=True, kw_only=True)
class RunFit:
    """Times of runs as they are predicted, and how they change with each figure.

    The logarithm of a time is taken as linear in the logarithms of the figures, around those of the
    profiles: fitted anew from fitted figures, it stays where it is.

    Parameters
    ----------
    rows
        Runs that are predicted.
    predicted
        What is predicted of each.
    error
        Logarithm of predicted over measured time, shape ``[rows]``.
    slopes
        Of that logarithm over that of each figure, shape ``[rows, figures]``.
    figures
        What is fitted.
    """

    rows: tuple[Row, ...]
    predicted: tuple[Predicted, ...]
    error: Floats
    slopes: Floats
    figures: tuple[RunFigure, ...] = FIGURES

    @classmethod
    def of(cls, predicted: Sequence[Predicted], progress: Callable[[int], None]) -> RunFit:
        """Predict runs once more for every figure.

        Parameters
        ----------
        predicted
            Steps of runs, of which those count that are training runs and were predicted.
        progress
            Called with the number of predictions made.
        """
        base = steps_of(predicted)
        known = [each.row for each in base]
        before = np.log([each.predicted or np.nan for each in base])
        measured = np.log([each.measured or np.nan for each in base])
        slopes: dict[str, Floats] = {}
        for turn, name in enumerate(NAMES):
            done = turn * len(known)
            changed = evaluate(
                known,
                lambda many, done=done: progress(done + many),  # type: ignore[misc]
                partial(scaled, name=name, factor=1.0 + STEP),
            )
            after = np.log([each.plan.step_time_s for each in changed if each.plan is not None])
            slopes[name] = (after - before) / np.log1p(STEP)
        profiles = [load_profile(machine_of(row).accelerator.name) for row in known]
        return cls(
            rows=tuple(known),
            predicted=tuple(base),
            error=before - measured,
            slopes=np.stack(
                [
                    slopes[figure.name] * [figure.of(profile) for profile in profiles]
                    for figure in FIGURES
                ],
                axis=1,
            ),
        )

    @cached_property
    def families(self) -> tuple[str, ...]:
        """What each row shares its software and machine with: releases of one benchmark are one."""
        return tuple(family_of(row) for row in self.rows)

    @cached_property
    def weights(self) -> Floats:
        """Weight of each row: of one family together the root of its number of rows."""
        many = Counter(self.families)
        return np.array(
            [
                row.weight / np.sqrt(many[family])
                for row, family in zip(self.rows, self.families, strict=True)
            ]
        )

    @cached_property
    def values(self) -> Floats:
        """Each figure as it is: of the make's first profile that a row uses."""
        found = []
        for figure in self.figures:
            profiles = (load_profile(machine_of(row).accelerator.name) for row in self.rows)
            own = next((each for each in profiles if figure.of(each)), None)
            found.append(np.nan if own is None else getattr(own, figure.name).value)
        return np.array(found)

    def solved(self, use: Bools | None = None) -> Floats:
        """Return the change of each figure's logarithm that predicts some rows best.

        Parameters
        ----------
        use
            Rows that are fitted to; all if not given.
        """
        use = np.ones(len(self.rows), dtype=bool) if use is None else use
        error, slopes = self.error[use], self.slopes[use]
        weights = np.sqrt(self.weights[use])
        most = np.log([figure.most for figure in self.figures]) - np.log(self.values)
        told = np.abs(slopes).sum(axis=0) > 0
        most = np.where(told & (most > 0), most, 1e-9)

        def residuals(change: Floats) -> Floats:
            apart: Floats = np.concatenate(
                [weights * (error + slopes @ change) / ROBUST, change / PRIOR]
            )
            return apart

        solved: Floats = least_squares(
            residuals, np.zeros(len(most)), loss="soft_l1", bounds=(-2.0, most)
        ).x
        return np.where(told, solved, 0.0)

    @cached_property
    def left_out(self) -> dict[str, Floats]:
        """The change fitted without each family, by family."""
        families = np.array(self.families)
        return {name: self.solved(families != name) for name in sorted(set(self.families))}

    def held_out(self) -> dict[str, Errors]:
        """Return the errors overall and of each source, by figures fitted without its family."""
        place = {id(row): at for at, row in enumerate(self.rows)}

        def fit(others: Sequence[Row]) -> Floats:
            use = np.zeros(len(self.rows), dtype=bool)
            use[[place[id(row)] for row in others]] = True
            return self.solved(use)

        def predict(rows: Sequence[Row], change: Floats) -> list[Predicted]:
            factors = np.exp(self.slopes @ change)
            return [_times(self.predicted[place[id(row)]], factors[place[id(row)]]) for row in rows]

        return by_source_left_out(self.rows, fit, predict)

    def told_by(self) -> list[tuple[int, int]]:
        """Return how many rows and families tell each figure: those it takes a hundredth of."""
        families = np.array(self.families)
        told = np.abs(self.slopes) > 0.01
        return [(int(use.sum()), len(set(families[use]))) for use in told.T]

    def figure_records(self) -> list[dict[str, Any]]:
        """Return each figure as it is, fitted, and its range with one family left out."""
        change = self.solved()
        left = np.array(list(self.left_out.values()))
        return [
            {
                "figure": str(figure),
                "value": float(value),
                "fitted": float(value * np.exp(moved)),
                "left_out": [float(value * np.exp(each)) for each in (low, high)],
                "rows": rows,
                "families": families,
            }
            for figure, value, moved, low, high, (rows, families) in zip(
                self.figures,
                self.values,
                change,
                left.min(axis=0),
                left.max(axis=0),
                self.told_by(),
                strict=True,
            )
            if rows
        ]

    def record(self) -> dict[str, Any]:
        """Return figures, and errors of sources left out, as JSON holds them."""
        return {
            "figures": self.figure_records(),
            "errors": {name: errors.record() for name, errors in self.held_out().items()},
        }


def steps_of(predicted: Sequence[Predicted]) -> list[Predicted]:
    """Return the steps of training runs that were predicted."""
    return [
        each
        for each in predicted
        if each.row.kind == TRAINING_RUN and each.quantity is Quantity.TIME and each.predicted
    ]


def check_families(predicted: Sequence[Predicted]) -> None:
    """Check that one family of sources can be left out, and another is there to fit to.

    Raises
    ------
    SpecError
        If steps of training runs are of fewer than two families.
    """
    found = sorted({family_of(each.row) for each in steps_of(predicted)})
    if len(found) <= 1:
        told = f"of one family of sources ({found[0]})" if found else "none"
        mend = f"rows of training runs of two families of sources at least; here are {told}"
        raise SpecError([Problem("--cross-validate", "on", mend)])


def _times(predicted: Predicted, factor: float) -> Predicted:
    """Return a prediction that takes so many times as long."""
    low, high = predicted.interval or (np.nan, np.nan)
    return replace(
        predicted,
        predicted=(predicted.predicted or np.nan) * factor,
        interval=(low * factor, high * factor),
    )
