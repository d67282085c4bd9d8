"""The memory bill of every pipeline stage against the capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from topologies.palette import COLOURS
from ui.figures.look import BELOW, layout
from ui.words import LINE_COLOURS, LINES, SHORT_LINES, gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.stage_memory import StageMemory

#: Stages whose layers are named below their bars.
FEW = 6


def memory(stages: Sequence[StageMemory], capacity_bytes: float) -> go.Figure:
    """Return a stacked bar for each stage, the fullest marked, and the capacity's line."""
    fullest = max(stages, key=lambda stage: stage.total_bytes)
    names = [_name(stage, few=len(stages) <= FEW) for stage in stages]
    held = [f"{stage.stage}: {_holds(stage)}" for stage in stages]
    bars = []
    for line in stages[0].memory_bytes:
        values = [gib(stage.memory_bytes[line]) for stage in stages]
        if max(values) > 0:
            bars.append(
                {
                    "type": "bar",
                    "x": names,
                    "y": values,
                    "name": SHORT_LINES.get(line, LINES[line]),
                    "marker": {"color": LINE_COLOURS[line]},
                    "text": held,
                    "textposition": "none",
                    "hovertemplate": f"<b>stage %{{text}}</b><br>{LINES[line]}: %{{y:.2f}} GiB"
                    "<extra></extra>",
                }
            )
    axes = {
        "xaxis": {"type": "category", "tickfont": {"size": 11}, "tickangle": 0},
        "yaxis": {"title": {"text": "GiB"}, "rangemode": "tozero"},
    }
    marks = _capacity(gib(capacity_bytes), names[stages.index(fullest)], gib(fullest.total_bytes))
    legend = BELOW | {"y": -0.32}
    return go.Figure(
        data=bars,
        layout=layout(470, barmode="stack", bargap=0.35, legend=legend, **axes, **marks),
    )


def _capacity(capacity: float, fullest: str, holds: float) -> dict[str, Any]:
    """Return the line of the capacity, and the words at it and over the fullest stage."""
    across = {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": capacity, "y1": capacity}
    beside = {"xref": "x domain", "x": 1, "xanchor": "right", "y": capacity, "yanchor": "bottom"}
    over = {"x": fullest, "y": holds, "yanchor": "bottom", "showarrow": False}
    return {
        "shapes": [
            {"type": "line", "line": {"dash": "dash", "color": COLOURS[1], "width": 2}, **across}
        ],
        "annotations": [
            {
                "text": f"capacity {capacity:.1f} GiB",
                "font": {"color": COLOURS[1]},
                "showarrow": False,
                **beside,
            },
            {"text": f"<b>fullest<br>{holds:.1f}</b>", **over},
        ],
    }


def _name(stage: StageMemory, *, few: bool) -> str:
    return f"<b>{stage.stage}</b><br>{_holds(stage, '<br>')}" if few else str(stage.stage)


def _holds(stage: StageMemory, between: str = ", ") -> str:
    ends = [end for end, there in (("embedding", stage.embedding), ("head", stage.head)) if there]
    return between.join([f"{stage.layers} layers", *ends])
