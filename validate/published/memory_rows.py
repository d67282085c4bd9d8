"""Memory of published runs, predicted as what was measured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from topologies.units import GIB
from validate.published.predicted import Predicted, Quantity

if TYPE_CHECKING:
    from planner.plans import Plan
    from validate.published.row import Row

#: Which sum of the bill (:data:`models.memory_bill.SUMS`) is meant by the words of tables; the
#: first that fits. What says nothing of a tool is what such tables nearly always print: torch's own
#: peak of tensors.
KINDS = (
    (r"nvidia-smi|nvml|rocm-smi|device|hbm", "device"),
    (r"reserved|pool", "reserved"),
    (r"", "allocated"),
)


def memory_kind(row: Row) -> str:
    """Return which sum of the bill a row's memory is."""
    said = row.text("memory_kind").lower()
    return next(kind for words, kind in KINDS if re.search(words, said))


def predicted_memory(row: Row, plan: Plan) -> Predicted:
    """Return the bytes on the fullest rank, of the kind that a row states.

    Raises
    ------
    UnexpressedError
        If its number is none.
    """
    predicted = plan.memory_sums_bytes[memory_kind(row)]
    low, high = (bound / plan.memory_total_bytes for bound in plan.memory_interval_bytes)
    return Predicted(
        row=row,
        quantity=Quantity.MEMORY,
        measured=row.number("peak_memory") * GIB,
        layout=plan.layout,
        predicted=predicted,
        interval=(predicted * low, predicted * high),
        fits=plan.fits,
    )
