"""Heads and elements of queries, keys and values that one rank holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array
    from models.shape import Shapes


class AttentionHeads(Protocol):
    """What sequence parallelism asks of a mixer with softmax attention."""

    @property
    def heads(self) -> int:
        """Query heads."""

    @property
    def kv_heads(self) -> int:
        """Key/value heads."""

    @property
    def head_dim(self) -> int:
        """Columns of a query head, and of a key head."""

    @property
    def value_dim(self) -> int:
        """Columns of a value head, and of a head's output."""

    @property
    def window(self) -> int | None:
        """Tokens a query sees, itself included; None for all before it."""

    @property
    def chunk(self) -> int | None:
        """Tokens of the chunks that hide each other; None for none."""


def query_heads(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return query heads one rank attends with: ``H / (tp * ulysses)``."""
    return attention.heads / (shapes.tp * shapes.ulysses)


def kv_heads_of_tp_rank(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return key/value heads a tensor-parallel rank projects; replicated where tp exceeds them."""
    return np.maximum(attention.kv_heads / shapes.tp, 1.0)


def kv_heads_on_wire(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return key/value heads that enter Ulysses' all-to-all, replicas included.

    Where software copies them for every query head before, as many as of queries.
    """
    if shapes.software.repeats_kv:
        return attention.heads / shapes.tp
    return np.maximum(kv_heads_of_tp_rank(attention, shapes), shapes.ulysses)


def kv_heads_in_attention(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return key/value heads one rank attends with."""
    return kv_heads_on_wire(attention, shapes) / shapes.ulysses


def local_kv_elements(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return elements of the keys and values that one rank attends with at a time."""
    width = attention.head_dim + attention.value_dim
    return shapes.ring_tokens * kv_heads_in_attention(attention, shapes) * width


def score_matrices(attention: AttentionHeads, shapes: Shapes) -> tuple[Array, Array, Array]:
    """Return one rank's query heads of all its sequences, and queries and keys of each."""
    keys = np.full(len(shapes), float(shapes.seq_len))
    return query_heads(attention, shapes) * shapes.micro_batch, keys / shapes.ring, keys


def local_query_elements(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return elements of one rank's queries inside attention."""
    return shapes.ring_tokens * query_heads(attention, shapes) * attention.head_dim


def local_output_elements(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return elements of one rank's output inside attention."""
    return shapes.ring_tokens * query_heads(attention, shapes) * attention.value_dim


def exchanged_elements(attention: AttentionHeads, shapes: Shapes) -> tuple[Array, Array]:
    """Return elements of one rank in Ulysses' exchanges: of q, k and v together, and of o."""
    rows = shapes.tokens * attention.heads / shapes.tp
    width = attention.head_dim + attention.value_dim
    keys_values = shapes.tokens * kv_heads_on_wire(attention, shapes) * width
    into, out = rows * attention.head_dim + keys_values, rows * attention.value_dim
    active = shapes.ulysses > 1
    return np.where(active, into, 0.0), np.where(active, out, 0.0)
