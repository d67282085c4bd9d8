"""Tables as rows of plain values, units in the names of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planner.cli.report import details
from planner.compare import LINE_NAMES, PART_NAMES
from topologies.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.alternatives import Alternative
    from planner.longest import Longest
    from planner.plans import Plan
    from planner.roofline import Operation
    from planner.scenario import Scenario
    from planner.simulated import Simulated
    from planner.stage_memory import StageMemory
    from planner.sweeps import SweepPoint

MILLI = 1e-3


def ranked(plans: Sequence[Plan], unbeaten: Sequence[Plan] = ()) -> list[dict[str, Any]]:
    """Return plans as the rows of the ranked table."""
    best = {id(plan) for plan in unbeaten}
    return [_ranked(place, plan, id(plan) in best) for place, plan in enumerate(plans, start=1)]


def _ranked(place: int, plan: Plan, unbeaten: bool) -> dict[str, Any]:
    layout = plan.layout
    degrees = {name: getattr(layout, name) for name in ("dp", "tp", "pp", "ulysses", "ring")}
    experts = {"ep": layout.ep} if layout.ep > 1 else {}
    return {
        "#": place,
        "GPUs": plan.gpus,
        **degrees,
        **({"ep": 1} | experts),
        "mb": layout.micro_batch,
        "and": details(layout),
        "step, s": plan.step_time_s,
        "p10, s": plan.interval_s[0],
        "p90, s": plan.interval_s[1],
        "tokens/s/GPU": plan.tokens_per_s_per_gpu,
        "MFU, %": 100.0 * plan.mfu,
        "GiB/rank": plan.memory_total_bytes / GIB,
        "exposed, %": 100.0 * plan.exposed_s / plan.step_time_s,
        "bubble, %": 100.0 * plan.bubble_fraction,
        "USD/step": plan.cost_usd_per_step,
        "unbeaten": unbeaten,
        "runs in": ", ".join(plan.runs_in) or "none known",
    }


def step_parts(plan: Plan) -> list[dict[str, Any]]:
    """Return what a step goes into."""
    return [
        {
            "part": PART_NAMES[part],
            "seconds": value,
            "share, %": 100.0 * value / plan.step_time_s,
        }
        for part, value in plan.time_s.items()
    ]


def bill(stages: Sequence[StageMemory]) -> list[dict[str, Any]]:
    """Return the memory of every kind of pipeline rank, in GiB."""
    return [
        {
            "pipeline rank": stage.stage,
            "ranks alike": stage.alike,
            "layers": stage.layers,
            **{LINE_NAMES[line]: value / GIB for line, value in stage.memory_bytes.items()},
            "in all": stage.total_bytes / GIB,
        }
        for stage in stages
    ]


def operations(found: Sequence[Operation]) -> list[dict[str, Any]]:
    """Return operations of one micro-batch."""
    return [
        {
            "part": each.part,
            "layers": each.layers,
            "phase": each.phase,
            "operation": each.name,
            "bound by": each.bound,
            "ms": each.seconds / MILLI,
            "GFLOP": each.flop / 1e9,
            "MB": each.nbytes / 1e6,
            "FLOP/byte": each.intensity,
            "axis": each.axis,
            "may hide behind": each.hidden_by,
        }
        for each in found
    ]


def refused(offers: Sequence[Alternative]) -> list[dict[str, str]]:
    """Return the values of axes that cannot be, with their reasons."""
    return [
        {"axis": each.axis, "value": each.label, "why not": "; ".join(each.refused)}
        for each in offers
        if each.refused
    ]


def assumed(scenario: Scenario) -> list[dict[str, Any]]:
    """Return every figure of a scenario that nothing measured backs, with its reason."""
    figures = dict(scenario.device.profile.figures())
    for tier in scenario.cluster.tiers:
        figures |= {f"{tier.name}.{name}": figure for name, figure in tier.figures()}
    rows = []
    for name in scenario.provenance.assumed:
        figure = figures.get(name)
        rows.append(
            {
                "figure": name,
                "value (SI units)": figure.value if figure else None,
                "why": figure.source if figure else "see the data file of that name",
            }
        )
    return rows


def placed(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Return placements of one layout."""
    return [
        {
            "rank order, innermost first": plan.layout.rank_order.label,
            "inner of ulysses and ring": plan.layout.cp_placement.label,
            "step, s": plan.step_time_s,
            "exposed, %": 100.0 * plan.exposed_s / plan.step_time_s,
            **{
                f"{axis.name} reaches": f"{axis.reach}, stride {axis.stride:,}"
                for axis in plan.placement.axes
            },
        }
        for plan in plans
    ]


def swept(points: Sequence[SweepPoint], quantity: str) -> list[dict[str, Any]]:
    """Return a sweep: the best of each way to cut the sequence at every point."""
    return [
        {
            quantity: getattr(point, quantity),
            "way": name,
            "best": name == point.best_method,
            "step, s": plan.step_time_s,
            "tokens/s/GPU": plan.tokens_per_s_per_gpu,
            "MFU, %": 100.0 * plan.mfu,
            "GiB/rank": plan.memory_total_bytes / GIB,
            "layout": str(plan.layout),
        }
        for point in points
        for name, plan in point.by_method.items()
    ]


def played(found: Simulated) -> list[dict[str, Any]]:
    """Return what every simulated rank does with its time, and the most memory it uses."""
    return [
        {
            "rank": rank["rank"],
            "idle, s": rank["idle_s"],
            "bubble, s": rank["bubble_s"],
            "communication, s": rank["communication_s"],
            "exposed, s": rank["exposed_s"],
            "reduction after the last pass, s": rank["reduction_tail_s"],
            "peak memory, GiB": rank["peak_memory_bytes"] / GIB,
        }
        for rank in found.ranks()
    ]


def longest(found: Sequence[Longest]) -> list[dict[str, Any]]:
    """Return the longest sequences by number of accelerators."""
    return [{"GPUs": each.gpus, "longest sequence, tokens": each.seq_len} for each in found]


def axes(plan: Plan) -> list[dict[str, Any]]:
    """Return where the axes of a plan lie, innermost first."""
    return [
        {
            "axis": axis.name,
            "ranks": axis.size,
            "stride": axis.stride,
            "outermost link that its groups cross": axis.reach,
            "leaves the fast domain": axis.scale_out,
        }
        for axis in (*plan.placement.axes, *plan.placement.experts)
    ]
