"""Steps that do not go as planned: jitter, stragglers, slow links, packs of unequal sequences.

What differs from rank to rank or from step to step is a column of its own; all columns are timed
together. A pipeline rank of one replica waits for its slowest tensor- and context-parallel member
in every pass, replicas wait for each other once, when gradients are reduced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from models.layout import strides
from models.named_axes import SequenceOrder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from models.simulation.packing import Packing
    from models.simulation.step import StepSimulation

    Array = NDArray[np.floating[Any]]

#: Columns timed at once: enough to be quick, few enough to stay small.
COLUMNS = 2048
#: Shares of a whole sequence's attention at which passes are played; between, they are linear.
ATTENTION_GRID = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """What may go otherwise.

    Parameters
    ----------
    samples
        Steps to draw.
    seed
        Of all that is drawn.
    jitter
        Standard deviation of the logarithm of one accelerator's pass; its mean stays.
    stragglers
        Factors on the passes of some ranks.
    packing
        Lengths of packed sequences; None for whole ones.
    """

    samples: int = 1
    seed: int = 0
    jitter: float = 0.0
    stragglers: Mapping[int, float] = field(default_factory=dict)
    packing: Packing | None = None


def sample_steps(simulation: StepSimulation, dynamics: Dynamics) -> Array:
    """Return the seconds of as many steps as are to be drawn.

    Parameters
    ----------
    simulation
        The step as planned.
    dynamics
        What goes otherwise.
    """
    return _Sampler(simulation, dynamics).steps()


class _Sampler:
    def __init__(self, simulation: StepSimulation, dynamics: Dynamics) -> None:
        self.simulation, self.dynamics = simulation, dynamics
        self.generator = np.random.default_rng(dynamics.seed)
        self.batch = simulation.prepared.batch
        self.replicas = int(self.batch.dp[0])
        self.planned = simulation.step()
        self.micro_batch = np.array(
            [actions[0].micro_batch for actions in simulation.compiled.runs]
        )
        self.slow = self._slow()
        self.grid = self._grid()

    def steps(self) -> Array:
        """Return the seconds of every step drawn."""
        columns = self.dynamics.samples * self.replicas
        ends = np.concatenate([self._ends(first, last) for first, last in _blocks(columns)])
        last = ends.reshape(self.dynamics.samples, self.replicas).max(axis=1)
        after = self.planned.step_s - float((self.planned.last_s + self.planned.tail_s).max())
        found: Array = last + after
        return found

    def _ends(self, first: int, last: int) -> Array:
        """Return when the last rank of some columns has reduced its gradients."""
        seconds = self._seconds(first, last)
        times = self.simulation.times(seconds)
        ends = np.zeros(last - first)
        for rank, tail_s in enumerate(self.planned.tail_s):
            own = times.end[self.simulation.compiled.rank == rank]
            ends = np.maximum(ends, own.max(axis=0) + tail_s)
        return ends

    def _seconds(self, first: int, last: int) -> Array:
        """Return the seconds of every pass in some columns."""
        many = last - first
        seconds = self._packed(many)
        if self.dynamics.jitter:
            seconds = seconds * self._jitter(seconds.shape)
        replica = np.arange(first, last) % self.replicas
        for (rank, who), factor in self.slow.items():
            own = np.ix_(self.simulation.compiled.rank == rank, replica == who)
            seconds[own] *= factor
        return seconds

    def _jitter(self, shape: tuple[int, ...]) -> Array:
        """Return the slowest of a pass's members, each log-normal with a mean of 1."""
        from scipy.special import ndtri

        spread = self.dynamics.jitter
        members = int(self.batch.tp[0] * self.batch.cp[0])
        highest = self.generator.random(shape) ** (1.0 / members)
        found: Array = np.exp(spread * ndtri(highest) - spread**2 / 2.0)
        return found

    def _slow(self) -> dict[tuple[int, int], float]:
        """Return for every pipeline rank and replica with a straggler the factor of its passes."""
        apart = strides(self.batch)
        found: dict[tuple[int, int], float] = {}
        for rank, factor in self.dynamics.stragglers.items():
            stage = rank // int(apart.pp[0]) % int(self.batch.pp[0])
            replica = rank // int(apart.dp[0]) % self.replicas
            found[stage, replica] = max(found.get((stage, replica), factor), factor)
        return found

    def _grid(self) -> Array | None:
        """Return the seconds of every pass by its attention; None where all is planned."""
        if self.dynamics.packing is None:
            return None
        return np.stack([self.simulation.with_attention(share).seconds for share in ATTENTION_GRID])

    def _packed(self, many: int) -> Array:
        packing = self.dynamics.packing
        if packing is None or self.grid is None:
            return np.repeat(self.simulation.seconds[:, None], many, axis=1)
        shares = self._shares(packing, many)
        found = np.empty((len(self.micro_batch), many))
        for at, micro_batch in enumerate(self.micro_batch):
            found[at] = np.interp(shares[micro_batch], ATTENTION_GRID, self.grid[:, at])
        return found

    def _shares(self, packing: Packing, many: int) -> Array:
        """Return the attention of every micro-batch in every column, over whole sequences'."""
        sequences = int(self.batch.micro_batch[0])
        zigzag = bool(self.batch.sequence_order[0] == SequenceOrder.ZIGZAG)
        drawn = packing.attention(
            self.simulation.prepared.workload.seq_len,
            int(self.batch.ring[0]),
            zigzag=zigzag,
            many=self.simulation.micro_batches * many * sequences,
            generator=self.generator,
        )
        shares: Array = drawn.reshape(-1, many, sequences).mean(axis=-1)
        return shares


def _blocks(columns: int) -> Iterator[tuple[int, int]]:
    for first in range(0, columns, COLUMNS):
        yield first, min(first + COLUMNS, columns)
