"""Predicted against measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from topologies.palette import COLOURS
from ui.figures.look import empty, layout, logarithmic
from ui.words import GREY, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ui.measured import Point

#: Sources that have a colour of their own; the others share one.
MOST_SOURCES = 6


def scatter(points: Sequence[Point], unit: str, per_unit: float = 1.0) -> go.Figure:
    """Return predictions over measurements with their intervals, on the line where both agree.

    Parameters
    ----------
    points
        Runs of one quantity.
    unit, per_unit
        What is shown, and how much of the points' own unit that is.
    """
    if not points:
        return empty("No run was predicted.")
    points = [_in_units(each, per_unit) for each in points]
    low = min(min(each.measured, each.predicted) for each in points) / 1.5
    high = max(max(each.measured, each.predicted) for each in points) * 1.5
    figure = go.Figure(layout=layout(460))
    for factor, dash, name in ((1.0, "solid", "equal"), (1.1, "dot", "±10%"), (1 / 1.1, "dot", "")):
        figure.add_scatter(
            x=[low, high],
            y=[low * factor, high * factor],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": dash},
            name=name,
            showlegend=bool(name),
            hoverinfo="skip",
        )
    for at, (name, mine) in enumerate(_by_source(points)):
        if mine:
            figure.add_scatter(
                x=[each.measured for each in mine],
                y=[each.predicted for each in mine],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(each.high - each.predicted, 0.0) for each in mine],
                    "arrayminus": [max(each.predicted - each.low, 0.0) for each in mine],
                    "width": 0,
                    "thickness": 0.6,
                },
                mode="markers",
                name=label(name),
                marker={"color": (*COLOURS[:6], GREY)[at], "size": 6, "opacity": 0.8},
                text=[_words(each, unit) for each in mine],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_xaxes(logarithmic(low, high, f"measured, {unit}"))
    figure.update_yaxes(logarithmic(low, high, f"predicted, {unit}"))
    return figure


def _in_units(point: Point, per_unit: float) -> Point:
    names = ("measured", "predicted", "low", "high")
    return replace(point, **{name: getattr(point, name) / per_unit for name in names})


def _words(point: Point, unit: str) -> str:
    named = ", ".join(label(each) for each in (point.kind, point.source) if each)
    return (
        f"<b>{label(point.id)}</b>: {point.error:+.1%}<br>measured {point.measured:.4g} {unit}"
        f"<br>predicted {point.predicted:.4g} {unit}, 80% within {point.low:.4g} to "
        f"{point.high:.4g}<br>{named}"
    )


def _by_source(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    """Return the points of the sources that have most, and those of all others together."""
    found: dict[str, list[Point]] = {}
    for each in points:
        found.setdefault(each.source, []).append(each)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    shown, others = ordered[:MOST_SOURCES], ordered[MOST_SOURCES:]
    rest = [point for _, mine in others for point in mine]
    return [*shown, (f"{len(others)} other sources", rest)]
