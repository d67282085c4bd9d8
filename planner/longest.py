"""The longest sequence that fits on a number of accelerators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.rules.sequence import window_problems
from models.workload import LONGEST_SEQUENCE
from planner.search import first_fit
from planner.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from planner.bounds import Bounds
    from planner.scenario import Scenario

#: Shorter sequences are not looked at.
SHORTEST = 1024


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest sequence that fits on some accelerators.

    Parameters
    ----------
    gpus
        Accelerators.
    seq_len
        Tokens, a power of two times 1,024; None where not even the shortest fits.
    """

    gpus: int
    seq_len: int | None


def longest_sequences(
    base: Scenario,
    gpus: Sequence[int],
    bounds: Bounds,
    framework: str = "any",
    most: int = LONGEST_SEQUENCE,
    progress: Callable[[int], None] | None = None,
) -> tuple[Longest, ...]:
    """Return the longest sequence of which some layout fits, for each number of accelerators.

    Lengths double from :data:`SHORTEST` until one does not fit: memory grows with the length.

    Parameters
    ----------
    base
        Model, cluster and workload; its length is not used.
    gpus
        Numbers of accelerators.
    bounds, framework
        As for a plan.
    most
        Longer sequences are not looked at.
    progress
        Called after each number with how many are done.

    Raises
    ------
    SpecError
        If the cluster cannot have that size.
    """
    sized = [replace(base, cluster=base.cluster.take(many)) for many in gpus]
    found = []
    for scenario in sized:
        found.append(_longest(scenario, bounds, framework, most))
        if progress is not None:
            progress(len(found))
    return tuple(found)


def _longest(scenario: Scenario, bounds: Bounds, framework: str, most: int) -> Longest:
    fits, length = None, SHORTEST
    while length <= most:
        workload = replace(scenario.workload, seq_len=length)
        longer = replace(scenario, workload=workload)
        seen = not window_problems(longer.architecture, length)
        if seen and first_fit(longer, Space(longer.job, bounds, framework)):
            fits = length
        elif seen:
            break
        length *= 2
    return Longest(scenario.cluster.accelerators, fits)
