"""Parameters one rank holds under tensor parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.architecture import Moe
from models.mixers.halves import halves
from models.mixers.moe import MoeWork
from models.prediction import Prediction

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer
    from models.layout import Array
    from models.shape import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTable:
    """Parameters per rank of each part of a model; arrays over shapes of work.

    Parameters
    ----------
    layers
        For each kind of layer, routed experts aside; an array each.
    experts
        Of the routed experts of each kind of layer.
    embedding, head
        Of the first and of the last pipeline rank; the head with the final norm. A tied head is a
        second copy where first and last rank differ.
    tied_head
        What a tied head adds to a last rank that is not the first.
    """

    layers: tuple[Array, ...]
    experts: tuple[Array, ...]
    embedding: Array
    head: Array
    tied_head: Array

    @property
    def has_experts(self) -> bool:
        """Whether any layer has routed experts."""
        return any(bool(each.any()) for each in self.experts)

    @classmethod
    def of(cls, architecture: Architecture, shapes: Shapes) -> ParameterTable:
        """Return the table of an architecture; vocabularies are padded to tp."""
        tp = shapes.tp
        rows = np.ceil(architecture.vocab / tp) * architecture.hidden
        beside = architecture.embedding_params - architecture.vocab * architecture.hidden
        norm = float(architecture.final_norm_params)
        untied = 0.0 if architecture.tied else 1.0
        return cls(
            layers=tuple(_layer(kind, architecture.hidden, shapes) for kind in architecture.kinds),
            experts=tuple(
                _experts(kind, architecture.hidden, shapes) for kind in architecture.kinds
            ),
            embedding=rows + beside,
            head=rows * untied + norm,
            tied_head=rows * (1.0 - untied),
        )


def _layer(layer: Layer, hidden: int, shapes: Shapes) -> Array:
    """Return a layer's parameters per rank; norms are whole on every one."""
    total = np.full(len(shapes), float(layer.norm_params(hidden)))
    for half in halves(layer, hidden, shapes):
        total += half.mixer.parameters()
    return total + Prediction(layer, hidden, shapes).parameters() if layer.predicts else total


def _experts(layer: Layer, hidden: int, shapes: Shapes) -> Array:
    """Return the parameters of a layer's routed experts per rank."""
    if not isinstance(layer.mlp, Moe):
        return np.zeros(len(shapes))
    return MoeWork(layer.mlp, hidden, shapes).expert_parameters()
