"""Closed forms of what ranks compute: sums over :mod:`models.sequence_parallel.schedule`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array, Bools
    from models.sequence_parallel.heads import AttentionHeads
    from models.shape import Shapes


def causal_pairs(seq_len: float, window: int | None = None, chunk: int | None = None) -> float:
    """Return query-key pairs of one causal sequence, the diagonal counted as half.

    ``S^2 / 2`` without a window (the convention of MFU figures), ``S w - w^2 / 2`` with one, and
    ``c^2 / 2`` for every chunk that hides the others.

    >>> causal_pairs(8.0), causal_pairs(8.0, 2), causal_pairs(8.0, chunk=4)
    (32.0, 14.0, 16.0)
    """
    if chunk is not None:
        rest = seq_len % chunk
        return (seq_len - rest) * chunk / 2.0 + rest * rest / 2.0
    seen = float(min(window or seq_len, seq_len))
    return seq_len * seen - seen * seen / 2.0


def pairs_of(attention: AttentionHeads, shapes: Shapes) -> float:
    """Return query-key pairs of all that is packed into one sequence of a workload."""
    alone = float(shapes.attended)
    return causal_pairs(alone, attention.window, attention.chunk) * shapes.seq_len / alone


def sight(attention: AttentionHeads) -> int | None:
    """Return the most tokens that a query of a window or chunk sees; None for no such limit."""
    return attention.window if attention.chunk is None else attention.chunk


def windowed(attention: AttentionHeads, shapes: Shapes) -> bool:
    """Return whether a window or chunks hide keys of a sequence that come before a query."""
    seen = sight(attention)
    return seen is not None and seen < shapes.attended


def attends_at_once(attention: AttentionHeads, shapes: Shapes) -> Bools:
    """Return where gathered keys and values meet their queries in one kernel: nothing is merged.

    So TransformerEngine does it, and all do with a window, which blocks are cut without regard to.
    Else torch's own context parallelism attends to one rank's after the other's, as a ring does
    (``torch/distributed/tensor/experimental/_context_parallel``).
    """
    return shapes.gathers_kv & (shapes.fused | windowed(attention, shapes))


def busiest_over_mean(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return the busiest ring rank's share of causal work over the mean share.

    A contiguous rank ``r`` of ``P`` computes ``r`` full blocks and half of its own, the last one
    ``P - 1/2`` of ``P^2 / 2``. With a window only the first queries see fewer keys than others: the
    last contiguous rank is still the busiest, and in zigzag the one with the two chunks in the
    middle. Where chunks of the sequence hide each other, work is even on zigzag ranks, and on
    contiguous ones that hold whole chunks; else those at the end of a chunk have most (exact where
    runs and chunks nest, as powers of two do).
    """
    if attention.chunk is not None and windowed(attention, shapes):
        part = np.minimum(shapes.attended / shapes.ring / attention.chunk, 1.0)
        return np.where(shapes.zigzag, 1.0, 2.0 - part)
    if attention.window is None or not windowed(attention, shapes):
        return np.where(shapes.zigzag, 1.0, 2.0 - 1.0 / shapes.ring)
    seq_len = float(shapes.attended)
    own = seq_len / shapes.ring
    end = np.where(shapes.zigzag, (seq_len + own) / 2.0, seq_len)
    reached = np.minimum(end, attention.window), np.minimum(end - own, attention.window)
    pairs = end * reached[0] - (end - own) * reached[1] - (reached[0] ** 2 - reached[1] ** 2) / 2.0
    found: Array = pairs * shapes.ring / causal_pairs(seq_len, attention.window)
    return found


def queries_attended(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return how often a rank's queries attend on a ring: once for every block, or less.

    With zigzag a rank attends with all its queries to half of an earlier rank's block and with half
    of them to all of a later rank's: of ``P`` blocks three quarters but for its own (ring-flash-
    attention, ``zigzag_ring_flash_attn.py``).
    """
    halved = shapes.zigzag & np.logical_not(windowed(attention, shapes))
    attended: Array = 1.0 + (shapes.ring - 1.0) * np.where(halved, 0.75, 1.0)
    return attended


def inner_tokens(attention: AttentionHeads, shapes: Shapes, *, backward: bool) -> Array:
    """Return the tokens that a kernel's inner loop runs over, masked ones aside, on average.

    Keys of a query row, and in the backward pass queries of a key row. In the square of a rank's
    own tokens that is half of them. Other blocks are full: a rank has all its work in as many
    visits of its query rows, or of key rows, as blocks are whole. Where gathered keys are attended
    to at once, each is visited by every chunk after it.
    """
    seq_len, ring = float(shapes.attended), shapes.ring
    chunks = np.where(shapes.zigzag, 2.0 * ring, ring)
    at_once = attends_at_once(attention, shapes)
    seen = sight(attention)
    if seen is not None and windowed(attention, shapes):
        tokens = np.where(at_once, seq_len / chunks if backward else seq_len, seq_len / ring)
        return np.minimum(tokens, float(seen)) / 2.0
    busiest = busiest_over_mean(attention, shapes)
    blockwise = seq_len * busiest / queries_attended(attention, shapes)
    visited = np.where(shapes.zigzag, ring + 0.5, ring)  # all keys, by each chunk after them
    whole = seq_len * busiest / (visited if backward else 1.0)
    return np.where(at_once, whole, blockwise) / 2.0


def keys_along_the_mask(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return the side of a rank's causal squares: its own tokens, or each of two chunks of them.

    Every query row meets the mask once, in the square of its own tokens: a ring's other blocks are
    full. Where gathered keys are attended to at once, a zigzag rank has a kernel for each chunk.
    Chunks that hide each other are squares of their own.
    """
    own = shapes.attended / shapes.ring
    side = np.where(attends_at_once(attention, shapes) & shapes.zigzag, own / 2.0, own)
    return side if attention.chunk is None else np.minimum(side, float(attention.chunk))


def first_block_share(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return the busiest rank's first block of a ring over each later one.

    A contiguous rank's own block is causal, half of the full ones it receives; with zigzag all are
    alike, and with a window there is one.
    """
    alike = shapes.zigzag | (shapes.ring == 1) | windowed(attention, shapes)
    return np.where(alike, 1.0, 0.5)
