"""Sequences packed together: how much attention a micro-batch has, and the busiest ring rank of it.

A pack holds as many tokens as one whole sequence, but its tokens attend to their own sequence only.
Ring ranks hold runs of the pack, so that where long sequences lie decides who has most to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Lengths of sequences: log-normal, cut where a pack is full.

    Parameters
    ----------
    mean_tokens
        Mean length before cutting.
    spread
        Standard deviation of the logarithm.
    """

    mean_tokens: float
    spread: float = 1.0

    def attention(
        self,
        seq_len: int,
        ring: int,
        *,
        zigzag: bool,
        many: int,
        generator: np.random.Generator,
    ) -> Array:
        """Return the busiest rank's attention over that of whole sequences, for some packs.

        Parameters
        ----------
        seq_len
            Tokens of a pack.
        ring, zigzag
            Ranks that share it, and whether each holds a pair of runs from both ends.
        many
            Packs to draw.
        generator
            Where lengths come from.
        """
        whole = _busiest(np.array([0.0, seq_len]), seq_len, ring, zigzag=zigzag)
        return np.array(
            [
                _busiest(self._ends(seq_len, generator), seq_len, ring, zigzag=zigzag) / whole
                for _ in range(many)
            ]
        )

    def _ends(self, seq_len: int, generator: np.random.Generator) -> Array:
        """Return where the sequences of one pack begin and end."""
        location = np.log(self.mean_tokens) - self.spread**2 / 2.0
        ends = np.zeros(1)
        while ends[-1] < seq_len:
            guess = int(2 * seq_len / self.mean_tokens) + 8
            lengths = np.maximum(np.round(generator.lognormal(location, self.spread, guess)), 1.0)
            ends = np.concatenate([ends, ends[-1] + np.cumsum(lengths)])
        return np.append(ends[ends < seq_len], float(seq_len))


def _busiest(ends: Array, seq_len: int, ring: int, *, zigzag: bool) -> float:
    """Return the query-key pairs of the rank that has most of them."""
    runs = 2 * ring if zigzag else ring
    borders = np.arange(runs + 1) * (seq_len / runs)
    pairs = np.diff(_pairs_before(borders, ends))
    own = pairs[:ring] + pairs[ring:][::-1] if zigzag else pairs
    return float(own.max())


def _pairs_before(places: Array, ends: Array) -> Array:
    """Return the query-key pairs of all queries before some places; a diagonal counts half."""
    lengths = np.diff(ends)
    before = np.concatenate([[0.0], np.cumsum(lengths**2) / 2.0])
    sequence = np.clip(np.searchsorted(ends, places, side="right") - 1, 0, len(lengths) - 1)
    found: Array = before[sequence] + (places - ends[sequence]) ** 2 / 2.0
    return found
