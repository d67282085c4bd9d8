"""What ``--framework`` means: one framework, any of those known, or none asked."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.framework import Framework
from models.layout import Layout, LayoutBatch
from models.model_states import USUAL_STATES
from models.named_axes import RankOrder
from models.precision import USUAL
from models.recompute_modules import NOTHING, RecomputeModules
from models.software import USUAL as USUAL_SOFTWARE
from topologies.errors import SpecError, unknown_name
from topologies.schema import checked
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.architecture import Architecture
    from models.model_states import ModelStates
    from models.rules.rule import Mask

FILE = Path(__file__).parent / "data" / "frameworks.yaml"
#: Any framework of the table; and no framework asked, only what is possible.
ANY, UNRESTRICTED = "any", "unrestricted"


@cache
def frameworks() -> dict[str, Framework]:
    """Return all frameworks by name."""
    content = read_yaml(FILE)
    return {name: checked(Framework, content[name], f"{FILE.name}: {name}") for name in content}


def framework_names() -> tuple[str, ...]:
    """Return what ``--framework`` accepts."""
    return (ANY, UNRESTRICTED, *frameworks())


def own_software(choice: str, software: str) -> str:
    """Return what runs a job: what was asked, or a framework's own where that is the usual.

    >>> own_software("torchtitan", "usual"), own_software("torchtitan", "jax")
    ('torch-fsdp-2026', 'jax')
    >>> own_software("any", "usual")
    'usual'
    """
    framework = frameworks().get(choice)
    return software if framework is None or software != USUAL_SOFTWARE else framework.software


def runnable(
    batch: LayoutBatch,
    architecture: Architecture,
    choice: str,
    states: ModelStates = USUAL_STATES,
    precision: str = USUAL,
) -> Mask:
    """Return which layouts run under a choice of framework.

    Raises
    ------
    SpecError
        If there is no such framework.
    """
    if choice == UNRESTRICTED:
        return np.ones(len(batch), dtype=np.bool_)
    mask = np.zeros(len(batch), dtype=np.bool_)
    for framework in _meant(choice).values():
        mask |= framework.runs(batch, architecture, states, precision)
    return mask


def rank_orders(choice: str) -> list[int]:
    """Return the rank orders that the frameworks of a choice name; all where none restricts.

    Raises
    ------
    SpecError
        If there is no such framework.
    """
    if choice == UNRESTRICTED:
        return list(RankOrder)
    named = {
        label for framework in _meant(choice).values() for label in framework.values["rank_order"]
    }
    return [order for order in RankOrder if order.label in named]


def has_ability(ability: str, choice: str) -> bool:
    """Return whether a choice of framework has an ability of :data:`LACKS` at all.

    Raises
    ------
    SpecError
        If there is no such framework.
    """
    if choice == UNRESTRICTED:
        return True
    return any(getattr(framework, ability) for framework in _meant(choice).values())


def recompute_modules(choice: str, architecture: Architecture) -> RecomputeModules:
    """Return what some framework of a choice can repeat of a model with fused kernels.

    Raises
    ------
    SpecError
        If there is no such framework.
    """
    if choice == UNRESTRICTED:
        return ~NOTHING
    return reduce(or_, (framework.modules(architecture) for framework in _meant(choice).values()))


def lacking(
    batch: LayoutBatch,
    architecture: Architecture,
    choice: str,
    states: ModelStates = USUAL_STATES,
    precision: str = USUAL,
) -> dict[str, set[str]]:
    """Return what every layout of a batch needs and frameworks of a choice lack, in words, by name.

    Raises
    ------
    SpecError
        If there is no such framework.
    """
    found, shown = {}, batch.layout(0).to_dict()
    for name, framework in _meant(choice).items():
        words = framework.lacks(states, precision)
        refused = framework.refusals(batch, architecture, states, precision)
        found[name] = {
            _in_words(what, words, shown)
            for what, mask in refused.items()
            if mask.all() and (what in words or len(np.unique(getattr(batch, what))) == 1)
        }
    return found


def _in_words(what: str, words: Mapping[str, str], shown: Mapping[str, object]) -> str:
    """Return what it means that a framework refuses an ability, or the value of an axis."""
    return words.get(what, f"no {what.replace('_', ' ')} {shown.get(what)}")


def _meant(choice: str) -> Mapping[str, Framework]:
    if choice == ANY:
        return frameworks()
    if choice not in frameworks():
        raise SpecError([unknown_name("--framework", choice, framework_names())])
    return {choice: frameworks()[choice]}


def runs_in(
    batch: LayoutBatch,
    architecture: Architecture,
    states: ModelStates = USUAL_STATES,
    precision: str = USUAL,
) -> list[list[str]]:
    """Return for each layout the names of the frameworks that run it."""
    masks = {
        name: each.runs(batch, architecture, states, precision)
        for name, each in frameworks().items()
    }
    return [[name for name, mask in masks.items() if mask[i]] for i in range(len(batch))]


def why_not(
    layout: Layout,
    architecture: Architecture,
    states: ModelStates = USUAL_STATES,
    precision: str = USUAL,
) -> dict[str, list[str]]:
    """Return, for each framework that cannot run a layout, what it lacks, in words."""
    batch = LayoutBatch.of([layout])
    shown = layout.to_dict()
    found: dict[str, list[str]] = {}
    for name, framework in frameworks().items():
        refused = framework.refusals(batch, architecture, states, precision)
        words = framework.lacks(states, precision)
        reasons = [_in_words(what, words, shown) for what, mask in refused.items() if mask[0]]
        if reasons:
            found[name] = reasons
    return found
