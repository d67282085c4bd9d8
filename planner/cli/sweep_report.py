"""A sweep as a table, as CSV and as a chart."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from models.workload import format_count
from planner.cli.columns import Columns
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
LAYOUT = "best layout"
#: What a narrow screen leaves out, the first first; ways to cut the sequence come after these.
COLUMNS = Columns(words=(LAYOUT,), dispensable=("GiB/rank", "tokens/s/GPU", "MFU"))


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
    """Print the sweep as a table; where a screen is narrow, layouts in a table of their own."""
    model_and_cluster(screen, base)
    ways = ways_found(points)
    rows = [_row(point, varied_quantities(points), ways) for point in points]
    columns = replace(COLUMNS, dispensable=(*COLUMNS.dispensable, *reversed(ways)))
    if not COLUMNS.fits(rows, COLUMNS.shown(rows, screen.width), screen.width):
        varied = [QUANTITIES[name] for name in varied_quantities(points)]
        layouts = [{name: row[name] for name in (*varied, LAYOUT)} for row in rows]
        screen.print(columns.table(layouts, screen.width))
        screen.print()
        rows = [{name: row[name] for name in row if name != LAYOUT} for row in rows]
    screen.print(columns.table(rows, screen.width))
    screen.print(
        "The last columns are the step time of the best layout of each way to cut the sequence "
        "over ranks (none: not cut); empty, or not there, where none is legal and fits."
    )
    shown = columns.shown(rows, screen.width)
    if left_out := [name for name in rows[0] if name not in shown]:
        screen.print(f"Left out on so narrow a screen: {', '.join(left_out)}.")


def _row(point: SweepPoint, varied: Sequence[str], ways: Sequence[str]) -> dict[str, str]:
    best, plans = point.best, point.by_method
    figures = dict.fromkeys(("step", "tokens/s/GPU", "MFU", "GiB/rank"), "")
    if best is not None:
        figures = {
            "step": seconds(best.step_time_s),
            "tokens/s/GPU": f"{best.tokens_per_s_per_gpu:,.0f}",
            "MFU": f"{best.mfu:.1%}",
            "GiB/rank": f"{best.memory_total_bytes / GIB:.1f}",
        }
    nothing = "nothing fits" if point.legal else "nothing is legal"
    return {
        **{QUANTITIES[name]: _written(point, name) for name in varied},
        LAYOUT: nothing if best is None else best.label,
        **figures,
        **{name: seconds(plans[name].step_time_s) if name in plans else "" for name in ways},
    }


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
