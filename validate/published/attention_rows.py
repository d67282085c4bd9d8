"""Predictions of published times of attention alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.published.asked import asked
from validate.published.attention_job import attention_job
from validate.published.attention_time import attention_seconds
from validate.published.measured_value import measured_seconds
from validate.published.predicted import Predicted, Quantity
from validate.published.row import UNPREDICTED, UnexpressedError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from validate.published.row import Row


def predict_attention(rows: Sequence[Row], progress: Callable[[int], None]) -> Iterator[Predicted]:
    """Return what is predicted of rows of attention alone: its time.

    Parameters
    ----------
    rows
        Of attention alone.
    progress
        Called with the number of rows done.
    """
    for done, row in enumerate(rows, start=1):
        for quantity in asked(row):
            try:
                yield _predicted(row, quantity)
            except UNPREDICTED as error:
                yield Predicted(row=row, quantity=quantity, skipped_because=reason_of(error))
        progress(done)


def _predicted(row: Row, quantity: Quantity) -> Predicted:
    if quantity is not Quantity.TIME:
        raise UnexpressedError("memory of attention alone is not predicted")
    job = attention_job(row)
    measured = measured_seconds(
        row,
        flop=job.flop,
        tokens=float(job.workload.tokens_per_step),
        peak=job.cluster.accelerator.bf16_flops.value,
    )
    seconds, interval = attention_seconds(job)
    return Predicted(
        row=row,
        quantity=quantity,
        measured=measured,
        layout=job.layout,
        predicted=seconds,
        interval=interval,
    )
