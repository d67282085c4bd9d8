"""The page *Topology*: the cluster, where the ranks of a layout sit, and how busy its links are."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import streamlit as st

from planner.durations import seconds
from topologies.builders import build_graph
from topologies.draw_dot import to_dot
from topologies.draw_svg import to_svg
from ui import session, tables
from ui.estimates import estimate, placed, usual_layout
from ui.export import csv_text
from ui.figures.topology import MOST_NODES, link_heat, mean_use, rank_map
from ui.frame import asked, downloads, figure, link_notes, watched
from ui.scenarios import layout_text, scenario_for
from ui.timeline import playing
from ui.words import plain

if TYPE_CHECKING:
    from planner.plans import Plan
    from planner.simulated import Simulated
    from ui.question import Question, State

#: Larger clusters take longer to draw than a page may.
MOST_DRAWN = 32_768


def show() -> None:
    """Show the page."""
    state = session.current()
    st.title("Where it sits", anchor=False)
    link_notes()
    asked(state.question)
    state = replace(state, layout=state.layout or usual_layout(state.question))
    found = estimate(state.question, state.layout)
    session.keep(state)
    _cluster(state, found.scenario.cluster.title, found.scenario.cluster.accelerators)
    _ranks(state, found.plan)
    _placements(state, found.plan)
    _links(state)


def _cluster(state: State, title: str, accelerators: int) -> None:
    st.subheader("The cluster", anchor=False)
    if accelerators > MOST_DRAWN:
        st.info(f"Clusters of more than {MOST_DRAWN:,} accelerators are not drawn.")
        return
    svg, dot = _drawn(state.question, accelerators)
    with st.expander(f"{plain(title)}, drawn", expanded=True):
        st.image(svg, width="stretch", alt=f"The links of {title}, what repeats folded")
    downloads("cluster", {"SVG": ("meshwright-cluster.svg", svg), "Graphviz": ("cluster.dot", dot)})


@lru_cache(maxsize=32)
def _drawn(question: Question, accelerators: int) -> tuple[str, str]:
    cluster = scenario_for(question, accelerators).cluster
    graph = build_graph(cluster)
    return to_svg(graph, f"{cluster.title}: {accelerators:,} accelerators"), to_dot(graph)


def _ranks(state: State, plan: Plan) -> None:
    st.subheader("Ranks, coloured by axis", anchor=False)
    st.markdown(f"**{plan.layout}**, rank order {plan.placement.rank_order.label}, innermost first")
    names = [axis.name for axis in plan.placement.axes]
    if not names:
        st.caption("One rank: there is nothing to place.")
        return
    own = state.axis if state.axis in names else names[0]
    axis = st.segmented_control(
        "Axis", names, default=own, required=True, key=session.key("axis"), width="stretch"
    )
    if axis != own:
        state = replace(state, axis=axis or "")
        session.keep(state)
    nodes = -(-plan.placement.accelerators // plan.placement.accelerators_per_node)
    if nodes > MOST_NODES:
        st.caption(f"The first {MOST_NODES} of {nodes:,} nodes.")
    figure(
        rank_map(plan.placement, axis or own),
        "ranks",
        f"Accelerators, a row for each node, coloured by their place on the axis {axis}",
        partial(tables.ranks, plan.placement),
    )
    rows = tables.axes(plan)
    st.dataframe(rows, hide_index=True, alt="Axes with size, stride and outermost link")
    downloads("axes", {"CSV": ("meshwright-axes.csv", csv_text(rows))})


def _placements(state: State, plan: Plan) -> None:
    st.subheader("Other placements of this layout", anchor=False)
    others = placed(state.question, state.layout)
    rows = tables.placed(others)
    event = st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "step, s": st.column_config.NumberColumn(format="%.4g"),
            "exposed, %": st.column_config.NumberColumn(format="%.1f"),
        },
        key=session.key(f"placements-{state.layout}"),
        on_select="rerun",
        selection_mode="single-row",
        alt="Rank orders that differ, with step time and exposed communication",
    )
    downloads("placements", {"CSV": ("meshwright-placements.csv", csv_text(rows))})
    own = next((at for at, each in enumerate(others) if each.layout == plan.layout), None)
    named = st.selectbox(
        "Placement taken",
        range(len(others)),
        own,
        format_func=lambda at: (
            f"{others[at].layout.rank_order.label}, {others[at].layout.cp_placement.label}: "
            f"{seconds(others[at].step_time_s)} a step"
        ),
        key=session.key(f"placement-{own}-{state.layout}"),
        placeholder="None of these",
    )
    chosen = event.selection.rows[0] if event.selection.rows else named
    if chosen is not None and chosen != own:
        session.keep(replace(state, layout=layout_text(others[chosen].layout)))
        st.rerun()
    spread = others[-1].step_time_s / others[0].step_time_s - 1.0
    st.caption(
        f"The slowest takes {spread:.1%} longer than the fastest. Choose a row to take it. "
        "Frameworks known run one or two of these orders."
    )


def _links(state: State) -> None:
    st.subheader("Use of the links over a step", anchor=False)
    state = session.current()
    run = session.run_of("play", state.question, state.layout)
    if run is None or run.status().phase == "stopped":
        st.caption("The event clock plays the step to see who sends when.")
        pressed = st.button("Play the step", icon=":material/play_arrow:", key="play-links")
        if pressed or (state.played and run is None):
            session.start("play", state.question, state.layout)
            session.keep(replace(state, played=True))
            st.rerun()
        return
    found = estimate(state.question, state.layout)
    status = watched(run, lambda _: playing(found))
    if status is not None:
        _heat(status.result)


def _heat(played: Simulated) -> None:
    figure(
        link_heat(played.timeline),
        "links",
        "Heat of link use: a row for each class of links and rank, time across a step of "
        + seconds(played.timeline.step_s),
    )
    rows = mean_use(played.timeline)
    st.dataframe(rows, hide_index=True, alt="Mean and highest use of every class of links")
    downloads("links", {"CSV": ("meshwright-links.csv", csv_text(rows))})
