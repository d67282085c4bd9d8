"""The page *Scaling*: what happens to the best layouts as one quantity grows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from models.workload import format_count, parse_count
from planner.sweeps import network_factor
from topologies.errors import Collected, Problem, SpecError
from ui import session, tables
from ui.export import csv_text, json_text
from ui.figures.sweep import crossovers, longest, sweep, value
from ui.frame import asked, downloads, figure, guarded, link_notes, watched
from ui.scenarios import scenario_for, sizes_of
from ui.words import TITLES, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner.scenario import Scenario
    from ui.background import Status
    from ui.question import State

#: Points of one sweep.
MOST_POINTS = 16
_NAMES = {
    "seq_len": "Sequence length",
    "gpus": "Accelerators",
    "network": "Network",
    "global_batch": "Batch",
}


def show() -> None:
    """Show the page."""
    state = session.current()
    st.title("How it scales", anchor=False)
    link_notes()
    asked(state.question)
    scenario = scenario_for(state.question)
    shown = session.tabs({"": "Ways to cut the sequence", "longest": "Longest sequence that fits"})
    with shown[""], guarded():
        _sweep(session.current(), scenario)
    with shown["longest"], guarded():
        _longest(session.current(), scenario)


def usual_points(quantity: str, scenario: Scenario) -> str:
    """Return values of a quantity around a scenario's own, as people write them."""
    work = scenario.workload
    if quantity == "network":
        return "0.25,0.5,1,2,4"
    if quantity == "seq_len":
        return ",".join(format_count(work.seq_len * 2**k // 16) for k in range(7))
    own = scenario.cluster.accelerators if quantity == "gpus" else work.global_batch
    low = 4 if quantity == "gpus" else 2
    return ",".join(str(own * 2**k // 2**low) for k in range(low + 2) if own * 2**k >= 2**low)


def parse_points(quantity: str, text: str) -> tuple[float, ...]:
    """Return the values of a sweep, ascending.

    Raises
    ------
    SpecError
        With every one that is no such value, or if they are too many.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MOST_POINTS:
        raise SpecError([Problem("points", text, f"1 to {MOST_POINTS} values, joined by commas")])
    found = Collected()
    count = partial(parse_count, field=TITLES[quantity])
    factor = partial(network_factor, field="points")
    read: Callable[[str], float] = factor if quantity == "network" else count
    values = [float(found.attempt(partial(read, part)) or 0) for part in parts]
    found.raise_if_any()
    return tuple(sorted(set(values)))


def _sweep(state: State, scenario: Scenario) -> None:
    quantity = state.sweep if state.sweep in _NAMES else "seq_len"
    left, right = st.columns([2, 3])
    chosen = left.segmented_control(
        "Quantity",
        list(_NAMES),
        default=quantity,
        required=True,
        format_func=_NAMES.__getitem__,
        key=session.key("sweep"),
    )
    points = state.points if chosen == quantity else ""
    text = right.text_input(
        f"Values: {TITLES[chosen]}",
        points or usual_points(chosen, scenario),
        key=session.key(f"points-{chosen}"),
        max_chars=300,
        help="Joined by commas. Every point is a search of its own for each way.",
    )
    if (chosen, text) != (state.sweep, state.points):
        state = replace(state, sweep=chosen, points=text, swept=False)
        session.keep(state)
    values = parse_points(chosen, text)
    run = session.run_of("sweep", state.question, chosen, values)
    pressed = st.button("Sweep", type="primary", icon=":material/trending_up:")
    if pressed or (state.swept and run is None):
        session.keep(replace(state, swept=True))
        run = session.start("sweep", state.question, chosen, values)
    if run is None:
        st.caption(
            "Finds at every point the best layout that does not cut the sequence, and the best of "
            "each way to cut it: Ulysses trades heads, a ring passes keys and values on, "
            "all-gather gathers them."
        )
        return
    status = watched(run, lambda status: _done(status, "points"))
    if status is not None:
        _swept(status, chosen)


def _swept(status: Status, quantity: str) -> None:
    points = status.result
    figure(
        sweep(points, quantity),
        "sweep",
        f"Tokens per second and GPU of each way to cut the sequence over {TITLES[quantity]}",
    )
    st.markdown("\n".join(f"- {plain(words)}" for words in crossovers(points, quantity)))
    rows = tables.swept(points, quantity)
    st.dataframe(
        rows,
        hide_index=True,
        height=320,
        column_config={
            name: st.column_config.NumberColumn(format="%.4g")
            for name in ("step, s", "tokens/s/GPU", "MFU, %", "GiB/rank")
        },
        alt="The best layout of each way at every point",
    )
    downloads(
        "sweep",
        {
            "CSV": ("meshwright-sweep.csv", csv_text(rows)),
            "JSON": (
                "meshwright-sweep.json",
                json_text({"points": [point.to_dict() for point in points]}),
            ),
        },
    )


def _longest(state: State, scenario: Scenario) -> None:
    usual = usual_points("gpus", scenario)
    text = st.text_input(
        "Accelerators",
        state.sizes or usual,
        key=session.key("longest"),
        max_chars=120,
        help="Joined by commas. Lengths double from 1k until none of the layouts fits.",
    )
    if text != (state.sizes or usual):
        state = replace(state, sizes="" if text == usual else text, stretched=False)
        session.keep(state)
    gpus = sizes_of(text)
    run = session.run_of("longest", state.question, gpus)
    pressed = st.button("Find the longest", type="primary", icon=":material/straighten:")
    if pressed or (state.stretched and run is None):
        session.keep(replace(state, stretched=True))
        run = session.start("longest", state.question, gpus)
    if run is None:
        st.caption("What fits in memory at all, however slow; pins of the question hold.")
        return
    status = watched(run, lambda status: _done(status, "sizes"))
    if status is None:
        return
    figure(
        longest(status.result),
        "longest",
        "Longest sequence that fits: "
        + ", ".join(
            f"{each.gpus:,} GPUs {value('seq_len', each.seq_len) if each.seq_len else 'none'}"
            for each in status.result
        ),
    )
    rows = tables.longest(status.result)
    st.dataframe(rows, hide_index=True, alt="Longest sequence by number of accelerators")
    downloads("longest", {"CSV": ("meshwright-longest.csv", csv_text(rows))})


def _done(status: Status, what: str) -> str:
    done, total = status.progress or (0, 0)
    return f"{done} of {total} {what}" if total else "Searching"
