"""A step as a waterfall: compute, what of each axis is exposed, the bubble, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from planner.durations import seconds
from ui.figures.look import BELOW, layout
from ui.words import GREY, PART_COLOURS, PARTS, SHORT_PARTS

if TYPE_CHECKING:
    from planner.plans import Plan

#: Parts that are a smaller share of the step are rounding.
ROUNDING = 1e-9


def waterfall(plan: Plan) -> go.Figure:
    """Return the parts of a step one after another, the sum and its interval at the end."""
    parts = [(part, value) for part, value in plan.time_s.items() if _counts(value, plan)]
    # One figure of plain values: adding to one piece by piece takes several times as long.
    bars: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    base = 0.0
    for part, value in parts:
        said = f" {seconds(value)} ({value / plan.step_time_s:.1%}) "
        before = base > 0.6 * plan.step_time_s  # words beside a bar at the end go before it
        where = "inside" if value > 0.5 * plan.step_time_s else "outside"
        bars.append(
            {
                "type": "bar",
                "y": [SHORT_PARTS[part]],
                "x": [value],
                "base": [base],
                "orientation": "h",
                "marker": {"color": PART_COLOURS[part]},
                "text": [said],
                "textposition": "none" if before else where,
                "hovertemplate": f"{PARTS[part]}: %{{x:.4g}} s<extra></extra>",
                "cliponaxis": False,
            }
        )
        if before:
            place = {"x": base, "y": SHORT_PARTS[part], "xanchor": "right"}
            words.append({**place, "text": said, "showarrow": False})
        base += value
    more = {"showlegend": False, "annotations": words}
    axes = {
        "xaxis": {"title": {"text": "seconds"}, "range": [0, plan.interval_s[1] * 1.05]},
        "yaxis": {"autorange": "reversed"},
    }
    return go.Figure(data=[*bars, _whole(plan)], layout=layout(430, **more, **axes))


def _whole(plan: Plan) -> dict[str, Any]:
    """Return the bar of the step with its interval."""
    low, high = plan.interval_s
    return {
        "type": "bar",
        "y": ["step"],
        "x": [plan.step_time_s],
        "orientation": "h",
        "marker": {"color": GREY},
        "text": [seconds(plan.step_time_s)],
        "textposition": "inside",
        "insidetextanchor": "start",
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - plan.step_time_s],
            "arrayminus": [plan.step_time_s - low],
        },
        "hovertemplate": f"step {seconds(plan.step_time_s)}, 80% within {seconds(low)} to "
        f"{seconds(high)}<extra></extra>",
    }


def beside(best: Plan, other: Plan, names: tuple[str, str]) -> go.Figure:
    """Return two steps as stacked bars, part by part."""
    figure = go.Figure(layout=layout(330, barmode="stack", legend=BELOW | {"y": -0.45}))
    for part in best.time_s:
        values = [best.time_s[part], other.time_s[part]]
        if _counts(values[0], best) or _counts(values[1], other):
            figure.add_bar(
                y=list(names),
                x=values,
                orientation="h",
                name=SHORT_PARTS[part],
                marker={"color": PART_COLOURS[part]},
                hovertemplate=f"{PARTS[part]}: %{{x:.4g}} s<extra></extra>",
            )
    figure.update_xaxes(title="seconds")
    figure.update_yaxes(autorange="reversed")
    return figure


def _counts(value: float, plan: Plan) -> bool:
    """Return whether a part is more than rounding."""
    return value > ROUNDING * plan.step_time_s
