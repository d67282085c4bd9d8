"""Parameters one rank holds under tensor parallelism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer
    from models.layout import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTable:
    """Parameters per rank of each part of a model; arrays over tensor-parallel degrees.

    Parameters
    ----------
    layers
        For each kind of layer; shape ``[kinds, degrees]``.
    embedding, head
        Of the first and of the last pipeline rank; the head with the final norm. A tied head is a
        second copy where first and last rank differ.
    tied_head
        What a tied head adds to a last rank that is not the first.
    """

    layers: tuple[Array, ...]
    embedding: Array
    head: Array
    tied_head: Array

    @classmethod
    def of(cls, architecture: Architecture, tp: Array) -> ParameterTable:
        """Return the table of an architecture for some degrees; vocabularies are padded to tp."""
        rows = np.ceil(architecture.vocab / tp) * architecture.hidden
        positions = architecture.learned_positions * architecture.hidden
        norm = float(architecture.final_norm_params)
        untied = 0.0 if architecture.tied else 1.0
        return cls(
            layers=tuple(_layer(layer, architecture.hidden, tp) for layer in architecture.kinds),
            embedding=rows + positions,
            head=rows * untied + norm,
            tied_head=rows * (1.0 - untied),
        )


def _layer(layer: Layer, hidden: int, tp: Array) -> Array:
    """Return a layer's parameters per rank: matrices split, norms whole, KV heads replicated."""
    mixer = layer.attention
    whole_heads = np.maximum(mixer.kv_heads / tp, 1.0) * mixer.head_dim
    queries = mixer.q_width / tp
    attention = hidden * 2.0 * (queries + whole_heads)
    small = (
        mixer.small_params(hidden) + layer.dense.small_params(hidden) + layer.norm_params(hidden)
    )
    total: Array = attention + layer.dense.matrix_params(hidden) / tp + small
    return total
