"""Which quantities of a published run were measured, so that a prediction is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.published.predicted import Quantity

if TYPE_CHECKING:
    from validate.published.row import Row

OUT_OF_MEMORY = "OOM"
#: What rows call a result that a time follows from, a memory, and a length.
TIMES = ("throughput", "MFU", "MFU at max length", "step time", "iteration time", "latency")
MEMORIES = ("peak memory",)
LENGTHS = ("max sequence length",)


def asked(row: Row) -> tuple[Quantity, ...]:
    """Return what a row measured, the most telling first; nothing where it states no result.

    A run that ended without memory tells that it does not fit, and nothing else.
    """
    if ran_out_of_memory(row):
        return (Quantity.FITS,)
    metric = row.text("metric") if row.text("value") else ""
    there = {
        Quantity.TIME: bool(row.text("step_s")) or metric in TIMES,
        Quantity.LENGTH: metric in LENGTHS,
        Quantity.MEMORY: bool(row.text("peak_memory")) or metric in MEMORIES,
    }
    return tuple(quantity for quantity, stated in there.items() if stated)


def ran_out_of_memory(row: Row) -> bool:
    """Return whether a run ended for want of memory; tables say so in one of two columns."""
    said = (row.text("memory_kind"), row.text("status"))
    return any(text.startswith(OUT_OF_MEMORY) for text in said)
