"""Published training runs as plans: rows of one job are evaluated together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models.layout import LayoutBatch
from topologies.errors import SpecError
from validate.published.job_of import layout_of, scenario_of
from validate.published.offloaded import relieved
from validate.published.row import UNPREDICTED, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.layout import Layout
    from planner.plans import Plan
    from planner.scenario import Scenario
    from validate.published.row import Row


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One row with its plan and what that was evaluated on, or the reason why it has none."""

    row: Row
    plan: Plan | None
    reason: str = ""
    scenario: Scenario | None = None


def evaluate(
    rows: Sequence[Row],
    progress: Callable[[int], None],
    otherwise: Callable[[Scenario], Scenario] = lambda scenario: scenario,
) -> tuple[Evaluated, ...]:
    """Return the plans of training runs, in order.

    Rows of one model, machine and workload are one batch of layouts.

    Parameters
    ----------
    rows
        Training runs.
    progress
        Called with the number of rows done.
    otherwise
        Changes what a layout is evaluated on, not how one is completed.
    """
    found: dict[int, Evaluated] = {}
    jobs: dict[tuple[Any, ...], _Job] = {}
    for at, row in enumerate(rows):
        try:
            scenario = scenario_of(row)
            layout = layout_of(row, scenario)
        except UNPREDICTED as error:
            found[at] = Evaluated(row, None, reason_of(error))
        else:
            changed = otherwise(scenario)
            jobs.setdefault(_key(changed), _Job(changed)).add(at, layout)
    progress(len(found))
    for job in jobs.values():
        found |= job.evaluated(rows)
        progress(len(found))
    return tuple(found[at] for at in range(len(rows)))


class _Job:
    """The layouts that one scenario is asked for; equal ones are evaluated once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rows: dict[Layout, list[int]] = defaultdict(list)

    def add(self, at: int, layout: Layout) -> None:
        self.rows[layout].append(at)

    def evaluated(self, rows: Sequence[Row]) -> dict[int, Evaluated]:
        plans: Sequence[Plan | None] = [None] * len(self.rows)
        told = ""
        try:
            plans = self.scenario.evaluate(LayoutBatch.of(list(self.rows)))
        except SpecError as error:
            told = reason_of(error)
        return {
            at: Evaluated(
                rows[at], plan and relieved(rows[at], plan, self.scenario), told, self.scenario
            )
            for plan, places in zip(plans, self.rows.values(), strict=True)
            for at in places
        }


#: Parts of a scenario that are large, and the same object wherever they are equal.
_SHARED = ("architecture", "cluster", "profile")


def _key(scenario: Scenario) -> tuple[Any, ...]:
    """Return what is equal where scenarios are; they are kept, so identities stay their own."""
    values = ((field.name, getattr(scenario, field.name)) for field in fields(scenario))
    return tuple(id(value) if name in _SHARED else value for name, value in values)
