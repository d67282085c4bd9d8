"""Sentences that go with a search: what binds, whether cutting the sequence pays, what fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.rules.sequence import window_problems
from models.workload import format_count
from planner.bounds import Bounds, flag
from planner.choices import USUAL_CHANCE
from planner.compare import largest_line, largest_part, why_better
from planner.search import first_fit
from planner.space import Space
from topologies.errors import SpecError
from topologies.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from planner.plans import Plan
    from planner.scenario import Scenario
    from planner.search import Found

#: What begins the sentence on cutting the sequence (not Megatron's sequence parallelism, tp_sp).
VERDICT = "Sequence parallelism (Ulysses, ring)"
#: How far the nearest fitting change is looked for: powers of two.
FARTHEST = 6
#: Shares of layouts are said in whole per cent up to this.
MOST_PRUNED = 0.99
#: Chance to fit from which on nobody needs to look for a surer plan.
SURE = 0.9


def what_binds(scenario: Scenario, found: Found, best: Plan) -> str:
    """Return what limits the choice and the step."""
    counts = found.counts
    pruned = 1.0 - counts.fit / counts.legal
    share = f"{pruned:.0%}" if pruned <= MOST_PRUNED else f"over {MOST_PRUNED:.0%}"
    memory = f"memory turned away {share} of the legal layouts" if pruned else "memory does not"
    room = best.memory_total_bytes / scenario.capacity_bytes
    return (
        f"What binds: {memory}; the best one's step is mostly {largest_part(best)}, and its "
        f"fullest rank holds {room:.0%} of its {scenario.capacity_bytes / GIB:.1f} GiB, mostly "
        f"{largest_line(best)}: a chance of {likely(best)} that it fits."
    )


def likely(plan: Plan) -> str:
    """Return how likely a plan fits, in whole per cent, never as if it were certain."""
    chance = plan.chance_to_fit
    if not 0.01 <= chance <= 0.99:
        return "over 99%" if chance > 0.5 else "under 1%"
    return f"{chance:.0%}"


def surer(best: Plan, front: Sequence[Plan]) -> str:
    """Return what it takes to be surer that a plan fits; empty where the best is sure enough.

    Parameters
    ----------
    best
        The fastest plan.
    front
        The plans that none beats in both time and memory, fastest first.
    """
    if best.chance_to_fit >= SURE:
        return ""
    sure = next((plan for plan in front if plan.chance_to_fit >= SURE), None)
    if sure is None:
        return f"Nothing looked at fits with a chance of {SURE:.0%}."
    slower = sure.step_time_s / best.step_time_s - 1.0
    return (
        f"To be surer: {sure.label} fits with a chance of {likely(sure)} and takes "
        f"{slower:.1%} longer; planning with --fit-chance {SURE:g} asks for that."
    )


def sequence_parallelism(
    with_cp: Plan | None, without_cp: Plan | None, evenly: int | None = None
) -> str:
    """Return whether to cut the sequence over ranks, and why.

    Parameters
    ----------
    with_cp, without_cp
        The fastest plans with and without context parallelism; None where nothing fits.
    evenly
        The next longer sequence that all ranks could share; None where this one can be.
    """
    if with_cp is None and without_cp is None:
        return ""
    if without_cp is None:
        return f"{VERDICT}: needed. No layout without it fits in memory."
    if with_cp is None:
        longer = f" Padded to {evenly:,} tokens, sequences can be cut." if evenly else ""
        return f"{VERDICT}: not possible here. No layout with it is legal and fits.{longer}"
    best, other = sorted((with_cp, without_cp), key=lambda plan: plan.step_time_s)
    slower = other.step_time_s / best.step_time_s - 1.0
    if best is with_cp:
        return (
            f"{VERDICT}: recommended. The best layout without it ({other.label}) takes "
            f"{slower:.1%} longer; cutting the sequence has {why_better(best, other)}."
        )
    return (
        f"{VERDICT}: not recommended. The model fits without it, and the best layout "
        f"with it ({other.label}) takes {slower:.1%} longer; leaving it out has "
        f"{why_better(best, other)}."
    )


def changed_order(plans: Sequence[Plan]) -> str:
    """Return what the event clock says of the ranking; empty where it was not asked."""
    timed = [
        (plan.event_step_s, place)
        for place, plan in enumerate(plans, start=1)
        if plan.event_step_s is not None
    ]
    if len(timed) < 2:
        return ""
    (fastest_s, place), first_s = min(timed), timed[0][0]
    if timed == sorted(timed):
        return "The event clock (contention, streams, every pass) keeps this order."
    if place == 1:
        return "The event clock keeps the first, and orders some of the others differently."
    return (
        f"The event clock changes the order: number {place} is the fastest there, "
        f"{1.0 - fastest_s / first_s:.1%} faster than number 1."
    )


def nothing_fits(scenario: Scenario, smallest: Plan) -> str:
    """Return what binds when nothing fits."""
    chance, limit = scenario.fit_chance, scenario.limit_bytes / GIB
    sure = "" if chance == USUAL_CHANCE else f", or {limit:.1f} GiB for a chance of {chance:.0%}"
    return (
        f"Nothing fits: the layout that needs the least memory ({smallest.label}) needs "
        f"{smallest.memory_least_bytes / GIB:.1f} GiB, and a rank has "
        f"{scenario.capacity_bytes / GIB:.1f} GiB{sure}. "
        f"What binds is {largest_line(smallest)}."
    )


def nearest_that_fits(
    scenario: Scenario, space: Space, progress: Callable[[int], None] | None = None
) -> list[str]:
    """Return the smallest changes that make something fit: more accelerators, shorter sequences."""
    padded = _first(_padded(scenario), space, progress)
    if padded is not None:
        seq_len, cut = padded.workload.seq_len, 2 * scenario.cluster.accelerators
        return [
            f"Padded to {seq_len:,} tokens, which {cut:,} divides, sequences can be cut and fit."
        ]
    tried = [
        ("accelerators", _first(_more_gpus(scenario), space, progress)),
        ("sequences", _first(_shorter(scenario), space, progress)),
    ]
    sentences = []
    if space.bounds.axes and first_fit(scenario, replace(space, bounds=Bounds({})), progress):
        pins = ", ".join(f"{flag(axis)} {bound}" for axis, bound in space.bounds.axes.items())
        sentences.append(f"Without the pins ({pins}) layouts fit.")
    for what, other in tried:
        if other is None:
            continue
        if what == "accelerators":
            sentences.append(f"It fits on {other.cluster.accelerators} accelerators.")
        else:
            length = format_count(other.workload.seq_len)
            sentences.append(f"Sequences of {length} tokens fit on these accelerators.")
    if not sentences:
        sentences.append(
            f"Neither {2**FARTHEST} times the accelerators nor sequences {2**FARTHEST} times "
            "shorter fit: free pinned axes, or take accelerators with more memory."
        )
    return sentences


def _more_gpus(scenario: Scenario) -> list[Scenario]:
    # What would do is worth knowing beyond what a user says there is.
    unbounded = replace(scenario.cluster, stated=None)
    grown = []
    for power in range(1, FARTHEST + 1):
        try:
            cluster = unbounded.take(unbounded.accelerators * 2**power)
        except SpecError:
            break
        grown.append(replace(scenario, cluster=cluster))
    return grown


def shared_evenly(scenario: Scenario) -> int | None:
    """Return the next length that all ranks could share, a zigzag ring too; None if this is one."""
    seq_len, cut = scenario.workload.seq_len, 2 * scenario.cluster.accelerators
    longer = -(-seq_len // cut) * cut
    return longer if longer > seq_len else None


def _padded(scenario: Scenario) -> list[Scenario]:
    """Return the job with sequences that all ranks could share, if it has none."""
    longer = shared_evenly(scenario)
    if longer is None:
        return []
    return [replace(scenario, workload=replace(scenario.workload, seq_len=longer))]


def _shorter(scenario: Scenario) -> list[Scenario]:
    work, packed_len = scenario.workload, scenario.workload.packed_len or 1
    lengths = [work.seq_len // 2**power for power in range(1, FARTHEST + 1)]
    return [
        replace(scenario, workload=replace(work, seq_len=length))
        for length in lengths
        if length >= packed_len and not window_problems(scenario.architecture, length)
    ]


def _first(
    scenarios: list[Scenario], space: Space, progress: Callable[[int], None] | None
) -> Scenario | None:
    for scenario in scenarios:
        other = Space(scenario.job, space.bounds, space.framework)
        if first_fit(scenario, other, progress):
            return scenario
    return None
