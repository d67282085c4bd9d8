"""What all figures share: margins, hover, and colours that suit a light and a dark page."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from ui.words import GREY


def layout(height: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - plotly's own keys
    """Return the layout that figures begin with."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0, "title": None},
        "hoverlabel": {"align": "left"},
        "barcornerradius": 2,
        **more,
    }


#: A legend of many names below a figure, in two columns whatever the width.
BELOW = {
    "orientation": "h",
    "yanchor": "top",
    "x": 0.0,
    "font": {"size": 11},
    "entrywidth": 0.48,
    "entrywidthmode": "fraction",
    "traceorder": "normal",
}


def empty(words: str, height: int = 160) -> go.Figure:
    """Return a figure that only says why there is none."""
    figure = go.Figure(layout=layout(height))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=words, showarrow=False, font={"color": GREY, "size": 14})
    return figure
