"""The page *Plan*: ask, search, and look at all layouts that came out best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from models.workload import format_count
from planner.answer import likely
from planner.cli.report import money
from planner.durations import interval, seconds
from planner.job_block import job_block
from planner.layout_words import details
from planner.pareto import unbeaten_plans
from ui import inputs, session, tables
from ui.export import csv_text, json_text, plan_call, search_call
from ui.figures.pareto import pareto
from ui.frame import downloads, figure, link_notes, short_names, watched
from ui.jobs import Searched
from ui.provenance import badges
from ui.question import asked_anew, files_of
from ui.scenarios import layout_text, scenario_for, scenarios, sizes_of
from ui.words import gib, of_page, plain

if TYPE_CHECKING:
    from planner.plans import Plan, PlanSet
    from planner.scenario import Scenario
    from ui.background import Status
    from ui.question import Question, State

_FORMATS = {
    "step, s": "%.4g",
    "p10, s": "%.4g",
    "p90, s": "%.4g",
    "tokens/s/GPU": "%.0f",
    "MFU, %": "%.1f",
    "GiB/rank": "%.1f",
    "to fit, %": "%.0f",
    "exposed, %": "%.1f",
    "bubble, %": "%.1f",
    "USD/step": "%.2f",
}
_HELP = {
    "and": "What else the layout chooses; the page *Layout* has it in full.",
    "mb": "Micro-batch: sequences of one forward pass.",
    "p10, s": "10th percentile of the step time: how sure the estimate is.",
    "p90, s": "90th percentile of the step time.",
    "MFU, %": "Share of the dense peak spent on the model's own arithmetic, causal attention "
    "counted as half.",
    "GiB/rank": "Memory of the fullest rank.",
    "to fit, %": "Chance that it fits, by how far off predictions of memory are.",
    "exposed, %": "Share of the step in which communication is waited for.",
    "bubble, %": "Share of the step that pipeline ranks wait for each other.",
    "unbeaten": "No other plan is as fast, as small, on as few GPUs and as cheap at once.",
    "runs in": "Frameworks that run the layout.",
}


def show() -> None:
    """Show the page."""
    state = session.current()
    st.title("Plan a training job", anchor=False)
    link_notes()
    inputs.presets()
    with st.container(border=True):
        question = inputs.ask(state.question)
    if question != state.question:
        before, state = state.question, asked_anew(state, question)
        session.keep(state)
        if files_of(question) != files_of(before):  # what is given by now needs no input any more
            st.rerun()
    session.keep(state)
    scenario = scenario_for(question)
    _heading(scenario, sizes_of(question.gpus))
    row = st.container(horizontal=True, vertical_alignment="center")
    pressed = row.button("Search", type="primary", icon=":material/search:", key="search")
    row.caption("Every legal layout, exactly: the first is the best there is under this model.")
    run = session.run_of("search", question)
    if pressed or (state.searched and run is None):
        state = replace(state, searched=True)
        session.keep(state)
        run = session.start("search", question)
    if run is None:
        st.info("Press *Search* to rank the layouts of this question.", icon=":material/info:")
        return
    status = watched(run, _looked_at)
    if status is not None:
        _answer(state, scenario, status.result)


def _looked_at(status: Status) -> str:
    found = status.progress
    if not isinstance(found, Searched):
        return "Searching"
    size = f", {found.size} of {found.sizes} sizes" if found.sizes > 1 else ""
    return f"Searching: {found.layouts:,} legal layouts looked at{size}"


def _heading(scenario: Scenario, sizes: tuple[int, ...]) -> None:
    model, cluster, work = scenario.architecture, scenario.cluster, scenario.workload
    many = " or ".join(f"{size:,}" for size in sizes)
    device = f"{plain(cluster.accelerator.title)} ({plain(cluster.title)})"
    st.markdown(
        f"**{plain(model.title)}**, {model.params / 1e9:,.1f} B parameters, on {many} × {device}: "
        f"{work.global_batch:,} sequences of {format_count(work.seq_len)} tokens a step, "
        f"{work.tokens_per_step / 1e6:,.1f} M tokens."
        + (f" Filled evenly: {plain(cluster.filling)}." if cluster.filling else "")
    )
    badges(scenario)


def _answer(state: State, scenario: Scenario, found: PlanSet) -> None:
    counts = found.search
    cells = st.columns(4)
    cells[0].metric("legal layouts", f"{counts.legal:,}", border=True)
    cells[1].metric("fit in memory", f"{counts.fit:,}", border=True)
    cells[2].metric(
        "costed",
        f"{counts.costed:,}",
        border=True,
        help="Every figure computed; the others were turned away by memory first.",
    )
    cells[3].metric("searched in", seconds(counts.seconds), border=True)
    st.markdown("\n".join(f"- {plain(of_page(note))}" for note in found.notes))
    if found.best is None:
        _nothing_fits(found)
        return
    _plans(state, found)


def _nothing_fits(found: PlanSet) -> None:
    st.warning("No layout fits. The sentences above say what binds, and what would.")
    if found.smallest is not None:
        downloads("smallest", {"Smallest layout, JSON": _json("smallest", found.smallest)})


def _json(name: str, plan: Plan) -> tuple[str, str]:
    return f"meshwright-{name}.json", json_text(plan.to_dict())


def _plans(state: State, found: PlanSet) -> None:
    known = {plan.layout: plan for plan in (*found.plans, *found.front)}
    every = sorted(known.values(), key=lambda plan: plan.step_time_s)
    unbeaten = unbeaten_plans(every)
    chosen = next((p for p in every if layout_text(p.layout) == state.layout), None)
    shown = chosen or every[0]
    st.subheader("Ranked layouts", anchor=False)
    st.caption(
        "The best of each mesh (dp, tp, pp, ulysses, ring), and of all layouts those that nothing "
        "beats in time without more memory. Choose a row, a point below, or from this list."
    )
    short_names()
    named = _list(every, shown)
    picked = _table(every, unbeaten, shown)
    _take_away(state.question, found, every, shown)
    st.subheader("Time against memory", anchor=False)
    drawn = figure(
        pareto(every, unbeaten, shown),
        "pareto",
        "Scatter of all ranked plans: step time across, memory of the fullest rank up, a shape "
        "for each number of accelerators, colour for cost; those that nothing beats are joined.",
        on_select="rerun",
        selection_mode="points",
    )
    picked = _changed("table", picked)
    pointed = _changed("plot", _point(drawn))
    wanted = next((at for at in (named, pointed, picked) if at is not None), None)
    if wanted is not None and wanted < len(every):
        text = layout_text(every[wanted].layout)
        if text != state.layout:
            session.keep(replace(state, layout=text))
            if wanted != picked:
                st.session_state.pointed = st.session_state.get("pointed", 0) + 1
            st.rerun()


def _list(every: list[Plan], shown: Plan) -> int | None:
    """Offer all plans as a list, which needs no pointer; return one that was chosen in it."""
    place = every.index(shown)
    chosen = st.selectbox(
        "Plan looked at",
        range(len(every)),
        place,
        format_func=lambda at: _line(at, every[at]),
        key=session.key(f"list-{place}"),
        help="The plan described below the table, and on the other pages.",
    )
    return chosen if chosen != place else None


def _line(at: int, plan: Plan) -> str:
    memory = f"{gib(plan.memory_total_bytes):.1f} GiB a rank"
    return f"{at + 1}. {plan.layout}, {seconds(plan.step_time_s)} a step, {memory}"


def _changed(name: str, value: int | None) -> int | None:
    """Return what was chosen, if it was not so in the run before."""
    before = st.session_state.get(f"picked-{name}")
    st.session_state[f"picked-{name}"] = value
    return value if value != before else None


def _point(drawn: Any) -> int | None:  # noqa: ANN401 - streamlit's own state
    points = drawn.selection.points if drawn else ()
    place = next((p["customdata"] for p in points if "customdata" in p), None)
    if isinstance(place, (list, tuple)):
        place = place[0] if place else None
    return int(place) if place is not None else None


def _table(every: list[Plan], unbeaten: tuple[Plan, ...], shown: Plan) -> int | None:
    rows = tables.ranked(every, unbeaten)
    idle = [name for name in ("ep", "pp", "ring", "ulysses") if {r[name] for r in rows} == {1}]
    if len({row["GPUs"] for row in rows}) == 1:
        idle.append("GPUs")
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(name, format=_FORMATS.get(name), help=_HELP.get(name))
        for name in rows[0]
        if name not in ("and", "runs in", "unbeaten")
    }
    config |= {
        name: st.column_config.TextColumn(name, help=_HELP[name]) for name in ("and", "runs in")
    }
    config["unbeaten"] = st.column_config.CheckboxColumn("unbeaten", help=_HELP["unbeaten"])
    place = every.index(shown)
    event: Any = st.dataframe(
        rows,
        hide_index=True,
        height=min(38 + 35 * len(rows), 388),
        column_order=[name for name in rows[0] if name not in idle],
        column_config=config,
        key=session.key(f"plans-{st.session_state.get('pointed', 0)}"),
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        alt="Ranked layouts with step time, interval, throughput, memory and exposed communication",
    )
    chosen = event.selection.rows
    return int(chosen[0]) if chosen else None


def whole_answer(question: Question, found: PlanSet) -> str:
    """Return what the command line's ``--json`` writes of an answer, less layouts beside it."""
    return json_text({"job": job_block(scenarios(question))} | found.to_dict())


def _take_away(question: Question, found: PlanSet, every: list[Plan], shown: Plan) -> None:
    fits = "fits" if shown.fits else "does not fit"
    cost = shown.cost_usd_per_step
    price = "" if cost is None else f", {money(cost)} USD a step"
    with st.container(border=True):
        st.markdown(
            f"**{shown.layout}** {plain(details(shown.layout))}  \n"
            f"step {seconds(shown.step_time_s)} ({interval(*shown.interval_s)}), "
            f"{shown.tokens_per_s_per_gpu:,.0f} tokens/s/GPU, MFU {shown.mfu:.1%}, "
            f"{gib(shown.memory_total_bytes):.1f} of {gib(shown.capacity_bytes):.1f} GiB "
            f"({fits}, a chance of {likely(shown)} to){price}"
        )
        downloads(
            "plan",
            {
                "This plan, JSON": _json("plan", shown),
                "This plan, Python call": ("meshwright_plan.py", plan_call(question, shown)),
                "The table, CSV": ("meshwright-plans.csv", csv_text(tables.ranked(every))),
                "The whole answer, JSON": ("meshwright-answer.json", whole_answer(question, found)),
                "The search, Python call": (
                    "meshwright_search.py",
                    search_call(question, scenarios(question)[-1].cluster.accelerators),
                ),
            },
        )
        with st.popover("Python call", icon=":material/code:"):
            st.code(plan_call(question, shown), language="python")
