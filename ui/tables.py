"""Tables as rows of plain values, units in the names of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from planner.compare import LINE_NAMES, PART_NAMES
from planner.layout_words import beside_mesh
from topologies.figure import Provenance
from topologies.units import GIB, MILLI
from ui.words import TITLES, WAYS, of_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.simulation.timeline import Timeline
    from planner.alternatives import Alternative
    from planner.longest import Longest
    from planner.placement import Placement
    from planner.plans import Plan
    from planner.roofline import TimedOperation
    from planner.scenario import Scenario
    from planner.simulated import Simulated
    from planner.stage_memory import StageMemory
    from planner.sweeps import SweepPoint
    from ui.measured import Point

#: Nothing is said to fit for certain, in per cent.
SUREST = 99.0
#: Spans of one table: more are what the trace is for.
MOST_SPANS = 20_000


def ranked(plans: Sequence[Plan], unbeaten: Sequence[Plan] = ()) -> list[dict[str, Any]]:
    """Return plans as the rows of the ranked table."""
    best = {id(plan) for plan in unbeaten}
    return [_ranked(place, plan, id(plan) in best) for place, plan in enumerate(plans, start=1)]


def _ranked(place: int, plan: Plan, unbeaten: bool) -> dict[str, Any]:
    layout = plan.layout
    degrees = ("dp", "tp", "pp", "ulysses", "ring", "ep")
    return {
        "#": place,
        "GPUs": plan.gpus,
        **{axis: getattr(layout, axis) for axis in degrees},
        "mb": layout.micro_batch,
        "and": beside_mesh(layout, ("vp", "etp")),
        "step, s": plan.step_time_s,
        "p10, s": plan.interval_s[0],
        "p90, s": plan.interval_s[1],
        "tokens/s/GPU": plan.tokens_per_s_per_gpu,
        "MFU, %": 100.0 * plan.mfu,
        "GiB/rank": plan.memory_total_bytes / GIB,
        "to fit, %": min(100.0 * plan.chance_to_fit, SUREST),
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


def two_steps(plan: Plan, other: Plan) -> list[dict[str, Any]]:
    """Return what two steps go into, beside each other."""
    return [
        {"part": PART_NAMES[part], "this, s": value, "other, s": other.time_s[part]}
        for part, value in plan.time_s.items()
    ]


def bill(stages: Sequence[StageMemory]) -> list[dict[str, Any]]:
    """Return the memory of a rank of every pipeline stage, in GiB."""
    return [
        {
            "pipeline stage": stage.stage,
            "layers": stage.layers,
            "embedding": stage.embedding,
            "head": stage.head,
            **{LINE_NAMES[line]: value / GIB for line, value in stage.memory_bytes.items()},
            "in all": stage.total_bytes / GIB,
        }
        for stage in stages
    ]


def operations(found: Sequence[TimedOperation]) -> list[dict[str, Any]]:
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
        {"axis": each.axis, "value": each.label, "why not": of_page("; ".join(each.refused))}
        for each in offers
        if each.refused
    ]


def assumed(scenario: Scenario) -> list[dict[str, Any]]:
    """Return every figure of a scenario that nothing measured backs, with its reason."""
    return [
        {"figure": name, "value (SI units)": figure.value, "why": figure.source}
        for name, figure in scenario.figures.items()
        if figure.kind is Provenance.ASSUMED
    ]


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
            TITLES[quantity]: getattr(point, quantity),
            "way": WAYS[name],
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


def spans(
    timeline: Timeline, window: tuple[float, float], places: Sequence[int]
) -> list[dict[str, Any]]:
    """Return what ranks do in a part of a step, one thing after the other, the first so many."""
    seen = (timeline.end_s > window[0]) & (timeline.start_s < window[1])
    found = np.flatnonzero(seen & np.isin(timeline.rank, places))
    found = found[np.lexsort((timeline.start_s[found], timeline.rank[found]))][:MOST_SPANS]
    calls = timeline.calls
    return [
        {
            "rank": timeline.ranks[timeline.rank[at]],
            "stream": calls[timeline.call[at]].stream.label,
            "what": calls[timeline.call[at]].name,
            "start, s": float(timeline.start_s[at]),
            "end, s": float(timeline.end_s[at]),
            "micro-batch": int(timeline.micro_batch[at]) if timeline.micro_batch[at] >= 0 else None,
            "MB": calls[timeline.call[at]].nbytes / 1e6,
        }
        for at in found
    ]


def memory_over_time(timeline: Timeline, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return the memory that ranks have in use, whenever it changes."""
    return [
        {"rank": timeline.ranks[place], "seconds": float(when), "GiB": float(much) / GIB}
        for place in places
        for when, much in zip(*timeline.memory[place], strict=True)
    ]


def ranks(placement: Placement) -> list[dict[str, Any]]:
    """Return where every rank sits: its accelerator, node, and place on each axis."""
    found = placement.ranks()
    per_node = placement.accelerators_per_node
    return [
        {"accelerator": at, "node": at // per_node}
        | {f"place on {axis}": int(places[at]) for axis, places in found.items()}
        for at in range(placement.accelerators)
    ]


def runs(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return measured runs beside what is predicted of them, in the units of their quantities."""
    return [
        {
            "run": each.id,
            "kind": each.kind,
            "source": each.source,
            "quantity": each.quantity,
            "measured": each.measured,
            "predicted": each.predicted,
            "p10": each.low,
            "p90": each.high,
            "error, %": 100.0 * each.error,
        }
        for each in points
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
