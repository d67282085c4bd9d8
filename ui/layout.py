"""The page *Layout*: one layout in full, every axis to change, and another one beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitAPIException

from planner.answer import likely
from planner.choices import USUAL_CHANCE
from planner.cli.report import money
from planner.compare import differences, why_better
from planner.durations import interval, seconds
from planner.layout_words import details, stages_in_words
from ui import session, tables
from ui.estimates import Estimate, estimate, offers, usual_layout
from ui.export import csv_text, json_text, plan_call
from ui.figures.memory import memory
from ui.figures.roofline import roofline
from ui.figures.waterfall import beside, waterfall
from ui.frame import asked, downloads, figure, guarded, link_notes
from ui.provenance import badges
from ui.scenarios import layout_text
from ui.words import AXIS_TITLES, HINTS, gib, plain

if TYPE_CHECKING:
    from planner.alternatives import Alternative
    from planner.plans import Plan
    from ui.question import State

#: Axes that most people change; the others are one step further away.
_FIRST = ("tp", "ulysses", "ring", "pp", "dp", "micro_batch", "zero", "recompute")
#: Differences below this share of a step are rounding.
NOISE = 1e-6


def show() -> None:
    """Show the page."""
    state = session.current()
    st.title("One layout in full", anchor=False)
    link_notes()
    asked(state.question)
    if not state.layout:
        state = replace(state, layout=usual_layout(state.question))
        st.caption(
            "No layout is chosen on the page *Plan* yet: this is a common one to begin with."
        )
    found = estimate(state.question, state.layout)
    session.keep(replace(state, layout=layout_text(found.plan.layout)))
    badges(found.scenario)
    _workbench()


@st.fragment
def _workbench() -> None:
    """Show controls and what they lead to; changing one runs only this again."""
    begun = time.perf_counter()
    with guarded():
        state = session.current()
        _show(replace(state, layout=state.layout or usual_layout(state.question)))
    st.session_state.workbench_ms = 1e3 * (time.perf_counter() - begun)
    st.caption(f"Worked out in {st.session_state.workbench_ms:.0f} ms.")


def _again() -> None:
    """Run this part of the page again; all of it where all of it is running."""
    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()


def _show(state: State) -> None:
    left, right = st.columns([3, 8], gap="medium")
    with left:
        changed = _controls(state)
    if changed is not None:
        state = replace(state, layout=changed)
        session.keep(state)
        st.session_state.turned = st.session_state.get("turned", 0) + 1
        _again()
    found = estimate(state.question, state.layout)
    with right:
        _summary(state, found)
        _figures(found)
    _operations(found)
    _refused(state)
    _compare(state, found)


def _controls(state: State) -> str | None:
    """Show an input for every axis with its legal values; return a layout that was asked for."""
    every = offers(state.question, state.layout)
    wanted: Alternative | None = None
    st.markdown("**Axes.** Values that cannot be are left out; the list below says why.")
    for axis in _FIRST:
        wanted = _control(axis, every[axis]) or wanted
    with st.expander("More axes"):
        for axis in AXIS_TITLES:
            if axis not in _FIRST:
                wanted = _control(axis, every[axis]) or wanted
    return layout_text(wanted.layout) if wanted is not None else None


def _control(axis: str, values: tuple[Alternative, ...]) -> Alternative | None:
    """Show one axis; return the value that was chosen instead of the layout's own."""
    allowed = {each.label: each for each in values if not each.refused}
    own = _own(axis, values)
    if len(allowed) < 2:
        if axis in _FIRST:
            st.caption(f"{AXIS_TITLES[axis]}: {own}, nothing else is possible here")
        return None
    kind = st.segmented_control if _short(list(allowed)) else st.selectbox
    options = {"required": True, "default": own} if kind is st.segmented_control else {}
    index = {} if options else {"index": list(allowed).index(own)}
    chosen = kind(  # type: ignore[operator]
        AXIS_TITLES[axis],
        list(allowed),
        key=session.key(f"axis-{axis}-{st.session_state.get('turned', 0)}"),
        help=HINTS[axis],
        **options,
        **index,
    )
    return allowed[chosen] if chosen is not None and chosen != own else None


def _own(axis: str, values: tuple[Alternative, ...]) -> str:
    """Return the value that the layout has: the one whose layout all others started from."""
    state = session.current()
    own = estimate(state.question, state.layout).plan.layout
    return next(each.label for each in values if each.value == getattr(own, axis))


def _short(labels: list[str]) -> bool:
    return len(labels) <= 7 and sum(map(len, labels)) + 3 * len(labels) <= 44


def _summary(state: State, found: Estimate) -> None:
    plan = found.plan
    fits = "fits" if plan.fits else "**does not fit**"
    st.subheader(str(plan.layout), anchor=False)
    st.markdown(f"{plain(details(plan.layout))}; runs in {plain(_runs(plan))}")
    if unequal := stages_in_words(plan.stage_layers):
        st.caption(unequal)
    cells = st.columns(4)
    cells[0].metric(
        "step time",
        seconds(plan.step_time_s),
        help="80% of such steps should take " + interval(*plan.interval_s) + ".",
    )
    cells[1].metric("10th to 90th percentile", interval(*plan.interval_s))
    cells[2].metric("tokens/s/GPU", f"{plan.tokens_per_s_per_gpu:,.0f}")
    cells[3].metric("MFU", f"{plan.mfu:.1%}", help="Causal attention counted as half.")
    low, high = (gib(value) for value in plan.memory_interval_bytes)
    cost = plan.cost_usd_per_step
    price = "" if cost is None else f"; {money(cost)} USD a step"
    st.markdown(
        f"Fullest rank {gib(plan.memory_total_bytes):.1f} GiB ({low:.1f} to {high:.1f}) of "
        f"{gib(plan.capacity_bytes):.1f}: {fits} (a chance of {likely(plan)} to"
        f"{_asked_chance(found)}){price}."
    )
    row = st.container(horizontal=True)
    if row.button("Compare others with this one", icon=":material/compare_arrows:"):
        session.keep(replace(state, beside=state.layout))
        _again()
    downloads(
        "layout",
        {
            "JSON": ("meshwright-layout.json", json_text(plan.to_dict())),
            "Python call": ("meshwright_layout.py", plan_call(state.question, plan)),
        },
    )


def _runs(plan: Plan) -> str:
    return ", ".join(plan.runs_in) or "none of the frameworks known"


def _figures(found: Estimate) -> None:
    plan = found.plan
    first, second = st.columns(2)
    with first:
        st.markdown("**Where the step goes**")
        figure(
            waterfall(plan),
            "waterfall",
            f"Waterfall of a step of {seconds(plan.step_time_s)}: "
            + ", ".join(f"{row['part']} {row['share, %']:.1f}%" for row in tables.step_parts(plan)),
            partial(tables.step_parts, plan),
        )
    with second:
        st.markdown("**Memory by pipeline stage**")
        figure(
            memory(found.stages, plan.capacity_bytes),
            "memory",
            "Stacked bars of the memory of a rank of every pipeline stage against the capacity; "
            f"the fullest is of stage {plan.memory_stage} with "
            f"{gib(plan.memory_total_bytes):.1f} GiB.",
            partial(tables.bill, found.stages),
        )


def _operations(found: Estimate) -> None:
    more = st.expander(
        "Operations of one micro-batch, and what holds each up (roofline)",
        key=session.key("operations"),
        on_change="rerun",
    )
    if not more.open:
        return
    with more:
        rows = tables.operations(found.operations)
        figure(
            roofline(found.operations, found.scenario.cluster.accelerator),
            "roofline",
            "Roofline: operations by FLOP per byte and rate, under the device's peak and bandwidth",
        )
        st.dataframe(
            rows,
            hide_index=True,
            height=320,
            column_config={
                name: st.column_config.NumberColumn(format="%.4g")
                for name in ("ms", "GFLOP", "MB", "FLOP/byte")
            },
            alt="Operations with their time, arithmetic, bytes and what bounds them",
        )
        downloads("operations", {"CSV": ("meshwright-operations.csv", csv_text(rows))})


def _refused(state: State) -> None:
    every = offers(state.question, state.layout)
    rows = [row for values in every.values() for row in tables.refused(values)]
    with st.expander(f"{len(rows)} values that cannot be here, each with its reason"):
        st.dataframe(rows, hide_index=True, alt="Values of axes that are refused, with reasons")
        downloads("refused", {"CSV": ("meshwright-refused.csv", csv_text(rows))})


def _asked_chance(found: Estimate) -> str:
    """Return which chance was asked for, where it is not the usual one."""
    chance = found.scenario.fit_chance
    return "" if chance == USUAL_CHANCE else f", where {chance:.0%} is asked for"


def _compare(state: State, found: Estimate) -> None:
    st.subheader("Beside another layout", anchor=False)
    text = st.text_input(
        "The other layout",
        state.beside,
        key=session.key(f"beside-{state.beside}"),
        max_chars=1000,
        placeholder="tp=4,ulysses=4,pp=2,dp=8",
        help="Axes with values, joined by commas; those not given are what most runs have.",
    )
    if text != state.beside:
        session.keep(replace(state, beside=text))
        _again()
    if not text.strip():
        st.caption("Name a layout here, or keep the present one and then change axes above.")
        return
    with guarded():
        other = estimate(state.question, text)
        _differences(found.plan, other.plan)


def _differences(plan: Plan, other: Plan) -> None:
    faster, slower = sorted((plan, other), key=lambda each: each.step_time_s)
    st.markdown(f"This: **{plan.layout}**; the other: **{other.layout}**")
    figure(
        beside(plan, other, ("this", "other")),
        "beside",
        f"Two steps part by part: {seconds(plan.step_time_s)} and {seconds(other.step_time_s)}",
        partial(tables.two_steps, plan, other),
    )
    if plan.layout == other.layout:
        st.markdown("They are the same layout.")
    else:
        which = "This layout" if faster is plan else "The other layout"
        share = slower.step_time_s / faster.step_time_s - 1.0
        st.markdown(
            f"**{which} is faster: the slower one takes {share:.1%} longer.** It has "
            f"{plain(why_better(faster, slower))}."
        )
    rows = [
        {"term": each.term, "the other takes longer by, s": each.seconds}
        for each in differences(plan, other)
        if abs(each.seconds) > NOISE * plan.step_time_s
    ]
    more = gib(other.memory_total_bytes - plan.memory_total_bytes)
    than = "more" if more > 0 else "less"
    fits = "fits" if other.fits else "**does not fit**"
    st.markdown(
        f"The other's fullest rank holds {abs(more):.1f} GiB {than}: it {fits} (a chance of "
        f"{likely(other)} to)."
    )
    st.dataframe(rows, hide_index=True, alt="What explains the difference, largest first")
    downloads(
        "beside",
        {
            "CSV": ("meshwright-difference.csv", csv_text(rows)),
            "The other, JSON": ("meshwright-other.json", json_text(other.to_dict())),
        },
    )
