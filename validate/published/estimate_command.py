"""The ``meshwright estimate`` line that gives a prediction's step time again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING

from models.architecture import Architecture
from models.catalogue import load_architecture, model_names
from models.layout import AXES, Layout
from planner.bounds import flag
from planner.choices import Choices
from planner.complete import complete_layout
from planner.scenario import Scenario
from topologies.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What of an architecture no step depends on.
_WORDS = ("name", "title", "source", "max_positions", "notes")
#: Layers of multi-token prediction still to take are compared by what :class:`Choices` takes.
_APART = (*_WORDS, "predict_layers")


def estimate_command(scenario: Scenario, layout: Layout) -> str | None:
    """Return the command, or None where options cannot say what was evaluated.

    They cannot where the model is none of the catalogue's, or where a row states a network, or
    nodes, of its own. Whatever is written is read back and compared.
    """
    model = catalogue_model(scenario.architecture)
    if model is None:
        return None
    name, depth = model
    work, cluster = scenario.workload, scenario.cluster
    choices = Choices(
        precision=work.precision,
        optimizer=work.states.optimizer,
        gradients=work.states.gradients,
        reduce=work.states.reduce,
        predict_depth=depth,
        software=work.software,
        packed_len=work.packed_len,
    )
    try:
        read = Scenario.asked(
            name,
            cluster.name,
            seq_len=work.seq_len,
            global_batch=work.global_batch,
            gpus=cluster.accelerators,
            choices=choices,
        )
    except SpecError:  # the command would be refused: a run may use any part of a node
        return None
    if (read.cluster, read.workload) != (cluster, work):
        return None
    words = ["meshwright", "estimate", name, "--cluster", cluster.name]
    words += ["--gpus", f"{cluster.accelerators}", "--seq-len", f"{work.seq_len}"]
    words += ["--global-batch", f"{work.global_batch}", *_chosen(choices), *_axes(read, layout)]
    return shlex.join(words)


@cache
def catalogue_model(architecture: Architecture) -> tuple[str, int] | None:
    """Return the catalogue's name of a model, and how many further tokens it predicts.

    None where the catalogue has no model of the same layers.
    """
    depth = sum(bool(layer.predicts) for layer in architecture.layers)
    for name in model_names():
        known = load_architecture(name)
        if depth <= len(known.predict_layers) and _alike(known.predicting(depth), architecture):
            return name, depth
    return None


def _alike(one: Architecture, other: Architecture) -> bool:
    """Return whether two models are the same but for words."""
    compared = (each.name for each in fields(Architecture) if each.name not in _APART)
    return all(getattr(one, name) == getattr(other, name) for name in compared)


def _chosen(choices: Choices) -> Iterator[str]:
    """Give the options of choices that are not as usual."""
    for each in fields(Choices):
        value = getattr(choices, each.name)
        if value != each.default:
            yield from (flag(each.name), f"{value}")


def _axes(scenario: Scenario, layout: Layout) -> Iterator[str]:
    """Give the options of axes that are not what ``estimate`` takes without them."""
    plain = Layout()
    own = {axis: getattr(layout, axis) for axis in AXES}
    given = {axis: value for axis, value in own.items() if value != getattr(plain, axis)}
    usual = complete_layout(scenario, given)
    for axis, value in layout.to_dict().items():
        if axis in given or own[axis] != getattr(usual, axis):
            shown = ("off", "on")[value] if isinstance(value, bool) else f"{value}"
            yield from (flag(axis), shown)
