"""What one layout could have been: every value of every axis, and why some cannot be.

Changing one axis of a legal layout seldom leaves a legal one: degrees must multiply to the
accelerators there are, chunks of a pipeline belong to schedules. So the axes that depend on the one
that is changed follow it, as :func:`changed` says; what then still breaks a rule is refused, with
the rule's own sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

from models.layout import AXES, SWITCHES, Layout, LayoutBatch
from models.legality import legal, problems
from models.named_axes import (
    NAMED_AXES,
    CpMethod,
    Dispatch,
    Recompute,
    RecomputeMethod,
    Schedule,
    StageSplit,
)
from models.recompute_modules import USUAL_MODULES, RecomputeModules
from models.rules.experts import mixtures
from models.schedule import CHUNKED, SEVERAL_CHUNKS, VEE, VEE_CHUNKS
from planner.bounds import flag
from planner.options import INTERLEAVINGS
from planner.recompute_sets import module_sets
from planner.space import LARGEST_MICRO_BATCH
from topologies.divisors import divisors

if TYPE_CHECKING:
    from models.rules.rule import Job
    from planner.scenario import Scenario

#: Axes that take their ranks from data parallelism, and give them back to it.
_FROM_DP = ("tp", "ulysses", "ring", "pp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One value of one axis.

    Parameters
    ----------
    axis, value
        The axis, and the value as layouts have it.
    label
        The value as users write it.
    layout
        The whole layout with it.
    refused
        Why it cannot be: a sentence for every rule that is broken; empty where it can.
    """

    axis: str
    value: Any
    label: str
    layout: Layout
    refused: tuple[str, ...]


def alternatives(scenario: Scenario, layout: Layout) -> dict[str, tuple[Alternative, ...]]:
    """Return the values of every axis, the one that a layout has among them.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Where to start from.
    """
    job = scenario.job
    tried = [
        (axis, value, changed(layout, axis, value, job))
        for axis in AXES
        for value in sorted({*_candidates(axis, layout, job), getattr(layout, axis)})
    ]
    fitting = legal(LayoutBatch.of([other for *_, other in tried]), job)
    found: dict[str, list[Alternative]] = {axis: [] for axis in AXES}
    for (axis, value, other), lawful in zip(tried, fitting, strict=True):
        found[axis].append(
            Alternative(
                axis=axis,
                value=value,
                label=_label(value),
                layout=other,
                refused=() if lawful else _refusals(axis, other, job),
            )
        )
    return {axis: tuple(values) for axis, values in found.items()}


def changed(layout: Layout, axis: str, value: Any, job: Job) -> Layout:  # noqa: ANN401
    """Return a layout with another value of one axis, and with what depends on it.

    Tensor, context and pipeline parallelism trade ranks with data parallelism, and that trades them
    with the pipeline. Schedules and chunks, recomputation and its details, experts and how tokens
    reach them follow each other; what divides the new ranks stays, else takes its usual value.
    """
    values: dict[str, Any] = {axis: value}
    if axis in _FROM_DP:
        rest = replace(layout, **values, dp=1).gpus
        values["dp"] = max(job.gpus // rest, 1)
    elif axis == "dp":
        values["pp"] = max(job.gpus // replace(layout, dp=value, pp=1).gpus, 1)
    found = replace(layout, **values)
    for follow in (_pipeline, _recomputation, _context, _shards, _experts):
        found = replace(found, **follow(found, axis, job))
    return found


def _pipeline(layout: Layout, axis: str, job: Job) -> dict[str, Any]:
    """Return schedule, chunks and split of the layers that go together."""
    schedule, vp = layout.schedule, layout.vp
    if layout.pp == 1 and axis != "schedule" and schedule > Schedule.ONE_F_ONE_B:
        schedule, vp = Schedule.ONE_F_ONE_B, 1
    if axis == "vp" and vp > 1 and not (VEE[schedule] and vp == VEE_CHUNKS):
        schedule = schedule if CHUNKED[schedule] else Schedule.INTERLEAVED
    elif axis == "vp" and vp == 1 and SEVERAL_CHUNKS[schedule]:
        schedule = Schedule.ONE_F_ONE_B
    elif axis == "schedule":
        fewest = 2 if SEVERAL_CHUNKS[schedule] else 1
        vp = max(vp, fewest) if CHUNKED[schedule] else fewest
    split = layout.stage_split
    if axis != "stage_split" and len(job.architecture.layers) % (layout.pp * vp):
        split = StageSplit.BALANCED
    return {"schedule": schedule, "vp": vp, "stage_split": split}


def _recomputation(layout: Layout, axis: str, _: Job) -> dict[str, Any]:
    """Return how to recompute, and what."""
    mode, layers = layout.recompute, layout.recompute_layers
    method, modules = layout.recompute_method, layout.recompute_modules
    if (axis == "recompute_layers" and layers) or (axis == "recompute_method" and method):
        mode = Recompute.FULL
        layers = max(layers, 1)
    elif axis == "recompute_modules" and modules != USUAL_MODULES:
        mode = Recompute.SELECTIVE
    if mode != Recompute.FULL or layers == 0:
        layers, method = 0, RecomputeMethod.BLOCK
    return {
        "recompute": mode,
        "recompute_layers": layers,
        "recompute_method": method,
        "recompute_modules": modules if mode == Recompute.SELECTIVE else USUAL_MODULES,
    }


def _context(layout: Layout, axis: str, _: Job) -> dict[str, Any]:
    """Return what goes with the tensor- and context-parallel ranks."""
    inner = layout.inner_ring
    if axis != "inner_ring" and (inner >= layout.ring or layout.ring % inner):
        inner = 1
    method = layout.cp_method
    if axis != "cp_method" and (layout.ulysses > 1 or layout.ring == 1):
        method = CpMethod.P2P
    sharded = layout.tp_sp if axis != "tp" else layout.tp > 1
    return {"inner_ring": inner, "cp_method": method, "tp_sp": sharded}


def _shards(layout: Layout, axis: str, job: Job) -> dict[str, Any]:
    """Return micro-batches and replicas of shards that data parallelism leaves room for."""
    share, rest = divmod(job.workload.global_batch, layout.dp)
    micro = layout.micro_batch
    if axis != "micro_batch" and not rest:
        micro = gcd(micro, share)
    replicas, zero = layout.dp_replicate, layout.zero
    if axis == "dp_replicate" and replicas > 1:
        zero = max(zero, 1)
    elif axis != "dp_replicate" and (layout.dp % replicas or not zero):
        replicas = 1
    return {"micro_batch": micro, "dp_replicate": replicas, "zero": zero}


def _experts(layout: Layout, axis: str, _: Job) -> dict[str, Any]:
    """Return ranks of experts that the others leave, and how tokens reach them."""
    ep, ranks = layout.ep, layout.dp * layout.cp * layout.tp
    if axis not in ("ep", "etp"):
        ep = gcd(ep, max(ranks // layout.etp, 1))
    spread = ep > 1 or axis == "dispatch"
    beside = layout.shared_overlap and (spread or axis == "shared_overlap")
    if axis == "dispatch" and layout.dispatch != Dispatch.ALL_TO_ALL:
        beside = False
    dispatch = layout.dispatch if spread else Dispatch.ALL_TO_ALL
    other = layout.expert_overlap and (spread or axis == "expert_overlap")
    return {"ep": ep, "dispatch": dispatch, "shared_overlap": beside, "expert_overlap": other}


def _candidates(axis: str, layout: Layout, job: Job) -> list[Any]:
    """Return the values of an axis that are worth a word."""
    if axis in NAMED_AXES:
        return list(NAMED_AXES[axis])
    if axis in SWITCHES:
        return [False, True]
    if axis == "recompute_modules":
        return list(module_sets(job.architecture, "unrestricted"))
    layers = len(job.architecture.layers)
    experts = [moe.experts for moe in mixtures(job.architecture)]
    powers = [2**power for power in range(LARGEST_MICRO_BATCH.bit_length())]
    degrees: dict[str, list[int]] = {
        "inner_ring": divisors(layout.ring),
        "vp": [1, *INTERLEAVINGS],
        "micro_batch": powers,
        "zero": [0, 1, 2, 3],
        "dp_replicate": [many for many in divisors(layout.dp) if many.bit_count() == 1],
        "recompute_layers": list(range(-(-layers // layout.pp))),
        "ep": divisors(min(experts)) if experts else [1],
        "etp": divisors(layout.tp) if experts else [1],
    }
    return degrees.get(axis) or divisors(job.gpus)


def _refusals(axis: str, layout: Layout, job: Job) -> tuple[str, ...]:
    own = flag(axis)
    return tuple(
        problem.mend if problem.field == own else str(problem) for problem in problems(layout, job)
    )


def _label(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, RecomputeModules):
        return value.label
    return str(getattr(value, "label", value))
