"""One visitor's state: kept for the session, mirrored in the address, read back from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from ui.background import office
from ui.permalink import from_query, to_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlit.elements.lib.mutable_tab_container import TabContainer

    from ui.background import Run
    from ui.question import State


def current() -> State:
    """Return the visitor's state; a link that was opened since the last run comes first."""
    query = st.query_params.to_dict()
    kept = st.session_state
    if "state" not in kept or (query and query != kept.written):
        state, problems = from_query(query)
        kept.state, kept.written, kept.link_problems = state, query, problems
        kept.generation = kept.get("generation", 0) + 1
    found: State = kept.state
    return found


def keep(state: State) -> None:
    """Keep a state and show it in the address."""
    query = to_query(state)
    st.session_state.state, st.session_state.written = state, query
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def replace_all(state: State) -> None:
    """Keep a state that inputs do not show yet, and begin again with it."""
    keep(state)
    st.session_state.generation += 1
    st.rerun()


def key(name: str) -> str:
    """Return the key of an input, another one whenever its value comes from elsewhere."""
    return f"{name}-{st.session_state.generation}"


def tabs(titles: Mapping[str, str]) -> dict[str, TabContainer]:
    """Show the parts of a page as tabs, that of the address open, and return them by name."""
    state = current()
    name = key(f"tabs-{'-'.join(titles)}")
    shown = st.tabs(
        list(titles.values()),
        default=titles.get(state.tab, titles[""]),
        key=name,
        on_change="rerun",
    )
    found = dict(zip(titles, shown, strict=True))
    opened = next((each for each, tab in found.items() if tab.open), "")
    if opened != state.tab:
        keep(replace(state, tab=opened))
    return found


def run_of(job: str, *arguments: Any) -> Run | None:  # noqa: ANN401 - the job's
    """Return this visitor's run of a job with just these arguments; None if there is none."""
    kept = st.session_state.get(f"run-{job}")
    return kept[1] if kept is not None and kept[0] == arguments else None


def start(job: str, *arguments: Any) -> Run:  # noqa: ANN401 - the job's
    """Start a job for this visitor; one of the same kind that still runs is stopped."""
    before = st.session_state.get(f"run-{job}")
    if before is not None and not before[1].over:
        before[1].stop()
    run = office().start(job, *arguments)
    st.session_state[f"run-{job}"] = (arguments, run)
    return run
