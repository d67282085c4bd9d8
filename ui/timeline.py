"""The page *Timeline*: one step of a layout as the event clock plays it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from models.simulation.trace import write_trace
from planner.answer import likely
from planner.durations import seconds
from ui import perfetto, session, tables
from ui.estimates import estimate, usual_layout
from ui.export import csv_text, json_text
from ui.figures.gantt import MOST_RANKS, gantt, memory_over_time
from ui.frame import asked, downloads, figure, link_notes, watched
from ui.words import gib

if TYPE_CHECKING:
    from models.simulation.timeline import Timeline
    from planner.plans import Plan
    from planner.simulated import Simulated
    from ui.estimates import Estimate
    from ui.question import State

#: Ranks that are shown where none are chosen.
USUAL_RANKS = 4
#: Passes of a step that takes a while to play.
LONG = 50_000


def show() -> None:
    """Show the page."""
    state = session.current()
    st.title("What happens when", anchor=False)
    link_notes()
    asked(state.question)
    text = state.layout or usual_layout(state.question)
    state = replace(state, layout=text)
    found = estimate(state.question, text)
    session.keep(state)
    st.markdown(
        f"**{found.plan.layout}** on the event clock: kernels, collectives and sends one after "
        "the other on the streams of a rank of every pipeline stage; what shares links slows "
        "each other."
    )
    if not found.plan.fits:
        st.warning(f"This layout does not fit (a chance of {likely(found.plan)} to).")
    run = session.run_of("play", state.question, text)
    if run is None or (
        run.status().phase == "stopped"
        and st.button("Play it again", type="primary", icon=":material/play_arrow:")
    ):
        run = session.start("play", state.question, text)
    status = watched(run, lambda _: playing(found))
    if status is not None:
        _answer(state, found.plan, status.result, found.scenario.cluster.accelerator.title)


def playing(found: Estimate) -> str:
    """Return what is being played, in words, and how long that may take."""
    layout, batch = found.plan.layout, found.scenario.workload.global_batch
    micro_batches = batch // (layout.dp * layout.micro_batch)
    passes = 2 * layout.pp * layout.vp * micro_batches
    usual = "some seconds" if passes < LONG else "up to minutes"
    return (
        f"Playing {passes:,} passes of {micro_batches:,} micro-batches over {layout.pp} "
        f"pipeline stages, which takes {usual}"
    )


def _answer(state: State, plan: Plan, played: Simulated, device: str) -> None:
    step = played.step.step_s
    cells = st.columns(4)
    cells[0].metric("event clock", seconds(step), border=True)
    cells[1].metric(
        "closed form",
        seconds(plan.step_time_s),
        f"{step / plan.step_time_s - 1:+.1%} on the event clock",
        delta_color="off",
        delta_arrow="off",
        border=True,
    )
    exposed = max(rank["exposed_s"] for rank in played.ranks())
    cells[2].metric(
        "exposed communication",
        seconds(exposed),
        border=True,
        help="Of the rank that waits longest: it communicates and does not compute.",
    )
    peak = max(rank["peak_memory_bytes"] for rank in played.ranks())
    cells[3].metric("peak memory", f"{gib(peak):.1f} GiB", border=True)
    _take_away(state, played, device)
    _charts(played, plan.capacity_bytes)
    rows = tables.played(played)
    st.subheader("Rank by rank", anchor=False)
    st.dataframe(rows, hide_index=True, alt="Idle time, bubble, communication and peak memory")
    downloads("ranks", {"CSV": ("meshwright-ranks.csv", csv_text(rows))})


def _take_away(state: State, played: Simulated, device: str) -> None:
    downloads(
        "trace",
        {
            "Trace for Perfetto (.json.gz)": (
                "meshwright-trace.json.gz",
                lambda: trace(played, device),
            ),
            "Figures, JSON": ("meshwright-simulated.json", json_text(played.to_dict())),
        },
    )
    if not perfetto.installed():
        st.caption(
            "To look at the trace here, install the viewer: `pip install 'meshwright[trace]'`. "
            "The downloaded trace opens in any Perfetto."
        )
        return
    shown = (state.question, state.layout)
    if st.button("Start the Perfetto viewer", icon=":material/play_circle:"):
        st.session_state.viewed = (shown, perfetto.serve(trace(played, device)))
    viewed = st.session_state.get("viewed")
    if viewed is not None and viewed[0] == shown:
        st.link_button("Open it in a tab", viewed[1], icon=":material/open_in_new:")
        st.caption("The viewer runs on the machine of this page and is seen from there only.")


def trace(played: Simulated, device: str) -> bytes:
    """Return a step as a compressed trace."""
    with tempfile.TemporaryDirectory(prefix="meshwright-") as folder:
        path = Path(folder) / "trace.json.gz"
        write_trace(played.timeline, path, device=device)
        return path.read_bytes()


@st.fragment
def _charts(played: Simulated, capacity_bytes: float) -> None:
    """Show the step within a window; moving the window runs only this again."""
    state = session.current()
    timeline = played.timeline
    low, high = st.slider(
        "Window of the step, %",
        0.0,
        100.0,
        _window(state.window),
        step=0.5,
        key=session.key("window"),
        help="Narrow it to tell kernels apart: what lies closer than a pixel is drawn as one.",
    )
    if f"{low:g}-{high:g}" != state.window:
        session.keep(replace(state, window=f"{low:g}-{high:g}"))
    if high <= low:
        high = min(low + 0.5, 100.0)
    window = (low / 100.0 * timeline.step_s, high / 100.0 * timeline.step_s)
    shown = _shown(timeline)
    figure(
        gantt(timeline, window, shown),
        "gantt",
        f"Gantt chart of {seconds(timeline.step_s)} on the streams of {len(shown)} ranks: compute, "
        "communication of every axis, sends. Drag to zoom.",
        partial(tables.spans, timeline, window, shown),
    )
    st.markdown("**Memory in use**")
    figure(
        memory_over_time(timeline, shown, capacity_bytes, window),
        "memory-over-time",
        "Memory in use on each rank over the step, against the capacity",
        partial(tables.memory_over_time, timeline, shown),
    )


def _shown(timeline: Timeline) -> list[int]:
    """Return the places of the ranks that are looked at."""
    state = session.current()
    places = list(range(len(timeline.ranks)))
    if len(places) == 1:
        return places
    usual = places[:USUAL_RANKS]
    wanted = {int(each) for each in state.ranks.split(",") if each.isdecimal()}
    shown: list[int] = st.multiselect(
        "Ranks, one of every pipeline stage",
        places,
        sorted(wanted & set(places))[:MOST_RANKS] or usual,
        format_func=lambda place: f"rank {timeline.ranks[place]:,}",
        max_selections=MOST_RANKS,
        key=session.key("ranks"),
    )
    text = "" if sorted(shown) == usual else ",".join(map(str, sorted(shown)))
    if text != state.ranks:
        session.keep(replace(state, ranks=text))
    return shown


def _window(text: str) -> tuple[float, float]:
    """Return a window in percent; the whole step for what is none."""
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        return 0.0, 100.0
    return (low, high) if 0.0 <= low < high <= 100.0 else (0.0, 100.0)
