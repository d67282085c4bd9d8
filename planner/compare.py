"""What makes one layout better than another, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.durations import seconds
from topologies.units import GIB

if TYPE_CHECKING:
    from planner.plans import Plan

#: What each part of a step is called in a sentence.
PART_NAMES = {
    "compute": "compute",
    "recompute": "recomputation",
    "tp": "exposed tensor-parallel communication",
    "cp": "exposed context-parallel communication",
    "ep": "exposed expert-parallel communication",
    "pp": "pipeline sends",
    "bubble": "pipeline bubble",
    "dp": "exposed gradient and parameter communication",
    "optimizer": "optimizer step",
    "overhead": "host overhead",
}
LINE_NAMES = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "activations": "activations",
    "logits": "logits and loss",
    "working": "one layer's backward pass",
    "buffers": "communication buffers",
    "step": "the optimizer's step beyond that",
    "fragmentation": "allocator reserve and fragmentation",
    "context": "device context",
    "communicators": "buffers of communicators",
    "workspaces": "workspaces of libraries",
}
#: What reports each sum of the bill.
SUM_NAMES = {
    "allocated": "tensors (allocated)",
    "reserved": "what the allocator holds (reserved)",
    "device": "in all (nvidia-smi)",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One term of a comparison.

    Parameters
    ----------
    term
        What it is.
    seconds
        How much longer it takes in the other layout; negative where that one is better.
    """

    term: str
    seconds: float


def differences(best: Plan, other: Plan) -> list[Difference]:
    """Return the terms in which two steps differ, the largest first."""
    found = [
        Difference(PART_NAMES[part], other.time_s[part] - best.time_s[part]) for part in best.time_s
    ]
    return sorted(found, key=lambda item: -abs(item.seconds))


def why_better(best: Plan, other: Plan) -> str:
    """Return a sentence on what makes `best` faster than `other`, and what it pays for it."""
    shift = other.step_time_s - best.step_time_s
    terms = [item for item in differences(best, other) if abs(item.seconds) >= 0.02 * abs(shift)]
    gains = ", ".join(f"{seconds(d.seconds)} less {d.term}" for d in terms if d.seconds > 0)
    pays = ", ".join(f"{seconds(-d.seconds)} more {d.term}" for d in terms if d.seconds < 0)
    return (gains or "no single term") + (f"; it pays {pays}" if pays else "")


def largest_line(plan: Plan) -> str:
    """Return the largest line of a memory bill in words, with its size."""
    line = max(plan.memory_bytes, key=lambda name: plan.memory_bytes[name])
    return f"{LINE_NAMES[line]} ({plan.memory_bytes[line] / GIB:.1f} GiB)"


def largest_part(plan: Plan) -> str:
    """Return the largest part of a step in words, with its share."""
    part = max(plan.time_s, key=lambda name: plan.time_s[name])
    return f"{PART_NAMES[part]} ({plan.time_s[part] / plan.step_time_s:.0%} of the step)"
