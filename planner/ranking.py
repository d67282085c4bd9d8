"""The best layouts of a scenario: searched, evaluated, timed again, and what to say of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from planner import answer
from planner.host_wait import host_wait
from planner.plans import Plan, PlanSet
from planner.refusal import why_nothing_is_legal
from planner.search import search
from planner.space import Space
from topologies.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from planner.bounds import Bounds
    from planner.scenario import Scenario
    from planner.search import Found

#: Of the plans returned, so many are timed on the event clock too.
TIMED_AGAIN = 10
#: Most layouts of the front of time and memory that are evaluated in full.
LONGEST_FRONT = 256


def plan_scenario(
    scenario: Scenario,
    bounds: Bounds,
    framework: str = "any",
    top: int = 10,
    progress: Callable[[int], None] | None = None,
    *,
    simulate: bool = False,
) -> PlanSet:
    """Search all layouts of a scenario and rank the best; see :func:`planner.plan`."""
    space = Space(scenario.job, bounds, framework)
    found = search(scenario, space, progress)
    if found.smallest is None:
        raise SpecError(why_nothing_is_legal(scenario, bounds, framework))
    plans = tuple(scenario.evaluate(found.best.take(slice(0, top))))
    if plans:
        front = tuple(scenario.evaluate(found.front.take(slice(0, LONGEST_FRONT))))
        notes = _notes(scenario, bounds, found, plans[0], front)
        if simulate:
            plans = _timed_again(scenario, plans)
            notes = tuple(note for note in (*notes, answer.changed_order(plans)) if note)
        return PlanSet(plans=plans, search=found.counts, notes=notes, front=front)
    smallest = scenario.evaluate(found.smallest)[0]
    return PlanSet(
        plans=(),
        search=found.counts,
        notes=(
            answer.nothing_fits(scenario, smallest),
            *answer.nearest_that_fits(scenario, space, progress),
        ),
        smallest=smallest,
    )


def _timed_again(scenario: Scenario, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """Return plans with the first few timed on the event clock too."""
    from planner.simulated import event_step_s

    first = [
        replace(plan, event_step_s=event_step_s(scenario, plan.layout))
        for plan in plans[:TIMED_AGAIN]
    ]
    return (*first, *plans[TIMED_AGAIN:])


def _notes(
    scenario: Scenario, bounds: Bounds, found: Found, best: Plan, front: Sequence[Plan]
) -> tuple[str, ...]:
    notes = [
        answer.what_binds(scenario, found, best),
        host_wait(scenario, best),
        answer.surer(best, front),
    ]
    pinned = {"cp", "ulysses", "ring"} & set(bounds.axes)
    if scenario.cluster.accelerators > 1 and not pinned:  # a pin leaves nothing to judge
        with_cp = found.best.cp > 1
        cut, whole = (
            scenario.evaluate(found.best.take(mask.nonzero()[0][:1]))[0] if mask.any() else None
            for mask in (with_cp, ~with_cp)
        )
        evenly = answer.shared_evenly(scenario)
        notes.append(answer.sequence_parallelism(cut, whole, evenly))
    longest = scenario.architecture.max_positions
    if longest is not None and scenario.workload.seq_len > longest:
        notes.append(
            f"The published {scenario.architecture.title} was made for sequences of at most "
            f"{longest:,} tokens."
        )
    return tuple(note for note in notes if note)
