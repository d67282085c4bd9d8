"""Rows that no fit takes, each rule with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from validate.fitting.sample import BACKWARD, DECODE, FORWARD, NARROW_PRODUCT
from validate.fitting.work import flop, moved_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from topologies.accelerator import Accelerator
    from validate.fitting.sample import Marks, Sample

#: Share of rows beyond what the device can do from which on all of a sample is in doubt.
DOUBT = 0.05
#: Bytes that no cache of these devices holds.
UNCACHED = 2.0**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rows to leave out.

    Parameters
    ----------
    name, reason
        What they are, and why they say nothing.
    broken
        Marks them.
    """

    name: str
    reason: str
    broken: Callable[[Sample, Accelerator], Marks]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many rows of a source a rule leaves out."""

    source: str
    library: str
    kind: str
    rule: Rule
    rows: int


def kept(samples: Iterable[Sample], accelerator: Accelerator) -> tuple[list[Sample], list[LeftOut]]:
    """Return the samples without rows that break a rule, and what was left out."""
    good: list[Sample] = []
    out: list[LeftOut] = []
    for sample in samples:
        rest = sample
        for rule in RULES:
            broken = rule.broken(rest, accelerator)
            if broken.any():
                rows = int(broken.sum())
                out.append(
                    LeftOut(
                        source=rest.source,
                        library=rest.library,
                        kind=rest.kind,
                        rule=rule,
                        rows=rows,
                    )
                )
            rest = rest.only(~broken)
        if len(rest):
            good.append(rest)
    return good, out


def _impossible(sample: Sample, accelerator: Accelerator) -> Marks:
    narrow = sample.kind == NARROW_PRODUCT
    peak = accelerator.peak_flops("fp8" if narrow else "bf16")
    computed = flop(sample) > peak * sample.seconds
    nbytes = moved_bytes(sample)
    moved = (nbytes > UNCACHED) & (nbytes > accelerator.hbm_Bps.value * sample.seconds)
    return computed | moved


def _doubtful(sample: Sample, accelerator: Accelerator) -> Marks:
    whole = len(sample) and _impossible(sample, accelerator).mean() > DOUBT
    return np.full(len(sample), bool(whole))


def _short(sample: Sample, _: Accelerator) -> Marks:
    if sample.kind not in (FORWARD, BACKWARD):
        return np.zeros(len(sample), bool)
    tokens = sample.shapes["tokens"]
    return (sample.shapes["b"] * tokens < 1024.0) | (tokens < 256.0)


def _wide(sample: Sample, _: Accelerator) -> Marks:
    if sample.kind not in (FORWARD, BACKWARD, DECODE):
        return np.zeros(len(sample), bool)
    return sample.shapes["width"] > 256.0


def _narrow_for_its_device(sample: Sample, accelerator: Accelerator) -> Marks:
    """Mark widths at which a library's kernels are less than half as fast as at smaller ones."""
    if sample.kind not in (FORWARD, BACKWARD):
        return np.zeros(len(sample), bool)
    widths = sample.shapes["width"]
    rates = flop(sample) / sample.seconds
    best = {width: rates[widths == width].max() for width in np.unique(widths)}
    fallen = [
        width
        for width in best
        if any(best[width] < 0.5 * best[less] for less in best if less < width)
    ]
    return np.isin(widths, fallen)


def _cast(sample: Sample, _: Accelerator) -> Marks:
    if sample.kind != NARROW_PRODUCT:
        return np.zeros(len(sample), bool)
    few = (sample.shapes["m"] < 1024.0) | (sample.shapes["n"] < 4096.0)
    return (sample.shapes["cast"] > 0.0) & few


#: In order: the first speaks of whole samples.
RULES = (
    Rule(
        name="doubtful sample",
        reason="so many of its rows are faster than the device can be that it timed something else",
        broken=_doubtful,
    ),
    Rule(
        name="faster than the device",
        reason="more FLOP than its peak or more bytes than its memory moves in that time",
        broken=_impossible,
    ),
    Rule(
        name="mostly a cast",
        reason="below 1,024 rows or 4,096 columns quantising the input, which each library does in "
        "its own way, takes a large part of the time",
        broken=_cast,
    ),
    Rule(
        name="short attention",
        reason="below 1,024 tokens or 256 of a sequence launches decide, not rates",
        broken=_short,
    ),
    Rule(
        name="wide heads",
        reason="flash kernels stop at 256 columns; other kernels do wider heads",
        broken=_wide,
    ),
    Rule(
        name="a width without a kernel",
        reason="less than half as fast as narrower heads: the library falls back to other kernels",
        broken=_narrow_for_its_device,
    ),
)
