"""What all figures share: margins, hover, and colours that suit a light and a dark page."""

from __future__ import annotations

from itertools import product
from math import ceil, floor, log10
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


#: Ends of a logarithmic axis that are further apart have labels at decades only.
MOST_LABELLED = 1e4
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


def logarithmic(low: float, high: float, title: str) -> dict[str, Any]:
    """Return a logarithmic axis, labelled at 1, 2 and 5 of each decade where decades are few.

    >>> logarithmic(30.0, 700.0, "GiB")["ticktext"]
    ['50', '100', '200', '500']
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if high < MOST_LABELLED * low else (1,)
    ticks = [step * 10.0**decade for decade, step in product(decades, steps)]
    shown = [tick for tick in ticks if low <= tick <= high]
    return {
        "title": title,
        "type": "log",
        "range": [log10(low), log10(high)],
        "tickvals": shown,
        "ticktext": [f"{tick:,.10g}" for tick in shown],
    }


def empty(words: str, height: int = 160) -> go.Figure:
    """Return a figure that only says why there is none."""
    figure = go.Figure(layout=layout(height))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=words, showarrow=False, font={"color": GREY, "size": 14})
    return figure
