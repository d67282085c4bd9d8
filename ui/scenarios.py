"""From a question's words to what the planner reads: scenarios, bounds, one layout."""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from models.catalogue import load_architecture, model_names
from models.framework_choice import own_software
from models.workload import parse_count
from planner.ask import check_choices, parse_layout
from planner.bounds import Bounds
from planner.choices import Choices
from planner.complete import legal_layout
from planner.scenario import Scenario
from topologies.catalogue import cluster_names, load_cluster
from topologies.errors import Collected, Problem, SpecError, raise_if_any, unknown_name
from ui.uploads import architecture_of, cluster_of, edited, on_disk, parse_edits

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.layout import Layout
    from topologies.cluster import Cluster
    from ui.question import Question

#: Numbers of accelerators that one question may name.
MOST_SIZES = 8
#: Axes that a layout's text always states, since what they are otherwise depends on the others.
_STATED = ("dp", "tp", "pp", "ulysses", "ring", "vp", "tp_sp", "schedule", "stage_split", "zero")


@lru_cache(maxsize=64)
def scenarios(question: Question) -> tuple[Scenario, ...]:
    """Return a question's scenarios, one for each number of accelerators.

    Raises
    ------
    SpecError
        With every problem of all fields together.
    """
    found = Collected()
    length = found.attempt(lambda: parse_count(question.seq_len, "sequence length"))
    batch = found.attempt(lambda: parse_count(question.global_batch, "sequences per step"))
    sizes = found.attempt(lambda: sizes_of(question.gpus)) or (None,)
    found.attempt(lambda: check_choices("train", question.framework))
    found.attempt(lambda: bounds_of(question))
    chance = found.attempt(lambda: _chance(question.fit_chance))
    model = found.attempt(lambda: _model(question))
    cluster = found.attempt(lambda: _cluster(question))
    found.raise_if_any()
    build = partial(_scenario, question, model, cluster, length, batch, chance)
    built = [found.attempt(partial(build, size)) for size in sizes]
    found.raise_if_any()
    return tuple(built)


def sizes_of(text: str) -> tuple[int, ...]:
    """Return the numbers of accelerators of ``64,128,256``, ascending.

    Raises
    ------
    SpecError
        With every one that is no number, or if they are too many.
    """
    found = Collected()
    parts = [part for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MOST_SIZES:
        raise SpecError([Problem("accelerators", text, f"1 to {MOST_SIZES} numbers, as 64,128")])
    sizes = [found.attempt(partial(parse_count, part, "accelerators")) for part in parts]
    found.raise_if_any()
    return tuple(sorted(set(sizes)))


def pins_of(question: Question) -> dict[str, str]:
    """Return the axes that a question binds, as it writes them.

    Raises
    ------
    SpecError
        With every part that is not of the form ``axis=values``.
    """
    found, problems = {}, []
    for part in question.pins.split():
        axis, _, value = part.partition("=")
        name = axis.strip("-").replace("-", "_")
        if not name or not value:
            problems.append(Problem("pins", part, "axis=values, as tp=4..8 or zero=1,3"))
        elif name in found:
            problems.append(Problem("pins", part, f"give {name} once"))
        found[name] = value
    raise_if_any(problems)
    return found


def bounds_of(question: Question) -> Bounds:
    """Return the bounds of a question's search.

    Raises
    ------
    SpecError
        With every pin that cannot be.
    """
    return Bounds.parse(pins_of(question))


def scenario_for(question: Question, gpus: int | None = None) -> Scenario:
    """Return a question's scenario on so many accelerators, or on the most it names.

    Raises
    ------
    SpecError
        As :func:`scenarios`.
    """
    every = scenarios(question)
    return next((each for each in every if each.cluster.accelerators == gpus), every[-1])


def layout_text(layout: Layout) -> str:
    """Return a layout as ``dp=8,tp=4,...``: what is not as usual, and what follows other axes."""
    usual = type(layout)().to_dict()
    shown = {
        name: ("on" if value else "off") if isinstance(value, bool) else value
        for name, value in layout.to_dict().items()
        if name in _STATED or value != usual[name]
    }
    return ",".join(f"{name}={value}" for name, value in shown.items())


def read_layout(question: Question, text: str) -> tuple[Scenario, Layout]:
    """Return the layout of such a text, and the scenario whose accelerators it fills.

    Raises
    ------
    SpecError
        If it is no layout of any of the question's scenarios: the reasons of the nearest.
    """
    axes: dict[str, object] = parse_layout(text)
    every = scenarios(question)
    wanted = _gpus(axes)
    scenario = next((each for each in every if each.cluster.accelerators == wanted), every[-1])
    return scenario, legal_layout(scenario, axes)


def _gpus(axes: dict[str, object]) -> int | None:
    """Return how many accelerators degrees make; None where one of them is no number."""
    product = 1
    for name in ("dp", "tp", "pp", "ulysses", "ring"):
        value = str(axes.get(name, 1))
        if not value.isdecimal() or len(value) > 9:
            return None
        product *= int(value)
    return product


def _model(question: Question) -> Architecture:
    if question.own_model is not None:
        return architecture_of(question.own_model)
    _check_name("model", question.model, model_names())
    return load_architecture(question.model)


def _cluster(question: Question) -> Cluster:
    if question.own_cluster is not None:
        return cluster_of(question.own_cluster)
    _check_name("cluster", question.cluster, cluster_names())
    edits = parse_edits(question.edits)
    return cluster_of(edited(question.cluster, edits)) if edits else load_cluster(question.cluster)


def _check_name(field: str, name: str, known: tuple[str, ...]) -> None:
    """Refuse what is no catalogue's name: a link must not read the server's files."""
    raise_if_any([] if name in known else [unknown_name(field, name, known)])


def _scenario(
    question: Question,
    model: Architecture,
    cluster: Cluster,
    length: int,
    batch: int,
    fit_chance: float,
    gpus: int | None,
) -> Scenario:
    with ExitStack() as files:
        profile = question.own_profile
        suffix = ".yaml" if profile and profile.name.endswith((".yaml", ".yml")) else ".json"
        path = files.enter_context(on_disk(profile, suffix)) if profile else None
        return Scenario.asked(
            model,
            cluster,
            seq_len=length,
            global_batch=batch,
            gpus=gpus,
            choices=Choices(
                precision=question.precision,
                optimizer=question.optimizer,
                gradients=question.gradients,
                reduce=question.reduce,
                software=own_software(question.framework, question.software),
                packed_len=question.packed_len or None,
                fit_chance=fit_chance,
                profile=path,
            ),
        )


def _chance(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        mend = "a number over 0 and under 1, such as 0.9"
        raise SpecError([Problem("chance to fit", text, mend)]) from None
