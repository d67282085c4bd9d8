"""Which architectures the inventory of work knows, and what a user reads about the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture import Attention, Mlp, Recurrent, SideBySide
from topologies.errors import Problem, raise_if_any

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer

NORMS = frozenset({"rms", "rms_offset", "layer"})


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
    labels = []
    if layer.mixer is not None and not _plain(layer.mixer):
        labels.append(layer.mixer.label)
    if layer.mlp is not None and (not isinstance(layer.mlp, Mlp) or layer.mlp.label != "MLP"):
        labels.append(layer.mlp.label)
    if labels:
        return labels
    return [label for label, has in _shape(layer).items() if has]


def _plain(mixer: object) -> bool:
    if isinstance(mixer, SideBySide):
        return _plain(mixer.attention)
    plain_attention = isinstance(mixer, Attention) and mixer.label == "attention"
    return plain_attention or isinstance(mixer, Recurrent)


def _shape(layer: Layer) -> dict[str, bool]:
    return {
        "attention-only": layer.mlp is None and not isinstance(layer.mixer, Recurrent),
        "MLP-only": layer.mixer is None,
        "parallel attention-and-MLP": layer.parallel,
        "post-normalised": layer.norms_after,
        "gated-MLP-behind-LayerNorm": layer.norm == "layer" and layer.dense.gated
        if isinstance(layer.mlp, Mlp)
        else False,
        f"{layer.norm.replace('_', '-')}-normalised": layer.norm not in NORMS,
    }


def _joined(labels: tuple[str, ...]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(part for part in (", ".join(labels[:-1]), labels[-1]) if part)
