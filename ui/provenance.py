"""How sure the figures are, and what nothing measured backs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from topologies.figure import Provenance
from ui import tables
from ui.export import csv_text
from ui.frame import downloads
from ui.measured import committed
from ui.words import plain

if TYPE_CHECKING:
    from planner.scenario import Scenario

_COLOURS = {
    Provenance.MEASURED: "green",
    Provenance.FITTED: "green",
    Provenance.SPEC: "blue",
    Provenance.ASSUMED: "orange",
}


def badges(scenario: Scenario) -> None:
    """Show the profile in use, its spreads, how it does on published runs, and what is assumed."""
    profile = scenario.device.profile
    rows = tables.assumed(scenario)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"profile {plain(profile.name)}", icon=":material/speed:", color="blue")
        for name, spread in (
            ("compute", profile.compute_spread),
            ("communication", profile.communication_spread),
            ("memory", profile.memory_spread),
        ):
            st.badge(f"{name} ±{spread.value:.0%} ({spread.kind})", color=_COLOURS[spread.kind])
        table = committed()
        errors = table.by_kind.get("training_run", table.overall) if table is not None else None
        if errors is not None and errors.median is not None:
            st.badge(
                f"published training steps: median error {errors.median:.1%} of {errors.n:,}",
                color="green",
            )
        more = st.popover(
            f"{len(rows)} figures are assumed", type="tertiary", key="assumed", on_change="rerun"
        )
    if more.open:
        with more:
            _assumed(rows)


def _assumed(rows: list[dict[str, Any]]) -> None:
    st.markdown(
        "Nothing measured backs these; a profile of your own machines (*Calibrate & accuracy*) "
        "replaces those of the accelerator."
    )
    st.dataframe(rows, hide_index=True, alt="Assumed figures with their reasons")
    downloads("assumed", {"CSV": ("meshwright-assumed.csv", csv_text(rows))})
