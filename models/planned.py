"""Which architectures the inventory of work knows, and what a user reads about the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture import Attention, LatentAttention, Mlp, Moe
from topologies.errors import Problem, raise_if_any

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer

#: Types of mixers whose work is modelled.
PLANNED = (Attention, LatentAttention, Mlp, Moe)


def require_planned(architecture: Architecture) -> None:
    """Raise if a model has layers whose work is not modelled yet.

    Raises
    ------
    SpecError
        Naming each type of layer that is not.
    """
    labels = unplanned(architecture)
    if labels:
        mend = f"has {_joined(labels)} layers: read, but not planned yet"
        raise_if_any([Problem("MODEL", architecture.name, mend)])


def unplanned(architecture: Architecture) -> tuple[str, ...]:
    """Return what kinds of layers a model has whose work is not modelled, most special first."""
    found = [label for layer in architecture.kinds for label in _unknown(layer)]
    return tuple(dict.fromkeys(found))


def _unknown(layer: Layer) -> list[str]:
    """Return the labels of what the inventory does not know in one layer."""
    return [part.label for part in layer.parts if not isinstance(part, PLANNED)]


def _joined(labels: tuple[str, ...]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(part for part in (", ".join(labels[:-1]), labels[-1]) if part)
