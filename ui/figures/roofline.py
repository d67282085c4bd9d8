"""Operations of one micro-batch by arithmetic intensity and rate, under the device's roofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ui.figures.look import empty, layout, logarithmic
from ui.words import BOUND_COLOURS, GREY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.roofline import TimedOperation
    from topologies.accelerator import Accelerator


def roofline(operations: Sequence[TimedOperation], accelerator: Accelerator) -> go.Figure:
    """Return compute operations as points: FLOP per byte across, TFLOP/s reached up."""
    points = [(each, each.intensity) for each in operations if each.intensity]
    if not points:
        return empty("No operation computes and streams.")
    figure = go.Figure(layout=layout(330))
    peak, Bps = accelerator.bf16_flops.value, accelerator.hbm_Bps.value
    ridge = peak / Bps
    low = min(ridge, *(intensity for _, intensity in points)) / 2.0
    high = max(ridge, *(intensity for _, intensity in points)) * 2.0
    roof = np.array([low, ridge, high])
    figure.add_scatter(
        x=roof,
        y=np.minimum(peak, roof * Bps) / 1e12,
        mode="lines",
        name="data sheet (bf16)",
        line={"color": GREY, "width": 1.5},
        hoverinfo="skip",
    )
    for bound, colour in BOUND_COLOURS.items():
        mine = [(each, intensity) for each, intensity in points if each.bound == bound]
        if mine:
            figure.add_scatter(
                x=[intensity for _, intensity in mine],
                y=[each.flop / each.seconds / 1e12 for each, _ in mine],
                mode="markers",
                name=f"bound by {bound}",
                marker={"color": colour, "size": 9},
                text=[f"{each.part}, {each.phase}: {each.name}" for each, _ in mine],
                hovertemplate="%{text}<br>%{x:.3g} FLOP/byte, %{y:.3g} TFLOP/s<extra></extra>",
            )
    slowest = min(each.flop / each.seconds for each, _ in points)
    figure.update_xaxes(logarithmic(low, high, "FLOP per byte of device memory"))
    figure.update_yaxes(logarithmic(min(slowest, low * Bps) / 1.5e12, peak * 1.5 / 1e12, "TFLOP/s"))
    return figure
