"""The memory bill of every kind of pipeline rank against the capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from topologies.palette import COLOURS
from ui.figures.look import layout
from ui.words import LINE_COLOURS, LINES, gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.stage_memory import StageMemory

#: Many lines with long names: below the bars, which need the width.
_BELOW = {"orientation": "h", "yanchor": "top", "y": -0.4, "x": 0.0, "font": {"size": 11}}


def memory(stages: Sequence[StageMemory], capacity_bytes: float) -> go.Figure:
    """Return a stacked bar for each kind of rank, the fullest marked, and the capacity's line."""
    fullest = max(stages, key=lambda stage: stage.total_bytes)
    names = [_name(stage, fullest=stage is fullest) for stage in stages]
    figure = go.Figure(layout=layout(430, barmode="stack", legend=_BELOW))
    for line in stages[0].memory_bytes:
        values = [gib(stage.memory_bytes[line]) for stage in stages]
        if max(values) > 0:
            figure.add_bar(
                x=names,
                y=values,
                name=LINES[line],
                marker={"color": LINE_COLOURS[line]},
                hovertemplate=f"{LINES[line]}: %{{y:.2f}} GiB<extra></extra>",
            )
    capacity = gib(capacity_bytes)
    figure.add_hline(
        y=capacity,
        line={"dash": "dash", "color": COLOURS[1], "width": 2},
        annotation={"text": f"capacity {capacity:.1f} GiB", "font": {"color": COLOURS[1]}},
    )
    figure.update_yaxes(title="GiB", rangemode="tozero")
    figure.update_xaxes(tickangle=0, tickfont={"size": 11})
    figure.update_layout(bargap=0.35)
    return figure


def _name(stage: StageMemory, *, fullest: bool) -> str:
    alike = f"{stage.alike} ranks like {stage.stage}" if stage.alike > 1 else f"rank {stage.stage}"
    ends = [end for end, there in (("embedding", stage.embedding), ("head", stage.head)) if there]
    holds = ", ".join([f"{stage.layers} layers", *ends])
    return f"{alike}<br>{holds}" + ("<br><b>fullest</b>" if fullest else "")
