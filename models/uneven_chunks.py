"""How much longer interleaved pipelines take whose chunks are of unequal length.

The closed form of 1F1B has ranks wait only while the pipeline fills and drains. Interleaved, ranks
that hold as much wait in between too where one runs a long chunk while its neighbours run short
ones. How long follows from the order of passes alone: it is walked once for every cut of a model,
for one, two and three micro-batches a rank, and every further one adds as much as the third.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from models.shape import distinct
from models.stages import layer_weights, stage_sizes

if TYPE_CHECKING:
    from models.layout import Array
    from models.prepared import Prepared

#: A backward pass takes two forward ones, and three where all is computed again: what ranks wait
#: for differs by a few per cent of itself between the two.
BACKWARD = 2.5
#: Micro-batches a rank that are walked.
WALKED = (1, 2, 3)
#: Chunks that differ by no more are of one length.
EVEN = 1e-2


def waits(prepared: Prepared) -> Array:
    """Return what unequal chunks add to pipelines, in micro-batches of the slowest rank.

    Parameters
    ----------
    prepared
        Layouts with their inventory.

    Returns
    -------
    Array
        Of every layout; 0 but for interleaved pipelines with such chunks. Below 0 where ranks that
        hold less fill the pipeline faster than their mean does.
    """
    batch = prepared.batch
    found = np.zeros(len(prepared))
    rows = np.flatnonzero(batch.schedule == Schedule.INTERLEAVED)
    if not len(rows):
        return found
    columns = [batch.pp[rows], batch.vp[rows], batch.stage_split[rows]]
    first, index = distinct(columns)
    cuts = zip(*(column[first].tolist() for column in columns), strict=True)
    walked = np.array([_walked(pp, _lengths(prepared, pp, vp, split)) for pp, vp, split in cuts])
    one, two, three = walked[index].T
    rounds = prepared.micro_batches[rows] / batch.pp[rows]
    found[rows] = np.where(rounds < 2.0, one, two + (rounds - 2.0) * (three - two))
    return found


def _lengths(prepared: Prepared, pp: int, vp: int, split: int) -> tuple[float, ...]:
    """Return the weight of every stage, the head counted with the last."""
    architecture, workload = prepared.architecture, replace(prepared.workload, global_batch=1)
    layout = Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED, stage_split=StageSplit(split))
    sizes = stage_sizes(architecture, workload, layout)
    weights, head = layer_weights(architecture, workload)
    sums = [0.0, *accumulate(weights)]
    ends = list(accumulate(sizes))
    held = [sums[end] - sums[end - size] for end, size in zip(ends, sizes, strict=True)]
    return (*held[:-1], held[-1] + head)


@cache
def _walked(pp: int, lengths: tuple[float, ...]) -> tuple[float, ...]:
    """Return what a pipeline waits more, for each number of micro-batches a rank.

    Nothing where chunks are alike, but for a head that makes the last one longer.
    """
    if max(lengths[:-1]) <= min(lengths) * (1.0 + EVEN):
        return (0.0,) * len(WALKED)
    return tuple(_waited(pp, rounds, lengths) for rounds in WALKED)


def _waited(pp: int, rounds: int, lengths: tuple[float, ...]) -> float:
    """Return how much longer a pipeline is than the closed form, in the slowest rank's passes."""
    both = [(1.0 + BACKWARD) * sum(lengths[rank::pp]) for rank in range(pp)]
    slowest = max(both)
    closed = rounds * pp * slowest + (sum(both) - slowest) * pp / len(lengths)
    return (_Turns(pp, rounds, lengths).end() - closed) / slowest


class _Turns:
    """The turns of every rank, one after the other: when their passes end.

    All ranks take turns in one order: `pp` micro-batches through a chunk, then through the next
    (:func:`models.simulation.pipeline_order.interleaved`). So a turn waits for the same turn of the
    rank before or, on the first, for the last rank's of `pp` turns ago.
    """

    def __init__(self, pp: int, rounds: int, lengths: tuple[float, ...]) -> None:
        self.pp, self.vp, self.lengths = pp, len(lengths) // pp, lengths
        self.turns = rounds * len(lengths)
        self.ahead = [2 * (pp - rank - 1) + (self.vp - 1) * pp for rank in range(pp)]
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
        seconds = self.lengths[stage] * (BACKWARD if goes_back else 1.0)
        self.clock[rank] = max(self.clock[rank], needed[at]) + seconds
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
