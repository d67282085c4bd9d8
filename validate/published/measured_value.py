"""What a row of the second schema measured, in SI units: the one mapping of its units."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from topologies.units import GIB, MILLI, TERA
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from validate.published.row import Row

PERCENT = 1e-2


class Metric(StrEnum):
    """What a number of a row says of a run."""

    PASSES = "passes per second"
    SECONDS = "seconds"
    FLOP_RATE = "FLOP/s of one accelerator"
    UTILISATION = "share of the dense peak"
    TOKENS = "tokens/s of all accelerators"
    TOKENS_OF_ONE = "tokens/s of one accelerator"
    BYTES = "bytes"
    LENGTH = "tokens"


#: Metric and factor to SI units of each unit. Of memory, tools print GiB and call them GB
#: (deepspeed ``runtime/utils.py``, ``see_memory_usage``).
UNITS: dict[str, tuple[Metric, float]] = {
    "iter/s": (Metric.PASSES, 1.0),
    "s": (Metric.SECONDS, 1.0),
    "ms": (Metric.SECONDS, MILLI),
    "TFLOP/s/GPU": (Metric.FLOP_RATE, TERA),
    "TFLOPS/GPU": (Metric.FLOP_RATE, TERA),
    "%": (Metric.UTILISATION, PERCENT),
    "tokens/s": (Metric.TOKENS, 1.0),
    "tokens/s/GPU": (Metric.TOKENS_OF_ONE, 1.0),
    "GB": (Metric.BYTES, GIB),
    "tokens": (Metric.LENGTH, 1.0),
}


def value_of(row: Row) -> tuple[Metric, float]:
    """Return what a row measured, and its value in SI units.

    Raises
    ------
    UnexpressedError
        If it has no value, or a unit that is not known.
    """
    unit = row.text("unit").removesuffix(" (as printed)")
    if unit not in UNITS:
        raise UnexpressedError(f"unit not known: {unit[:40] or 'none'}")
    metric, factor = UNITS[unit]
    return metric, row.number("value") * factor


def measured_seconds(row: Row, *, flop: float, tokens: float, peak: float) -> float:
    """Return how long one pass or step of a row took.

    Parameters
    ----------
    row
        What was measured.
    flop
        Of the pass or step on all accelerators, as the row's source counts them.
    tokens
        Of the pass or step.
    peak
        Dense peak of one accelerator, in FLOP/s.

    Raises
    ------
    UnexpressedError
        If no time follows from it.

    Examples
    --------
    >>> from validate.published.row import Row
    >>> rate = Row({"value": "10", "unit": "TFLOP/s/GPU", "gpus": "8"}, 1.0)
    >>> measured_seconds(rate, flop=8e14, tokens=0.0, peak=1.0)
    10.0
    """
    metric, value = value_of(row)
    if metric is Metric.SECONDS:
        return value
    each = row.count("gpus")
    counted = {
        Metric.PASSES: 1.0,
        Metric.FLOP_RATE: flop / each,
        Metric.UTILISATION: flop / each / peak,
        Metric.TOKENS: tokens,
        Metric.TOKENS_OF_ONE: tokens / each,
    }
    if metric not in counted or value <= 0:
        raise UnexpressedError(f"no time follows from {value:g} {metric}")
    return counted[metric] / value
