"""What people take away: JSON, CSV, and the Python call that makes a plan again."""

from __future__ import annotations

import csv
import html
import io
import json
from typing import TYPE_CHECKING, Any

from models.framework_choice import own_software
from models.workload import parse_count
from planner.ask import parse_layout
from ui.question import Question
from ui.scenarios import layout_text, pins_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

    from planner.plans import Plan

#: Choices that a call states where they are not as usual.
_CHOICES = ("precision", "optimizer", "gradients", "reduce", "software", "packed_len")


def json_text(content: object) -> str:
    """Return documented values as JSON text."""
    return json.dumps(content, indent=2) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; the keys of the first are the columns."""
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def html_text(figure: go.Figure, title: str) -> str:
    """Return a figure as a page that needs nothing else: it zooms, and saves pictures."""
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}, "responsive": True}
    page: str = figure.to_html(include_plotlyjs=True, config=config)
    head = f"<head><title>{html.escape(title)}</title>"
    return page.replace("<head>", head, 1)


def plan_call(question: Question, plan: Plan) -> str:
    """Return the Python call that makes a plan; uploaded files are named, to be put beside it."""
    axes = parse_layout(layout_text(plan.layout))
    return _call("estimate", question, gpus=plan.gpus, more=axes)


def search_call(question: Question, gpus: int) -> str:
    """Return the Python call that makes a search on so many accelerators."""
    more: dict[str, object] = dict(pins_of(question))
    if question.framework != Question().framework:
        more["framework"] = question.framework
    return _call("plan", question, gpus=gpus, more=more)


def _call(name: str, question: Question, gpus: int, more: Mapping[str, object]) -> str:
    usual = Question()
    own_model, own_cluster = question.own_model, question.own_cluster
    cluster = question.cluster if own_cluster is None else own_cluster.name
    if own_cluster is None and question.edits:
        cluster = f"{question.cluster} (edited).yaml"
    given: dict[str, object] = {
        "seq_len": question.seq_len,
        "global_batch": parse_count(question.global_batch, "sequences per step"),
        "gpus": gpus,
    }
    chosen = {field: getattr(question, field) for field in _CHOICES}
    chosen["software"] = own_software(question.framework, question.software)
    given |= {field: v for field, v in chosen.items() if v != getattr(usual, field)}
    if question.fit_chance != usual.fit_chance:
        given["fit_chance"] = float(question.fit_chance)
    if question.own_profile is not None:
        given["profile"] = question.own_profile.name
    given |= {axis: _value(value) for axis, value in more.items()}
    model = question.model if own_model is None else own_model.name
    lines = [f"    {model!r},", f"    {cluster!r},"]
    lines += [f"    {field}={value!r}," for field, value in given.items()]
    return "\n".join([f"from planner import {name}", "", f"answer = {name}(", *lines, ")", ""])


def _value(value: object) -> object:
    text = str(value)
    return int(text) if text.isdecimal() else text
