"""What the planner says of one layout, remembered for a while: pages ask again with every click."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from models.architecture.moe import Moe
from models.layout import Layout, LayoutBatch
from models.legality import legal
from models.named_axes import Recompute, StageSplit
from planner.alternatives import Alternative, alternatives
from planner.bounds import Bounds
from planner.placements import placements
from planner.roofline import TimedOperation, operations
from planner.stage_memory import StageMemory, stage_memory
from topologies.errors import Problem, SpecError
from ui.scenarios import bounds_of, layout_text, read_layout, scenario_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner.plans import Plan
    from planner.scenario import Scenario
    from ui.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One layout in full.

    Parameters
    ----------
    scenario, plan
        Where it is planned, and the plan.
    stages, operations
        Bills of all kinds of pipeline rank, and one micro-batch operation by operation.
    """

    scenario: Scenario
    plan: Plan
    stages: tuple[StageMemory, ...]
    operations: tuple[TimedOperation, ...]


@lru_cache(maxsize=128)
def estimate(question: Question, text: str) -> Estimate:
    """Return a layout in full.

    Raises
    ------
    SpecError
        If it is no legal layout of the question.
    """
    scenario, layout = read_layout(question, text)
    return Estimate(
        scenario=scenario,
        plan=scenario.evaluate(LayoutBatch.of([layout]))[0],
        stages=stage_memory(scenario, layout),
        operations=operations(scenario, layout),
    )


@lru_cache(maxsize=128)
def offers(question: Question, text: str) -> dict[str, tuple[Alternative, ...]]:
    """Return what every axis of a layout could be instead.

    Raises
    ------
    SpecError
        If it is no legal layout of the question.
    """
    return alternatives(*read_layout(question, text))


@lru_cache(maxsize=64)
def placed(question: Question, text: str) -> tuple[Plan, ...]:
    """Return a layout's plans under all orders of its axes.

    Raises
    ------
    SpecError
        If it is no legal layout of the question.
    """
    return placements(*read_layout(question, text))


@lru_cache(maxsize=64)
def usual_layout(question: Question) -> str:
    """Return a legal layout to begin with where none is chosen, as text.

    The fastest that fits of those that most people would try first: tensor parallelism inside the
    fast domain, rings, pipelines, experts spread, FSDP over the rest, with and without
    recomputation; what the question pins, as it pins it, where that leaves any. The smallest of
    them where none fits.

    Raises
    ------
    SpecError
        If none of them is legal.
    """
    scenario, bounds = scenario_for(question), bounds_of(question)
    tried = _legal(scenario, bounds) or _legal(scenario, Bounds({}))
    if tried is None:
        mend = "none of the common layouts is legal: search on the page Plan, and choose one there"
        raise SpecError([Problem("layout", "none", mend)])
    plans = scenario.evaluate(tried)
    fitting = [plan for plan in plans if plan.fits]
    if not fitting:
        return layout_text(min(plans, key=lambda plan: plan.memory_total_bytes).layout)
    return layout_text(min(fitting, key=lambda plan: plan.step_time_s).layout)


def _legal(scenario: Scenario, bounds: Bounds) -> LayoutBatch | None:
    """Return the common layouts within some bounds; None if none is legal."""
    common = [*_common(scenario, bounds)]
    if not common:
        return None
    tried = LayoutBatch.of(common)
    # What is pinned and not among the axes that are tried is set, whatever it is.
    tried = tried.with_columns(
        **{
            axis: getattr(tried, axis) * 0 + bound.low
            for axis, bound in bounds.axes.items()
            if bound.low == bound.high and axis not in _TRIED
        }
    )
    allowed = legal(tried, scenario.job)
    for axis in bounds.axes:
        allowed &= bounds.allows(axis, getattr(tried, axis))
    return tried.take(allowed) if allowed.any() else None


#: Axes of which several values are tried, or that follow from others.
_TRIED = ("dp", "tp", "pp", "ring", "cp", "ep", "recompute")


def _common(scenario: Scenario, bounds: Bounds) -> Iterator[Layout]:
    """Yield layouts that people would try first, legal or not."""
    domain = min(scenario.cluster.fast_domain, scenario.cluster.accelerators)
    gpus, layers = scenario.cluster.accelerators, scenario.architecture.layers
    powers = [2**power for power in range(gpus.bit_length())]
    tensor = bounds.choose("tp", [tp for tp in powers if tp <= min(domain, 8)])
    rings = bounds.choose("ring", powers)
    pipes = bounds.choose("pp", [pp for pp in powers if pp <= 16])
    experts = max((each.mlp.experts for each in layers if isinstance(each.mlp, Moe)), default=1)
    spread = bounds.choose("ep", [ep for ep in powers if ep <= experts])
    modes = (Recompute.NONE, Recompute.FULL)
    for tp, ring, pp, ep, mode in product(tensor, rings, pipes, spread, modes):
        dp, rest = divmod(gpus, tp * ring * pp)
        if dp and not rest and scenario.workload.global_batch % dp == 0:
            yield Layout(
                dp=dp,
                tp=tp,
                pp=pp,
                ring=ring,
                ep=ep,
                zero=3 if pp == 1 else 1,
                tp_sp=tp > 1,
                recompute=mode,
                stage_split=StageSplit.EVEN if len(layers) % pp == 0 else StageSplit.BALANCED,
            )
