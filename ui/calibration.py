"""Calibration from the page: torch where it is missing, the run on this machine, what it found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from topologies.errors import SpecError
from ui import session, torch_install
from ui.export import csv_text
from ui.figures.accuracy import scatter
from ui.frame import LOOK_S, downloads, figure, problems, watched
from ui.measured import Point
from ui.question import Document
from ui.scenarios import scenario_for
from ui.tables import runs
from ui.uploads import read_object
from ui.words import plain

if TYPE_CHECKING:
    from ui.background import Status

#: Seconds that a calibration from the page may measure.
SHORTEST_S, USUAL_S, LONGEST_S = 20, 60, 300


def calibrate() -> None:
    """Show what a calibration needs, runs and finds."""
    st.markdown(
        "Times real kernels on processes of this machine's CPU (gloo), fits the planner's own "
        "figures to them, and predicts layers and blocks that no fit has seen. GPUs are measured "
        "where they are: `meshwright calibrate` there, then upload the profile on the page *Plan*."
    )
    if not torch_install.there():
        _torch()
        return
    state = session.current()
    kept = int(state.budget) if state.budget.isdecimal() and len(state.budget) < 4 else USUAL_S
    seconds = st.slider(
        "Seconds to measure",
        SHORTEST_S,
        LONGEST_S,
        min(max(kept, SHORTEST_S), LONGEST_S),
        step=10,
        key=session.key("budget"),
        help="Longer runs take everything more often; what is too little is said.",
    )
    if seconds != kept:
        session.keep(replace(state, budget=str(seconds)))
    run = session.run_of("calibrate", float(seconds), 3)
    if st.button("Calibrate", type="primary", icon=":material/speed:"):
        run = session.start("calibrate", float(seconds), 3)
    status = watched(run, _samples) if run is not None else None
    if status is not None:
        _calibrated(status.result)


def _samples(status: Status) -> str:
    done, total = status.progress or (0, 0)
    return f"Measuring: {done:,} of {total:,} samples" if total else "Starting processes"


def _torch() -> None:
    installation = torch_install.current()
    st.info(
        f"Calibration runs real kernels in torch ({torch_install.requirement()}), which is not "
        "installed: it is large, and no other page needs it.",
        icon=":material/info:",
    )
    if installation is None or installation.code not in (None, 0):
        if installation is not None:
            st.error("The installation failed; its last lines are below.")
            st.code("\n".join(installation.lines[-12:]), language=None)
        if st.button("Install torch now", icon=":material/download:"):
            torch_install.begin()
            st.rerun()
        return
    _installing()


@st.fragment(run_every=LOOK_S)
def _installing() -> None:
    installation = torch_install.current()
    if installation is None or installation.code is not None:
        st.rerun()
        return
    st.code("\n".join(installation.lines[-8:]) or "Starting pip", language=None)
    if st.button("Stop", key="stop-torch"):
        installation.stop()


def _calibrated(text: str) -> None:
    document = Document("this-machine.json", text)
    content = read_object(document)
    st.success(f"Measured on {plain(content['provenance']['device'])}.")
    fits = [
        {
            "kind": name,
            "points": fit["points"],
            "in sample, %": 100.0 * fit["in_sample_median"],
            "held out, %": 100.0 * fit["held_out_median"],
            "90% within, %": 100.0 * fit["held_out_p90"],
        }
        for name, fit in content["fits"].items()
    ]
    st.markdown("**Fits, and their errors on points they have not seen**")
    st.dataframe(fits, hide_index=True, alt="Fits with their errors")
    points = tuple(_prediction(each) for each in content.get("predictions", ()))
    if points:
        st.markdown("**Layers and blocks that no fit has seen**")
        figure(
            scatter(points, "s"),
            "calibration",
            f"Predicted over measured seconds of {len(points)} held-out layers and blocks",
            partial(runs, points),
        )
    downloads(
        "calibration",
        {
            "The profile, JSON": ("meshwright-profile.json", text),
            "Fits, CSV": ("meshwright-fits.csv", csv_text(fits)),
        },
    )
    if st.button("Plan with this profile", icon=":material/check:"):
        state = session.current()
        try:
            question = replace(state.question, own_profile=document)
            scenario_for(question)
        except SpecError as error:
            problems(map(str, error.problems))
            return
        session.replace_all(replace(state, question=question, searched=False))


def _prediction(record: dict[str, Any]) -> Point:
    predicted = float(record["predicted_s"])
    return Point(
        id=str(record["kind"]),
        source=f"{record['kind']}s",
        kind="calibration",
        quantity="time",
        measured=float(record["measured_s"]),
        predicted=predicted,
        low=predicted,
        high=predicted,
        error=float(record["error"]),
    )
