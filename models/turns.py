"""The turns of interleaved ranks, one after the other: what they hold, and when they end.

All ranks take turns in one order: as many micro-batches as there are ranks through a chunk, then
through the next (:func:`models.simulation.pipeline_order.interleaved`). So a turn waits for the
same turn of the rank before or, on the first, for the last rank's of so many turns ago; backward
the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def passes_ahead(pp: int, vp: int, rank: int) -> int:
    """Return how many forward passes a rank runs before one forward and one backward in turn.

    Megatron-LM's warm-up count (core/pipeline_parallel/schedules.py).
    """
    return 2 * (pp - rank - 1) + (vp - 1) * pp


def most_held(layers: Sequence[int], pp: int, rank: int) -> list[int]:
    """Return how many micro-batches an interleaved rank holds of each chunk when it holds most.

    On the last rank, while it has what the loss needs beside: in turns of its last chunk.

    Parameters
    ----------
    layers
        Of each chunk.
    pp, rank
        Ranks, and which this is.

    Examples
    --------
    One long chunk, last, of which micro-batches are held the shortest:

    >>> most_held([1, 1, 2], pp=4, rank=0)
    [7, 4, 4]
    """
    vp = len(layers)
    ahead = passes_ahead(pp, vp, rank)
    held, most, best = [0] * vp, 0, [0] * vp
    for turn in range(2 * pp * vp):
        held[turn // pp % vp] += 1
        if turn < ahead:
            continue
        much = sum(many * each for many, each in zip(held, layers, strict=True))
        beside_loss = rank < pp - 1 or turn // pp % vp == vp - 1
        if beside_loss and much > most:
            most, best = much, held.copy()
        held[vp - 1 - (turn - ahead) // pp % vp] -= 1
    return best


class Turns:
    """The turns of an interleaved pipeline whose sends take no time.

    Parameters
    ----------
    pp
        Ranks.
    rounds
        Micro-batches of a step, in multiples of the ranks.
    forward, backward
        Seconds of a micro-batch's passes through every stage.
    """

    def __init__(
        self, pp: int, rounds: int, forward: Sequence[float], backward: Sequence[float]
    ) -> None:
        self.pp, self.vp = pp, len(forward) // pp
        self.seconds = forward, backward
        self.turns = rounds * len(forward)
        self.ahead = [passes_ahead(pp, self.vp, rank) for rank in range(pp)]
        self.forward: list[list[float]] = [[] for _ in range(pp)]
        self.backward: list[list[float]] = [[] for _ in range(pp)]
        self.clock = [0.0] * pp

    def end(self) -> float:
        """Return when the last pass ends."""
        while len(self.backward[0]) < self.turns:
            for rank in range(self.pp):
                while self._goes_on(rank):
                    pass
        return max(self.clock)

    def _goes_on(self, rank: int) -> bool:
        """Run a rank's next pass, if what it needs is there."""
        both = self.forward[rank], self.backward[rank]
        goes_back = len(both[0]) == min(self.ahead[rank] + len(both[1]) + 1, self.turns)
        own = both[goes_back]
        turn = len(own)
        if turn == self.turns:
            return False
        chunk, needs = turn // self.pp % self.vp, (self._ahead_of, self._behind)[goes_back]
        needed, at = needs(rank, turn, chunk)
        if at >= len(needed):
            return False
        stage = (self.vp - 1 - chunk if goes_back else chunk) * self.pp + rank
        self.clock[rank] = max(self.clock[rank], needed[at]) + self.seconds[goes_back][stage]
        own.append(self.clock[rank])
        return True

    def _ahead_of(self, rank: int, turn: int, chunk: int) -> tuple[list[float], int]:
        """Return where the end is of what a forward pass waits for."""
        if rank:
            return self.forward[rank - 1], turn
        return (self.forward[-1], turn - self.pp) if chunk else ([0.0], 0)

    def _behind(self, rank: int, turn: int, chunk: int) -> tuple[list[float], int]:
        """Return the same of a backward pass; the first is that of the last chunk."""
        if rank < self.pp - 1:
            return self.backward[rank + 1], turn
        if chunk:
            return self.backward[0], turn - self.pp
        return self.forward[rank], turn + (self.vp - 1) * self.pp
