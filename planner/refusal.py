"""Why no layout of a job is legal: pins that break a rule, or a framework that runs none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.framework_choice import UNRESTRICTED, lacking
from models.legality import problems
from models.named_axes import Schedule
from planner.bounds import Bounds, flag
from planner.complete import complete_layout
from planner.space import Space
from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.scenario import Scenario


def why_nothing_is_legal(scenario: Scenario, bounds: Bounds, framework: str) -> list[Problem]:
    """Return what to mend where a space has no layout: one problem or more.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    bounds, framework
        What the space was restricted to.
    """
    if framework != UNRESTRICTED and (batches := list(_space(scenario, bounds).batches())):
        model, work = scenario.architecture, scenario.workload
        found = [lacking(batch, model, framework, work.states, work.precision) for batch in batches]
        needed = {name: set.intersection(*(each[name] for each in found)) for name in found[0]}
        why = _lacks(needed)
        mend = f"runs no layout of this job within the pins{why}; try --framework unrestricted"
        return [Problem("--framework", framework, mend)]
    alone = [
        Problem(flag(axis), bound, mend)
        for axis, bound in bounds.axes.items()
        for mend in _why_alone(scenario, axis, bounds)
    ]
    if alone:
        return alone
    together = complete_layout(scenario, {axis: b.low for axis, b in bounds.axes.items()})
    flags = {flag(axis) for axis in bounds.axes}
    broken = problems(together, scenario.job)
    named = [found for found in broken if found.field in flags]
    if named:
        return named
    why = f" ({broken[0].mend})" if broken else ""
    if not bounds.axes:
        gpus = scenario.cluster.accelerators
        mend = f"no layout uses all of them{why}; try another number, or another --global-batch"
        return [Problem("--gpus", gpus, mend)]
    mend = f"no layout satisfies all pins together{why}; free one of them"
    return [Problem(flag(axis), bound, mend) for axis, bound in bounds.axes.items()]


def _lacks(needed: Mapping[str, set[str]]) -> str:
    """Return in brackets what all frameworks lack, or if that is nothing what each does.

    >>> _lacks({"one": {"no pipeline", "no zero 3"}, "other": {"no pipeline"}})
    ' (no pipeline)'
    >>> _lacks({"one": {"no pipeline"}, "other": {"no zero 3"}})
    ' (one: no pipeline; other: no zero 3)'
    """
    if shared := set.intersection(*needed.values()):
        return f" ({', '.join(sorted(shared))})"
    each = "; ".join(
        f"{name}: {', '.join(sorted(words))}" for name, words in needed.items() if words
    )
    return f" ({each})" if each else ""


def _why_alone(scenario: Scenario, axis: str, bounds: Bounds) -> list[str]:
    """Return why one pin allows no layout whatever the others are; nothing if it allows some."""
    bound = bounds.axes[axis]
    if any(_space(scenario, Bounds({axis: bound})).batches()):
        return []
    pins: dict[str, object] = {axis: bound.low}
    if axis == "schedule" and bound.low > Schedule.ONE_F_ONE_B:
        pins["pp"] = 2  # the fewest ranks that it orders
    try:
        layout = complete_layout(scenario, pins)
    except SpecError as error:
        return [problem.mend for problem in error.problems]
    broken = problems(layout, scenario.job)
    own = [problem.mend for problem in broken if problem.field == flag(axis)]
    return own or [problem.mend for problem in broken] or ["no layout of this job has it"]


def _space(scenario: Scenario, bounds: Bounds) -> Space:
    return Space(scenario.job, bounds, UNRESTRICTED)
