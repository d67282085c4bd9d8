"""Where ranks sit, and how busy the links are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ui.figures.look import empty, layout
from ui.words import AXIS_COLOURS

if TYPE_CHECKING:
    from models.layout import Array
    from models.simulation.timeline import Timeline
    from planner.placement import Placement

#: Nodes that are drawn; further ones repeat the pattern.
MOST_NODES = 64
#: Moments at which the use of links is shown.
MOMENTS = 240
#: From idle to busy, to be told apart on white, on black, and without colours.
_HEAT = ["#1b0c41", "#781c6d", "#cf4446", "#fb9b06", "#f7d13d"]


def rank_map(placement: Placement, axis: str) -> go.Figure:
    """Return the accelerators, a row for each node, coloured by their place on an axis.

    Parameters
    ----------
    placement
        Where ranks sit.
    axis
        One of the placement's axes.
    """
    ranks = placement.ranks()
    if axis not in ranks:
        return empty("One rank on every axis: nothing to colour.")
    per_node = placement.accelerators_per_node
    nodes = min(-(-placement.accelerators // per_node), MOST_NODES)
    shown = min(nodes * per_node, placement.accelerators)
    rows, columns = nodes, min(per_node, placement.accelerators)
    places = np.full(rows * columns, np.nan)
    places[:shown] = ranks[axis][:shown]
    words = np.full(rows * columns, "", dtype=object)
    for rank in range(shown):
        own = ", ".join(f"{name} {int(place[rank])}" for name, place in ranks.items())
        words[rank] = f"<b>accelerator {rank}</b><br>{own}"
    size = next(each.size for each in placement.axes if each.name == axis)
    figure = go.Figure(layout=layout(max(150, 60 + 16 * rows)))
    figure.add_heatmap(
        z=places.reshape(rows, columns),
        text=words.reshape(rows, columns),
        hovertemplate="%{text}<extra></extra>",
        colorscale=_scale(axis),
        zmin=0,
        zmax=max(size - 1, 1),
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": f"place on {axis}", "side": "right"}, "thickness": 10},
    )
    figure.update_xaxes(title="accelerator of the node", dtick=max(columns // 16, 1))
    figure.update_yaxes(title="node", autorange="reversed")
    return figure


def link_heat(timeline: Timeline) -> go.Figure:
    """Return the share of every class of links in use over the step, a row for each rank's."""
    if not timeline.links:
        return empty("Nothing is sent.")
    edges = np.linspace(0.0, timeline.step_s, MOMENTS + 1)
    names, rows = [], []
    for name, place, times, shares in sorted(timeline.links, key=lambda each: (each[0], each[1])):
        names.append(f"{name}, rank {timeline.ranks[place]:,}")
        rows.append(_mean_share(times, shares, edges))
    figure = go.Figure(layout=layout(90 + 26 * len(rows)))
    figure.add_heatmap(
        z=100.0 * np.array(rows),
        x=(edges[:-1] + edges[1:]) / 2.0,
        y=names,
        colorscale=_HEAT,
        zmin=0,
        zmax=100,
        hovertemplate="%{y}<br>%{x:.4g} s: %{z:.0f}% in use<extra></extra>",
        colorbar={"title": {"text": "% in use", "side": "right"}, "thickness": 10},
    )
    figure.update_xaxes(title="seconds from the start of the step")
    figure.update_yaxes(autorange="reversed")
    return figure


def mean_use(timeline: Timeline) -> list[dict[str, float | str | int]]:
    """Return the mean and the highest share in use of every class of links and rank."""
    edges = np.array([0.0, timeline.step_s])
    return [
        {
            "links": name,
            "rank": timeline.ranks[place],
            "mean use over the step, %": 100.0 * float(_mean_share(times, shares, edges)[0]),
            "highest use, %": 100.0 * float(shares.max()),
        }
        for name, place, times, shares in timeline.links
    ]


def _mean_share(times: Array, shares: Array, edges: Array) -> Array:
    """Return the mean of a step function between edges."""
    before = np.concatenate([[0.0], np.cumsum(shares[:-1] * np.diff(times))])
    integral = np.interp(edges, times, before)
    found: Array = np.diff(integral) / np.diff(edges)
    return found


def _scale(axis: str) -> list[list[float | str]]:
    return [[0.0, "#e8ecef"], [1.0, AXIS_COLOURS.get(axis, "#0072b2")]]
