"""Tables for people: a step on both clocks, and what its ranks do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from planner.cli import report
from planner.durations import seconds
from planner.layout_words import details
from topologies.units import GIB

if TYPE_CHECKING:
    from rich.console import Console

    from planner.scenario import Scenario
    from planner.simulated import Simulated

#: Pipeline ranks that are shown in full.
SHOWN_RANKS = 16


def print_simulated(screen: Console, scenario: Scenario, answer: Simulated) -> None:
    """Print a simulated step."""
    report.heading(screen, scenario)
    plan, step = answer.plan, answer.step
    screen.print(f"[bold]{escape(str(plan.layout))}[/bold] {details(plan.layout)}")
    screen.print(
        f"Step: {seconds(step.step_s)} on the event clock, "
        f"{seconds(plan.step_time_s)} on the analytical one "
        f"({step.step_s / plan.step_time_s - 1.0:+.1%})."
    )
    for sentence in _disturbed(answer):
        screen.print(sentence)
    screen.print()
    screen.print(_ranks(answer))
    left = len(answer.timeline.ranks) - SHOWN_RANKS
    if left > 0:
        screen.print(f"and {left} pipeline ranks more (all with --json)")
    fullest = max(nbytes.max() for _, nbytes in answer.timeline.memory)
    if not plan.fits:
        screen.print("The layout does not fit in memory; see `estimate`.")
    elif fullest > plan.capacity_bytes:
        screen.print(
            f"The fullest rank peaks beyond its {plan.capacity_bytes / GIB:.1f} GiB here, and fits "
            "by the closed form, which spreads what is recomputed evenly over the chunks of a rank."
        )


def _disturbed(answer: Simulated) -> list[str]:
    """Return sentences on what goes otherwise than planned."""
    what, found = answer.disturbances, []
    if not what.contention:
        found.append("Collectives that share links are not slowed.")
    if what.async_ulysses:
        found.append("Ulysses exchanges q, k and v beside their projections.")
    mean = float(answer.steps_s.mean())
    if what.drawn:
        low, middle, high = answer.percentiles_s().values()
        found.append(
            f"Of {len(answer.steps_s)} steps drawn (seed {what.seed}): mean "
            f"{seconds(mean)}, p10 {seconds(low)}, p50 {seconds(middle)}, "
            f"p90 {seconds(high)}."
        )
    elif what.stragglers:
        more = mean / answer.step.step_s - 1.0
        found.append(f"With the stragglers: {seconds(mean)} ({more:+.1%}).")
    if what.slow_links or what.failed_nics:
        found.append("The ranks' links are those left by --slow-link and --failed-nics.")
    if what.drawn or what.stragglers:
        found.append("Below, and in a trace, is the step that nothing of this disturbs.")
    return found


def _ranks(answer: Simulated) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    for name in (
        "idle",
        "bubble",
        "communication",
        "exposed",
        "hidden",
        "reducing after",
        "peak GiB",
    ):
        table.add_column(name, justify="right")
    for row in answer.ranks()[:SHOWN_RANKS]:
        sent, exposed = row["communication_s"], row["exposed_s"]
        table.add_row(
            str(row["rank"]),
            seconds(row["idle_s"]),
            seconds(row["bubble_s"]),
            seconds(sent),
            seconds(exposed),
            f"{1.0 - exposed / sent:.0%}" if sent else "",
            seconds(row["reduction_tail_s"]),
            f"{row['peak_memory_bytes'] / GIB:.1f}",
        )
    return table
