"""The page *Calibrate & accuracy*: measure this machine; predictions beside measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import streamlit as st

from topologies.units import GIB
from ui import session
from ui.calibration import calibrate
from ui.export import csv_text
from ui.figures.accuracy import scatter
from ui.file_input import upload
from ui.frame import downloads, figure, guarded, link_notes, watched
from ui.measured import COMMITTED, QUANTITIES, Measured, committed
from ui.provenance import badges
from ui.question import asked_anew
from ui.scenarios import scenario_for
from ui.tables import runs
from ui.uploads import read_object, refuse_missing

if TYPE_CHECKING:
    from ui.background import Status
    from ui.question import Document, State

_UNITS = {"time": ("s", 1.0), "memory": ("GiB", GIB), "length": ("tokens", 1.0)}
_TITLES = {"time": "Time of a step", "memory": "Memory", "length": "Longest sequence that fits"}
_FIGURES = ("n", "median |error|, %", "p90, %", "bias, %", "in the interval, %")
_HELP = {
    "p90, %": "Nine of ten runs are closer.",
    "bias, %": "Mean error with its sign: positive where runs are faster than predicted.",
    "in the interval, %": "Runs whose interval, meant for 80%, holds what was measured.",
}


def show() -> None:
    """Show the page."""
    st.title("How sure it is", anchor=False)
    state = session.current()
    link_notes()
    session.keep(state)
    with guarded():
        st.markdown("**The profile in use** for the question on the page *Plan*:")
        badges(scenario_for(state.question))
        _load(state)
    shown = session.tabs({"": "Predicted against measured", "calibrate": "Calibrate this machine"})
    with shown[""], guarded():
        _measured()
    with shown["calibrate"], guarded():
        calibrate()


def _load(state: State) -> None:
    """Offer to plan with a profile of the user's own."""
    own = state.question.own_profile
    given = upload("profile", "Load a profile", ["json", "yaml", "yml"], own, "profile-here")
    if given != own:
        question = replace(state.question, own_profile=given)
        session.replace_all(replace(asked_anew(state, question), tab=state.tab))


def _measured() -> None:
    st.markdown(
        "Runs that others published, predicted and set against what they measured. For runs of "
        "your own, give a table (CSV, the columns of `tests/data/published_runs.csv`) or what "
        "`meshwright accuracy --json` wrote."
    )
    document = _given()
    if document is None:
        table = committed()
        if table is None:
            st.info("This checkout has no table of its own yet.", icon=":material/info:")
            return
        st.caption(f"This checkout's own table ({COMMITTED.name}).")
        _table(table)
        return
    if document.name.lower().endswith(".json"):
        _table(Measured.of(read_object(document), document.name))
        return
    refuse_missing(document)
    run = session.run_of("accuracy", document.name, document.text)
    if run is None:
        run = session.start("accuracy", document.name, document.text)
    status = watched(run, _rows)
    if status is not None:
        _table(Measured.of(status.result, document.name))


def _given() -> Document | None:
    """Return the table that takes the place of this checkout's own, if one is given."""
    state = session.current()
    document = upload("table", "or a table of your own", ["csv", "json"], state.runs, "runs")
    if document != state.runs:
        session.keep(replace(state, runs=document, kind="", source=""))
        st.rerun()
    return document


def _rows(status: Status) -> str:
    done, total = status.progress or (0, 0)
    return f"Predicting {done:,} of {total:,} rows"


def _table(table: Measured) -> None:
    rows = table.rows()
    st.dataframe(
        rows,
        hide_index=True,
        height=min(38 + 35 * len(rows), 318),
        column_config={
            name: st.column_config.NumberColumn(format="%.1f", help=_HELP.get(name))
            for name in _FIGURES
            if name != "n"
        },
        alt="Errors of times of all runs, of each kind and of each source",
    )
    downloads("errors", {"Errors, CSV": ("meshwright-errors.csv", csv_text(rows))})
    if table.skipped:
        st.caption(f"{table.skipped:,} rows were not predicted: their reasons are in the file.")
    if table.points:
        _runs(table)


def _runs(table: Measured) -> None:
    state = session.current()
    left, right = st.columns(2)
    with left:
        kind = _filter("Kind of run", {each.kind for each in table.points}, state.kind, "kind")
    with right:
        every = {each.source for each in table.points if kind in ("", each.kind)}
        source = _filter("Source", every, state.source, "source")
    if (kind, source) != (state.kind, state.source):
        session.keep(replace(state, kind=kind, source=source))
    points = table.picked(kind, source)
    for quantity in sorted({point.quantity for point in points}, key=QUANTITIES.index):
        mine = [point for point in points if point.quantity == quantity]
        middle = median(abs(point.error) for point in mine)
        st.markdown(
            f"**{_TITLES[quantity]}**: {len(mine):,} runs, median error {middle:.1%} "
            "(each once; the table weighs repeats and leaves some out)"
        )
        figure(
            scatter(mine, *_UNITS[quantity]),
            f"accuracy-{quantity}",
            f"Predicted over measured {_TITLES[quantity].lower()} of {len(mine)} runs, with "
            "intervals",
            partial(runs, mine),
        )


def _filter(title: str, names: set[str], chosen: str, name: str) -> str:
    """Offer one of some names, or all; return the one, or empty."""
    options = ["", *sorted(names - {""})]
    at = options.index(chosen) if chosen in options else 0
    found: str = st.selectbox(
        title,
        options,
        at,
        format_func=lambda each: each.replace("_", " ") if each else "all",
        key=session.key(f"{name}-{len(options)}"),
    )
    return found
