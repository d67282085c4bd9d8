"""Who computes which block of attention, step by step.

The one description of it: kernels run these tasks (``validate/kernels``), and the closed forms of
:mod:`models.sequence_parallel.blocks`, which the inventory reads, are sums over them.

Of ``P`` ranks every one holds a run of the sequence, or, in zigzag, a chunk from both ends: of ``2
P`` chunks rank ``r`` holds ``r`` and ``2 P - 1 - r``. Blocks of keys and values go to the next rank
after every step, so that in step ``t`` rank ``r`` has those of rank ``r - t``. A causal rank
attends to its own block causally, to all of an earlier rank's and, in zigzag, to the first half of
an earlier rank's with all its queries, and to all of a later rank's with its second half (ring-
flash-attention@8996282, ``zigzag_ring_flash_attn.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from models.named_axes import SequenceOrder


class Part(Enum):
    """Which of the tokens a rank holds."""

    WHOLE = "whole"
    FIRST = "first half"
    SECOND = "second half"

    @property
    def share(self) -> float:
        """Its share of them."""
        return 1.0 if self is Part.WHOLE else 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """One block of attention that a rank computes.

    Parameters
    ----------
    step
        When: after so many hops of the keys and values.
    source
        The rank whose keys and values they are.
    queries, keys
        Which of the rank's own queries, and of the source's keys.
    causal
        Whether a query attends only to keys up to its own place in the block.
    """

    step: int
    source: int
    queries: Part
    keys: Part
    causal: bool

    @property
    def pairs(self) -> float:
        """Pairs of queries and keys over the square of a rank's tokens, a causal one half."""
        return self.queries.share * self.keys.share * (0.5 if self.causal else 1.0)


def schedule(
    order: SequenceOrder, ranks: int, rank: int, *, causal: bool = True
) -> tuple[BlockTask, ...]:
    """Return what one rank of a ring computes, in the order of the steps.

    A step without a task has nothing to compute; blocks of keys and values move on all the same.

    Parameters
    ----------
    order
        How the sequence is cut.
    ranks, rank
        Of the ring, and which of them.
    causal
        Whether queries attend to earlier keys only.

    Examples
    --------
    >>> [(task.source, task.pairs) for task in schedule(SequenceOrder.CONTIGUOUS, 4, 1)]
    [(1, 0.5), (0, 1.0)]
    >>> [(task.source, task.pairs) for task in schedule(SequenceOrder.ZIGZAG, 4, 1)]
    [(1, 0.5), (0, 0.5), (3, 0.5), (2, 0.5)]
    """
    found = []
    for step in range(ranks):
        source = (rank - step) % ranks
        queries, keys = Part.WHOLE, Part.WHOLE
        if causal and source != rank:
            if order == SequenceOrder.CONTIGUOUS and source > rank:
                continue
            if order == SequenceOrder.ZIGZAG and source > rank:
                queries = Part.SECOND
            elif order == SequenceOrder.ZIGZAG:
                keys = Part.FIRST
        found.append(
            BlockTask(
                step=step,
                source=source,
                queries=queries,
                keys=keys,
                causal=causal and source == rank,
            )
        )
    return tuple(found)


def chunks(order: SequenceOrder, ranks: int, rank: int) -> tuple[int, ...]:
    """Return the chunks of the sequence that a rank holds, of ``ranks`` or, in zigzag, twice that.

    Examples
    --------
    >>> chunks(SequenceOrder.ZIGZAG, 4, 1), chunks(SequenceOrder.CONTIGUOUS, 4, 1)
    ((1, 6), (1,))
    """
    if order == SequenceOrder.ZIGZAG:
        return rank, 2 * ranks - 1 - rank
    return (rank,)
