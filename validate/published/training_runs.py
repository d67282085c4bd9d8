"""Predictions of published training runs: what their plans say of what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from validate.published.asked import asked
from validate.published.evaluated import evaluate
from validate.published.memory_rows import predicted_memory
from validate.published.predicted import Predicted, Quantity
from validate.published.row import UNPREDICTED, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from planner.plans import Plan
    from validate.published.row import Row


def predict_runs(rows: Sequence[Row], progress: Callable[[int], None]) -> Iterator[Predicted]:
    """Return what is predicted of training runs: what each asks for, of what :data:`OF_PLAN` has.

    Parameters
    ----------
    rows
        Training runs.
    progress
        Called with the number of rows done.
    """
    for each in evaluate(rows, progress):
        for quantity in asked(each.row):
            of_plan = OF_PLAN.get(quantity)
            if of_plan is None:
                continue
            if each.plan is None:
                yield Predicted(row=each.row, quantity=quantity, skipped_because=each.reason)
                continue
            try:
                yield replace(of_plan(each.row, each.plan), scenario=each.scenario)
            except UNPREDICTED as error:
                yield Predicted(row=each.row, quantity=quantity, skipped_because=reason_of(error))


def _step(row: Row, plan: Plan) -> Predicted:
    """Return the seconds of one step."""
    return Predicted(
        row=row,
        quantity=Quantity.TIME,
        measured=row.number("step_s"),
        layout=plan.layout,
        predicted=plan.step_time_s,
        interval=plan.interval_s,
        fits=plan.fits,
    )


def _fits(row: Row, plan: Plan) -> Predicted:
    """Return whether a run that ended without memory is said to fit."""
    return Predicted(
        row=row,
        quantity=Quantity.FITS,
        measured=0.0,
        layout=plan.layout,
        predicted=float(plan.fits),
        fits=plan.fits,
    )


#: What a plan tells of each quantity that a row may ask for.
OF_PLAN: dict[Quantity, Callable[[Row, Plan], Predicted]] = {
    Quantity.TIME: _step,
    Quantity.MEMORY: predicted_memory,
    Quantity.FITS: _fits,
}
