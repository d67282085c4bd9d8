"""A simulated step as a Gantt chart: the streams of every pipeline rank, as dense as pixels allow.

A step has up to a million spans; a screen has a thousand columns. Within the window that is shown,
spans of one colour on one stream that lie closer than a column are drawn as one, the paler the less
of it they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from models.simulation.timeline import Stream
from topologies.palette import COLOURS
from topologies.units import GIB
from ui.figures.look import empty, layout
from ui.words import AXIS_COLOURS, GREY, PART_COLOURS, gib, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.layout import Array
    from models.simulation.timeline import Timeline

    Places = NDArray[np.intp]

#: Columns of the finest screen that is drawn for, and the most bars of one picture.
COLUMNS, MOST_BARS = 1400, 6000
#: How opaque a bar is of spans that take next to nothing of it.
PALEST = 0.25
#: Ranks that are drawn at once.
MOST_RANKS = 16
#: Backward compute: no colour of an axis, nor of a part of a step; seen on white and on black.
BACKWARD = "#8064a9"
_STREAM_COLOURS = {
    Stream.TP: AXIS_COLOURS["tp"],
    Stream.CP: AXIS_COLOURS["ulysses"],
    Stream.CP_OUTER: AXIS_COLOURS["ring"],
    Stream.EP: AXIS_COLOURS["ep"],
    Stream.EP_INSIDE: AXIS_COLOURS["ep"],
    Stream.DP: AXIS_COLOURS["dp"],
    Stream.COPY: GREY,
}
_PHASE_COLOURS = {
    "forward": PART_COLOURS["compute"],
    "backward": BACKWARD,
    "recomputation": PART_COLOURS["recompute"],
    "optimizer": PART_COLOURS["optimizer"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What is drawn of one colour: bars on lanes.

    Parameters
    ----------
    name, colour
        What the legend calls it.
    lane, start_s, end_s
        Where each bar is.
    busy
        Share of each bar in which something runs.
    text
        What it says.
    """

    name: str
    colour: str
    lane: list[str]
    start_s: list[float]
    end_s: list[float]
    busy: list[float]
    text: list[str]


def bars(timeline: Timeline, window: tuple[float, float], ranks: Sequence[int]) -> list[Bars]:
    """Return what to draw of a window, in seconds, and of some ranks by their places."""
    low, high = window
    column = (high - low) / COLUMNS
    kinds = [_kind(timeline, number) for number in range(len(timeline.calls))]
    names = sorted(set(kinds))
    kind = np.array([names.index(each) for each in kinds])[timeline.call]
    seen = (timeline.end_s > low) & (timeline.start_s < high) & np.isin(timeline.rank, ranks)
    seen &= timeline.end_s > timeline.start_s
    found = []
    for number, (name, colour) in enumerate(names):
        made = Bars(name=name, colour=colour, lane=[], start_s=[], end_s=[], busy=[], text=[])
        mine = np.flatnonzero(seen & (kind == number))
        lanes = timeline.rank[mine] * len(Stream) + timeline.stream[mine]
        for lane in np.unique(lanes):
            spans = mine[lanes == lane]
            spans = spans[np.argsort(timeline.start_s[spans], kind="stable")]
            _merge(timeline, spans, column, _lane(timeline, int(lane)), made)
        found.append(made)
    return [each for each in found if each.lane]


def gantt(timeline: Timeline, window: tuple[float, float], ranks: Sequence[int]) -> go.Figure:
    """Return the chart of a window, in seconds, and of some ranks by their places."""
    found = bars(timeline, window, ranks)
    if not found:
        return empty("Nothing runs in this window.")
    lanes = sorted({lane for each in found for lane in each.lane}, key=_order)
    figure = go.Figure(layout=layout(90 + 26 * len(lanes), barmode="overlay", bargap=0.12))
    for each in found:
        figure.add_bar(
            y=each.lane,
            x=[end - start for start, end in zip(each.start_s, each.end_s, strict=True)],
            base=each.start_s,
            orientation="h",
            name=each.name,
            marker={
                "color": each.colour,
                "opacity": [PALEST + (1.0 - PALEST) * share for share in each.busy],
                "line": {"width": 0},
                "cornerradius": 0,
            },
            text=each.text,
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_xaxes(title="seconds from the start of the step", range=list(window))
    figure.update_yaxes(categoryorder="array", categoryarray=lanes[::-1])
    return figure


def memory_over_time(
    timeline: Timeline, ranks: Sequence[int], capacity_bytes: float, window: tuple[float, float]
) -> go.Figure:
    """Return the memory that some ranks, by their places, have in use over the step."""
    figure = go.Figure(layout=layout(280))
    for at, place in enumerate(ranks):
        times, nbytes = timeline.memory[place]
        picked = _thinned(times, nbytes)
        figure.add_scatter(
            x=np.append(times[picked], timeline.step_s),
            y=np.append(nbytes[picked], nbytes[-1:]) / GIB,
            mode="lines",
            line={"shape": "hv", "width": 1.5, "color": COLOURS[at % 6]},
            name=f"rank {timeline.ranks[place]}",
            hovertemplate="%{x:.4g} s: %{y:.2f} GiB",
        )
    capacity = gib(capacity_bytes)
    figure.add_hline(
        y=capacity,
        line={"dash": "dash", "color": COLOURS[1]},
        annotation={"text": f"capacity {capacity:.1f} GiB", "font": {"color": COLOURS[1]}},
    )
    figure.update_xaxes(title="seconds from the start of the step", range=list(window))
    figure.update_yaxes(title="GiB", rangemode="tozero")
    return figure


def _merge(timeline: Timeline, spans: Places, column: float, lane: str, into: Bars) -> None:
    """Add spans of one lane and colour as bars: those closer than a column as one."""
    start, end = timeline.start_s[spans], np.maximum.accumulate(timeline.end_s[spans])
    apart = np.flatnonzero(start[1:] - end[:-1] > column) + 1
    # A span of several columns stands for itself.
    wide = timeline.end_s[spans] - start > 4 * column
    cuts = np.union1d(apart, np.union1d(np.flatnonzero(wide), np.flatnonzero(wide) + 1))
    edges = np.unique(np.concatenate([[0], cuts, [len(spans)]])).astype(int)
    for first, last in pairwise(edges):
        if len(into.lane) >= MOST_BARS:
            return
        together = spans[first:last]
        stops = timeline.end_s[together]
        lasts, running = float(stops.max() - start[first]), float((stops - start[first:last]).sum())
        into.lane.append(lane)
        into.start_s.append(float(start[first]))
        into.end_s.append(float(start[first]) + lasts)
        into.busy.append(min(running / lasts, 1.0))
        into.text.append(_words(timeline, together, lasts, into.busy[-1]))


def _words(timeline: Timeline, spans: Places, lasts: float, busy: float) -> str:
    one = int(spans[0])
    call = timeline.calls[timeline.call[one]]
    if len(spans) > 1:
        names = [timeline.calls[each].name for each in np.unique(timeline.call[spans])[:4]]
        some = f"<b>{len(spans):,} spans</b> in {lasts:.4g} s, {busy:.0%} of it"
        return f"{some}: {label(', '.join(names))}"
    micro = int(timeline.micro_batch[one])
    whose = f"<br>micro-batch {micro}" if micro >= 0 else ""
    sent = f"<br>{call.nbytes / 1e6:,.1f} MB, group of {call.group}" if call.nbytes else ""
    return f"<b>{label(call.name)}</b><br>{lasts:.4g} s{whose}{sent}"


def _kind(timeline: Timeline, number: int) -> tuple[str, str]:
    call = timeline.calls[number]
    if call.stream is Stream.COMPUTE:
        said = "backward" if call.phase.endswith("gradient") else call.phase
        phase = next((each for each in _PHASE_COLOURS if said.endswith(each)), "forward")
        name = f"{phase} compute" if phase in ("forward", "backward") else phase
        return name, _PHASE_COLOURS[phase]
    if call.stream in _STREAM_COLOURS:
        return call.stream.label, _STREAM_COLOURS[call.stream]
    return "pipeline sends", AXIS_COLOURS["pp"]


def _lane(timeline: Timeline, lane: int) -> str:
    rank, stream = divmod(lane, len(Stream))
    return f"rank {timeline.ranks[rank]:,} {Stream(stream).label}"


def _order(lane: str) -> tuple[int, int]:
    _, rank, stream = lane.split(" ", 2)
    labels = [each.label for each in Stream]
    return int(rank.replace(",", "")), labels.index(stream)


def _thinned(times: Array, values: Array) -> Places:
    """Return places of a long record that keep its highest and lowest values."""
    if len(times) <= 2 * COLUMNS:
        return np.arange(len(times))
    blocks = np.array_split(np.arange(len(times)), COLUMNS)
    ends = [each[[int(np.argmax(values[each])), int(np.argmin(values[each]))]] for each in blocks]
    found: Places = np.unique(np.concatenate(ends))
    return found
