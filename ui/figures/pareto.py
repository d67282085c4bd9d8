"""Plans by step time, memory, accelerators and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from planner.layout_words import details
from topologies.palette import COLOURS
from ui.figures.look import layout
from ui.words import GREY, gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.plans import Plan

#: Times that differ by more than this factor are shown on a logarithmic axis.
WIDE = 12.0
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon")


def pareto(
    plans: Sequence[Plan], unbeaten: Sequence[Plan], chosen: Plan | None = None
) -> go.Figure:
    """Return plans as points: step time across, memory up, a shape for each number of GPUs.

    Colour is the cost of a step where the catalogue has a price, else tokens per second and GPU.
    Plans that nothing beats are joined by a line for each number of GPUs. A point's ``customdata``
    is its place in `plans`.
    """
    figure = go.Figure(layout=layout(420))
    sizes = sorted({plan.gpus for plan in plans})
    priced = all(plan.cost_usd_per_step is not None for plan in plans)
    figures = [plan.cost_usd_per_step or plan.tokens_per_s_per_gpu for plan in plans]
    low, high = min(figures, default=0.0), max(figures, default=1.0)
    for at, gpus in enumerate(sizes):
        mine = [place for place, plan in enumerate(plans) if plan.gpus == gpus]
        front = sorted(
            (plan for plan in unbeaten if plan.gpus == gpus), key=lambda plan: plan.step_time_s
        )
        figure.add_scatter(
            x=[plan.step_time_s for plan in front],
            y=[gib(plan.memory_total_bytes) for plan in front],
            mode="lines",
            line={"color": GREY, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=[plans[place].step_time_s for place in mine],
            y=[gib(plans[place].memory_total_bytes) for place in mine],
            customdata=mine,
            name=f"{gpus:,} GPUs",
            mode="markers",
            text=[_words(plans[place]) for place in mine],
            hovertemplate="%{text}<extra></extra>",
            marker={
                "symbol": _SYMBOLS[at % len(_SYMBOLS)],
                "size": 9,
                "color": [figures[place] for place in mine],
                "cmin": low,
                "cmax": high,
                "colorscale": "Cividis",
                "showscale": at == 0,
                "colorbar": {
                    "title": {"text": "USD a step" if priced else "tokens/s/GPU", "side": "right"},
                    "thickness": 10,
                    "outlinewidth": 0,
                },
                "line": {"width": 0.5, "color": GREY},
            },
        )
    if chosen is not None:
        figure.add_scatter(
            x=[chosen.step_time_s],
            y=[gib(chosen.memory_total_bytes)],
            mode="markers",
            name="chosen",
            marker={
                "symbol": "circle-open",
                "size": 19,
                "color": COLOURS[1],
                "line": {"width": 3},
            },
            hoverinfo="skip",
        )
    if plans:
        _capacity(figure, gib(plans[0].capacity_bytes))
    steps = [plan.step_time_s for plan in plans]
    wide = bool(steps) and max(steps) > WIDE * min(steps)
    figure.update_xaxes(title="step time, s", type="log" if wide else "linear")
    figure.update_yaxes(title="memory of the fullest rank, GiB", rangemode="tozero")
    return figure


def _capacity(figure: go.Figure, capacity: float) -> None:
    figure.add_hline(
        y=capacity,
        line={"dash": "dash", "color": COLOURS[1], "width": 1},
        annotation={
            "text": f"capacity {capacity:.1f} GiB",
            "font": {"color": COLOURS[1]},
            "xanchor": "right",
        },
    )


def _words(plan: Plan) -> str:
    cost = plan.cost_usd_per_step
    price = "" if cost is None else f"<br>{cost:,.2f} USD a step"
    return (
        f"<b>{plan.layout}</b><br>{details(plan.layout)}<br>{plan.step_time_s:.4g} s, "
        f"{gib(plan.memory_total_bytes):.1f} GiB, {plan.gpus:,} GPUs{price}"
    )
