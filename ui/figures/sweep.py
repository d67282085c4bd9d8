"""Sweeps: ways to cut the sequence over one quantity, and the longest sequences."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from models.workload import format_count
from planner.sweeps import METHODS, ways_found
from topologies.palette import COLOURS
from ui.figures.look import empty, layout, logarithmic
from ui.words import GREY, TITLES, WAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.longest import Longest
    from planner.sweeps import SweepPoint

_HUES = (GREY, COLOURS[2], COLOURS[0], COLOURS[4], COLOURS[1], COLOURS[3])
_COLOURS = dict(zip(METHODS, _HUES, strict=True))


def value(quantity: str, number: float) -> str:
    """Return a value of a swept quantity as people write it."""
    if quantity == "seq_len":
        return format_count(int(number))
    return f"{number:,g}"


def sweep(points: Sequence[SweepPoint], quantity: str) -> go.Figure:
    """Return the throughput of each way to cut the sequence over a quantity.

    Below it how much longer each takes than the best, which a few per cent above do not show.
    """
    ways = ways_found(points)
    if not ways:
        return empty("Nothing fits at any point.")
    at = [getattr(point, quantity) for point in points]
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    figure.update_layout(layout(560))
    for name in ways:
        plans = [point.by_method.get(name) for point in points]
        look = {
            "x": at,
            "mode": "lines+markers",
            "name": WAYS[name],
            "legendgroup": name,
            "line": {"color": _COLOURS[name], "width": 2},
        }
        figure.add_scatter(
            y=[plan.tokens_per_s_per_gpu if plan else None for plan in plans],
            text=[f"{plan.layout}<br>{plan.step_time_s:.4g} s" if plan else "" for plan in plans],
            hovertemplate="<b>%{y:.4g} tokens/s/GPU</b><br>%{text}",
            row=1,
            col=1,
            **look,
        )
        figure.add_scatter(
            y=[_behind(point, name) for point in points],
            hovertemplate="<b>%{y:.1f}%</b> longer than the best",
            showlegend=False,
            row=2,
            col=1,
            **look,
        )
    rates = [plan.tokens_per_s_per_gpu for point in points for plan in point.by_method.values()]
    ticks = {"type": "log", "tickvals": at, "ticktext": [value(quantity, x) for x in at]}
    figure.update_xaxes(ticks)
    figure.update_xaxes(title=TITLES[quantity], row=2)
    figure.update_yaxes(logarithmic(min(rates) / 1.1, max(rates) * 1.1, "tokens/s/GPU"), row=1)
    figure.update_yaxes(title="longer than the best, %", rangemode="tozero", row=2)
    return figure


def _behind(point: SweepPoint, name: str) -> float | None:
    """Return how much longer a way takes than the best of a point, in per cent."""
    plan, best = point.by_method.get(name), point.best_method
    if plan is None or best is None:
        return None
    return 100.0 * (plan.step_time_s / point.by_method[best].step_time_s - 1.0)


def crossovers(points: Sequence[SweepPoint], quantity: str) -> list[str]:
    """Return sentences on where the best way to cut the sequence changes."""
    found: list[str] = []
    before: str | None = None
    for point in points:
        best, at = point.best_method, value(quantity, getattr(point, quantity))
        if best is None:
            found.append(f"At {at} nothing fits.")
        elif best != before:
            found.append(f"From {at} on: {WAYS[best]}{_beside(point, best)}.")
        before = best
    return found


def _beside(point: SweepPoint, best: str) -> str:
    """Return how much longer the next best way takes."""
    steps = sorted(plan.step_time_s for name, plan in point.by_method.items() if name != best)
    if not steps:
        return ", the only one that fits"
    fastest = point.by_method[best].step_time_s
    return f" (the next best takes {steps[0] / fastest - 1.0:.1%} longer)"


def longest(found: Sequence[Longest]) -> go.Figure:
    """Return the longest sequence that fits over numbers of accelerators."""
    fitting = [(each.gpus, each.seq_len) for each in found if each.seq_len]
    if not fitting:
        return empty("No length fits on any of them.")
    figure = go.Figure(layout=layout(320, showlegend=False))
    figure.add_bar(
        x=[f"{gpus:,}" for gpus, _ in fitting],
        y=[length for _, length in fitting],
        text=[format_count(length) for _, length in fitting],
        marker={"color": COLOURS[0]},
        hovertemplate="%{x} accelerators: %{y:,} tokens<extra></extra>",
    )
    ticks = sorted({length for _, length in fitting})
    ends = log10(ticks[0] / 4), log10(ticks[-1] * 1.5)
    figure.update_xaxes(title="accelerators", type="category")
    figure.update_yaxes(
        title="longest sequence, tokens",
        type="log",
        range=ends,
        tickvals=ticks,
        ticktext=[format_count(tick) for tick in ticks],
    )
    return figure
