"""Every published run with what is predicted of it, by whoever predicts its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.published.asked import asked
from validate.published.attention_rows import predict_attention
from validate.published.columns import ATTENTION_ONLY, TRAIN_STEP, TRAINING_RUN
from validate.published.predicted import Predicted, Quantity
from validate.published.sequence_steps import predict_steps
from validate.published.training_runs import predict_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from validate.published.row import Row

    Predictor = Callable[[Sequence[Row], Callable[[int], None]], Iterable[Predicted]]

#: Who predicts each kind of row: called once with all of them, and with what counts rows done; it
#: gives any of what each row asks for, in any order.
PREDICTORS: Mapping[str, Predictor] = {
    TRAINING_RUN: predict_runs,
    ATTENTION_ONLY: predict_attention,
    TRAIN_STEP: predict_steps,
}


def predict(
    rows: Iterable[Row],
    progress: Callable[[int], None] | None = None,
    predictors: Mapping[str, Predictor] = PREDICTORS,
) -> tuple[Predicted, ...]:
    """Return the predictions of some rows, in order: one for each quantity that a row asks for.

    What nobody predicts is there too, skipped, with the reason.

    Parameters
    ----------
    rows
        What was published.
    progress
        Called now and then with the number of rows done.
    predictors
        Who predicts each kind of row.
    """
    all_rows = list(rows)
    at = {id(row): place for place, row in enumerate(all_rows)}
    found: dict[tuple[int, Quantity], Predicted] = {}
    done = 0
    for kind, predictor in predictors.items():
        members = [row for row in all_rows if row.kind == kind]
        for each in predictor(members, _after(done, progress)):
            found[at[id(each.row)], each.quantity] = each
        done += len(members)
    return tuple(
        found.get((place, quantity)) or _unpredicted(row, quantity)
        for place, row in enumerate(all_rows)
        for quantity in asked(row) or (Quantity.TIME,)
    )


def _after(done: int, progress: Callable[[int], None] | None) -> Callable[[int], None]:
    """Return what counts rows on from those already done."""
    return (lambda _: None) if progress is None else (lambda many: progress(done + many))


def _unpredicted(row: Row, quantity: Quantity) -> Predicted:
    reason = f"{quantity} of {row.kind} rows is not predicted"
    if not asked(row):
        reason = "nothing measured that can be predicted"
    return Predicted(row=row, quantity=quantity, skipped_because=reason)
