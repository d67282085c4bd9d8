"""The memory bill of every pipeline stage against the capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    figure = go.Figure(layout=layout(470, barmode="stack", legend=BELOW | {"y": -0.32}))
    for line in stages[0].memory_bytes:
        values = [gib(stage.memory_bytes[line]) for stage in stages]
        if max(values) > 0:
            figure.add_bar(
                x=names,
                y=values,
                name=SHORT_LINES.get(line, LINES[line]),
                marker={"color": LINE_COLOURS[line]},
                text=held,
                textposition="none",
                hovertemplate=f"<b>stage %{{text}}</b><br>{LINES[line]}: %{{y:.2f}} GiB"
                "<extra></extra>",
            )
    capacity = gib(capacity_bytes)
    figure.add_hline(
        y=capacity,
        line={"dash": "dash", "color": COLOURS[1], "width": 2},
        annotation={"text": f"capacity {capacity:.1f} GiB", "font": {"color": COLOURS[1]}},
    )
    figure.add_annotation(
        x=names[stages.index(fullest)],
        y=gib(fullest.total_bytes),
        text=f"<b>fullest<br>{gib(fullest.total_bytes):.1f}</b>",
        showarrow=False,
        yanchor="bottom",
    )
    figure.update_yaxes(title="GiB", rangemode="tozero")
    figure.update_xaxes(type="category", tickfont={"size": 11}, tickangle=0)
    figure.update_layout(bargap=0.35)
    return figure


def _name(stage: StageMemory, *, few: bool) -> str:
    return f"<b>{stage.stage}</b><br>{_holds(stage, '<br>')}" if few else str(stage.stage)


def _holds(stage: StageMemory, between: str = ", ") -> str:
    ends = [end for end, there in (("embedding", stage.embedding), ("head", stage.head)) if there]
    return between.join([f"{stage.layers} layers", *ends])
