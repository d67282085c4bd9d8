"""A sweep as a table, as CSV and as a chart."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table

from models.workload import format_count
from planner.cli.report import model_and_cluster
from planner.durations import seconds
from planner.layout_words import label
from planner.line_chart import LineChart
from planner.sweeps import network_factor, ways_found
from topologies.errors import Collected
from topologies.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from planner.scenario import Scenario
    from planner.sweeps import SweepPoint

#: Quantities a sweep varies, with the label of their axis.
QUANTITIES = {
    "seq_len": "tokens per sequence",
    "gpus": "accelerators",
    "global_batch": "sequences per step",
    "network": "network speed over the catalogue's",
}


def factors(text: str) -> list[float]:
    """Return a comma-separated list of positive factors.

    Raises
    ------
    SpecError
        With every entry that is no number, or none that a link can be faster or slower by.
    """
    found = Collected()
    values = [found.attempt(partial(network_factor, part, "--network")) for part in text.split(",")]
    found.raise_if_any()
    return values


def show(screen: Console, base: Scenario, points: list[SweepPoint]) -> None:
    """Print the sweep as a table."""
    model_and_cluster(screen, base)
    table = Table(box=None, pad_edge=False, header_style="bold")
    varied = varied_quantities(points)
    for name in varied:
        table.add_column(QUANTITIES[name], justify="right")
    for name in ("best layout", "step", "tokens/s/GPU", "MFU", "GiB/rank"):
        table.add_column(name, justify="left" if name == "best layout" else "right")
    ways = ways_found(points)
    for name in ways:
        table.add_column(name, justify="right")
    for point in points:
        table.add_row(*(_written(point, name) for name in varied), *_cells(point, ways))
    screen.print(table)
    screen.print(
        "The last columns are the step time of the best layout of each way to cut the sequence "
        "over ranks (none: not cut); empty, or not there, where none is legal and fits."
    )


def _cells(point: SweepPoint, ways: Sequence[str]) -> list[str]:
    best = point.best
    if best is None:
        why = "nothing fits" if point.legal else "nothing is legal"
        return [why, "", "", "", "", *("" for _ in ways)]
    plans = point.by_method
    return [
        label(best.layout),
        seconds(best.step_time_s),
        f"{best.tokens_per_s_per_gpu:,.0f}",
        f"{best.mfu:.1%}",
        f"{best.memory_total_bytes / GIB:.1f}",
        *(seconds(plans[name].step_time_s) if name in plans else "" for name in ways),
    ]


def varied_quantities(points: list[SweepPoint]) -> list[str]:
    """Return the quantities that have more than one value; the length if none has."""
    several = [name for name in QUANTITIES if len({getattr(p, name) for p in points}) > 1]
    return several or ["seq_len"]


def csv_text(points: list[SweepPoint]) -> str:
    """Return the sweep as CSV: one row for each point and way to cut the sequence."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = ("step_time_s", "tokens_per_s_per_gpu", "mfu", "memory_bytes")
    writer.writerow([*QUANTITIES, "method", "best", *figures, "layout"])
    for point in points:
        where = [getattr(point, name) for name in QUANTITIES]
        for name, plan in point.by_method.items():
            values = [plan.step_time_s, plan.tokens_per_s_per_gpu, plan.mfu]
            layout = label(plan.layout)
            best = int(name == point.best_method)
            writer.writerow([*where, name, best, *values, plan.memory_total_bytes, layout])
    return stream.getvalue()


def chart(base: Scenario, points: list[SweepPoint]) -> LineChart:
    """Return utilisation over the first quantity that varies, a line for each way to cut."""
    quantity, *rest = varied_quantities(points)
    fixed = {name: getattr(points[0], name) for name in rest}
    shown = [p for p in points if all(getattr(p, name) == fixed[name] for name in rest)]
    shown.sort(key=lambda point: float(getattr(point, quantity)))
    lines = {
        name: [
            100.0 * point.by_method[name].mfu if name in point.by_method else None
            for point in shown
        ]
        for name in ways_found(shown)
    }
    usual = {"network"} if shown[0].network == 1.0 else set()
    others = [name for name in QUANTITIES if name not in {quantity, *usual}]
    said = "".join(f", {QUANTITIES[name]}: {_written(shown[0], name)}" for name in others)
    return LineChart(
        title=f"{base.architecture.title} on {base.cluster.name}{said}",
        x_label=QUANTITIES[quantity],
        y_label="MFU of the best layout [%]",
        x=[float(getattr(point, quantity)) for point in shown],
        lines=lines,
        format_x=lambda value: format_count(int(value)) if quantity == "seq_len" else f"{value:g}",
    )


def _written(point: SweepPoint, name: str) -> str:
    value = getattr(point, name)
    return format_count(value) if name == "seq_len" else f"{value:g}"
