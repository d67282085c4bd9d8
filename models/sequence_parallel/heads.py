"""Heads and elements of queries, keys and values that one rank holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.architecture import Attention
    from models.layout import Array
    from models.shape import Shapes


def query_heads(attention: Attention, shapes: Shapes) -> Array:
    """Return query heads one rank attends with: ``H / (tp * ulysses)``."""
    return attention.heads / (shapes.tp * shapes.ulysses)


def kv_heads_of_tp_rank(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads a tensor-parallel rank projects; replicated where tp exceeds them."""
    return np.maximum(attention.kv_heads / shapes.tp, 1.0)


def kv_heads_on_wire(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads that enter Ulysses' all-to-all, replicas included."""
    return np.maximum(kv_heads_of_tp_rank(attention, shapes), shapes.ulysses)


def kv_heads_in_attention(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads one rank attends with."""
    return kv_heads_on_wire(attention, shapes) / shapes.ulysses


def local_kv_elements(attention: Attention, shapes: Shapes) -> Array:
    """Return elements of the keys and values that one rank attends with at a time."""
    return 2.0 * shapes.ring_tokens * kv_heads_in_attention(attention, shapes) * attention.head_dim


def local_query_elements(attention: Attention, shapes: Shapes) -> Array:
    """Return elements of one rank's queries inside attention."""
    return shapes.ring_tokens * query_heads(attention, shapes) * attention.head_dim


def exchanged_elements(attention: Attention, shapes: Shapes) -> tuple[Array, Array]:
    """Return elements of one rank in Ulysses' exchanges: of q, k and v together, and of o."""
    queries = shapes.tokens * attention.heads / shapes.tp * attention.head_dim
    keys_values = 2.0 * shapes.tokens * kv_heads_on_wire(attention, shapes) * attention.head_dim
    active = shapes.ulysses > 1
    return np.where(active, queries + keys_values, 0.0), np.where(active, queries, 0.0)
