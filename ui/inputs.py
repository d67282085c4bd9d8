"""Inputs that make a question: model, cluster, workload, what is pinned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from models.catalogue import model_names
from models.framework_choice import framework_names
from models.model_states import GRADIENT_DTYPES, KEPT_GRADIENTS, optimizers
from models.precision import precisions
from models.software import softwares
from topologies.catalogue import DATA, cluster_names
from topologies.errors import SpecError
from topologies.yaml_file import read_yaml
from ui.file_input import upload
from ui.frame import problems
from ui.presets import PRESETS
from ui.question import Document, Question, State, further
from ui.session import key, replace_all
from ui.uploads import EDITABLE, edited, parse_edits
from ui.words import INPUT_TITLES, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANCES = ("0.5", "0.8", "0.9", "0.95", "0.99")
_UNITS = {
    "GBps": "GB/s per accelerator and direction",
    "peer_GBps": "GB/s towards one peer",
    "usable_fraction": "share a library reaches",
    "latency_us": "latency of a hop, µs",
}


def presets() -> None:
    """Offer questions that people have; a chosen one replaces the whole question."""
    st.caption("Start from a question people have:")
    row = st.container(horizontal=True)
    for at, preset in enumerate(PRESETS):
        if row.button(preset.title, key=f"preset-{at}", type="secondary"):
            replace_all(State(question=preset.question, searched=True))


def ask(question: Question) -> Question:
    """Show a question as inputs and return what they say now."""
    first, second, third = st.columns([5, 5, 6], gap="medium")
    with first:
        question = _model(question)
    with second:
        question = _cluster(question)
    with third:
        question = _workload(question)
    more = st.expander(
        # A label that said more would make another expander of it, closed and with nothing kept.
        "Pins, frameworks, packed sequences, optimizer, changed links, a profile of your own",
        key=key("more"),
        on_change="rerun",
    )
    with more:
        question = _links(_more(question)) if more.open else question
    if words := further(question):
        st.caption(f"Asked further: {words}")
    return question


def _model(question: Question) -> Question:
    model = _named(
        "Model",
        question.model,
        model_names(),
        "model",
        "An architecture we ship.",
        question.own_model,
    )
    own = upload(
        "model", "or a config.json of Hugging Face", ["json"], question.own_model, "own-model"
    )
    return replace(question, model=model, own_model=own)


def _cluster(question: Question) -> Question:
    cluster = _named(
        INPUT_TITLES["cluster"],
        question.cluster,
        cluster_names(),
        "cluster",
        "Machines we know.",
        question.own_cluster,
    )
    own = upload(
        "cluster", "or a cluster file", ["yaml", "yml"], question.own_cluster, "own-cluster"
    )
    edits = question.edits if cluster == question.cluster else ""
    return replace(question, cluster=cluster, own_cluster=own, edits=edits)


def _workload(question: Question) -> Question:
    left, right = st.columns(2)
    gpus = left.text_input(
        INPUT_TITLES["gpus"],
        question.gpus,
        key=key("gpus"),
        max_chars=80,
        help="How many the job may use. Several, as 64,128,256, are planned one by one.",
    )
    seq_len = right.text_input(
        INPUT_TITLES["seq_len"],
        question.seq_len,
        key=key("seq_len"),
        max_chars=20,
        help="Tokens of one sequence: 8192, 256k (262,144), 1m.",
    )
    batch = left.text_input(
        INPUT_TITLES["global_batch"],
        question.global_batch,
        key=key("global_batch"),
        max_chars=20,
        help="The global batch: sequences of one optimizer step over all accelerators.",
    )
    with right:
        precision = _named(
            INPUT_TITLES["precision"],
            question.precision,
            tuple(precisions()),
            "precision",
            "What the layers' matrix products run in.",
        )
    return replace(
        question,
        gpus=gpus.strip(),
        seq_len=seq_len.strip(),
        global_batch=batch.strip(),
        precision=precision,
    )


def _more(question: Question) -> Question:
    pins = st.text_input(
        "Pins: axes that are bound",
        question.pins,
        key=key("pins"),
        max_chars=500,
        placeholder="tp=4..8 zero=1,3 recompute=full",
        help="Pin an axis (tp=8), list values (zero=1,3) or bound it (tp=4..8); blanks between. "
        "Axes: dp tp pp ulysses ring cp ep etp vp micro_batch zero recompute schedule cp_method "
        "kernels rank_order and others; the page *Layout* names them all.",
    )
    question = _states(_run(question))
    profile = upload(
        "profile",
        f"{INPUT_TITLES['profile']}: what `meshwright calibrate` wrote",
        ["json", "yaml", "yml"],
        question.own_profile,
        "own-profile",
    )
    return replace(
        question,
        pins=pins.strip(),
        own_profile=profile,
    )


def _run(question: Question) -> Question:
    """Return what runs the job, and what its sequences are made of."""
    row = st.columns(4)
    with row[0]:
        framework = _named(
            INPUT_TITLES["framework"],
            question.framework,
            framework_names(),
            "framework",
            "Layouts must run in it; any: in one of those known; unrestricted: whatever is "
            "possible.",
        )
    with row[1]:
        software = _named(
            INPUT_TITLES["software"],
            question.software,
            tuple(softwares()),
            "software",
            "What it does beside the layout: its attention, what it hides, its host's pace. "
            "usual: the framework's own, or what frameworks of today do.",
        )
    packed_len = row[2].text_input(
        INPUT_TITLES["packed_len"],
        question.packed_len,
        key=key("packed_len"),
        max_chars=20,
        placeholder="none packed",
        help="Tokens of each of the sequences packed into one, which attend to themselves only.",
    )
    with row[3]:
        fit_chance = _named(
            INPUT_TITLES["fit_chance"],
            question.fit_chance,
            _CHANCES,
            "fit_chance",
            "In memory, by the interval of its prediction; 0.5: by the prediction itself.",
        )
    return replace(
        question,
        framework=framework,
        software=software,
        packed_len=packed_len.strip(),
        fit_chance=fit_chance,
    )


def _states(question: Question) -> Question:
    """Return what is kept of each parameter."""
    row = st.columns(3)
    with row[0]:
        optimizer = _named(
            INPUT_TITLES["optimizer"],
            question.optimizer,
            tuple(optimizers()),
            "optimizer",
            "What it keeps.",
        )
    with row[1]:
        gradients = _named(
            INPUT_TITLES["gradients"],
            question.gradients,
            tuple(KEPT_GRADIENTS),
            "gradients",
            "And summed in.",
        )
    with row[2]:
        reduce = _named(
            INPUT_TITLES["reduce"],
            question.reduce,
            tuple(GRADIENT_DTYPES),
            "reduce",
            "Between ranks.",
        )
    return replace(question, optimizer=optimizer, gradients=gradients, reduce=reduce)


def _links(question: Question) -> Question:
    """Show the figures of a catalogue cluster's tiers, and note what is changed."""
    if question.own_cluster is not None or question.cluster not in cluster_names():
        return question
    content = read_yaml(DATA / "clusters" / f"{question.cluster}.yaml")
    edits = _readable(question.edits)
    rows = [
        {"link": tier["name"], "figure": _UNITS[name]}
        | {"key": name, "catalogue": tier[name]["value"], "known": tier[name]["kind"]}
        | {"value": edits.get(f"{tier['name']}.{name}", float(tier[name]["value"]))}
        for tier in content.get("tiers", ())
        for name in EDITABLE
        if name in tier
    ]
    if not rows:
        return question
    st.caption("Links of the cluster. Change a value to ask what another network would do.")
    shown = st.data_editor(
        rows,
        key=key(f"links-{question.cluster}"),
        hide_index=True,
        disabled=["link", "figure", "catalogue", "known"],
        column_config={
            "key": None,
            "value": st.column_config.NumberColumn("value", min_value=0.0, required=True),
        },
        alt="Rates and latencies of every tier of links",
    )
    changed = {
        f"{row['link']}.{row['key']}": float(row["value"])
        for row in shown
        if row["value"] is not None and float(row["value"]) != float(row["catalogue"])
    }
    text = ",".join(f"{place}={value:g}" for place, value in changed.items())
    if text:
        made = edited(question.cluster, changed)
        st.download_button(
            "This cluster as YAML",
            made.text,
            file_name=made.name,
            on_click="ignore",
            type="tertiary",
            icon=":material/download:",
        )
    return replace(question, edits=text)


def _readable(edits: str) -> Mapping[str, float]:
    try:
        return parse_edits(edits)
    except SpecError as error:
        problems(map(str, error.problems))
        return {}


def _named(
    title: str,
    value: str,
    known: tuple[str, ...],
    name: str,
    hint: str,
    own: Document | None = None,
) -> str:
    """Return a name of a list; one that a link brought and no list has is shown, to be refused.

    Where a user's own file takes the place of the list there is nothing to choose.
    """
    options = known if value in known else (value, *known)
    found: str = st.selectbox(
        title,
        options,
        options.index(value),
        key=key(name),
        help=hint if own is None else f"{plain(own.name)} is used: remove it to choose.",
        disabled=own is not None,
    )
    return found
