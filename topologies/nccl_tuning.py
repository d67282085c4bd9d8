"""Which algorithm NCCL runs: the fastest under its own tuning model.

A selector, not a predictor: NCCL's estimates are good from 1 GiB on and far too optimistic between
1 and 64 MiB, but they are what NCCL chooses by. Of its algorithms CollNet (which needs switches of
the network that reduce) and PAT (all-gather and reduce-scatter of one rank per node) are left out.
The formulas are in :mod:`topologies.nccl_lines`, the channels in :mod:`topologies.nccl_graph`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from topologies.errors import raise_if_any, unknown_name
from topologies.nccl_graph import Groups
from topologies.nccl_lines import ALGORITHMS, COLLECTIVES, PROTOCOLS, Line, Model
from topologies.nccl_tables import GENERATIONS, PROCESSORS, load_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from topologies.nccl_graph import Array

    Chosen = NDArray[np.intp]

__all__ = ["ALGORITHMS", "COLLECTIVES", "PROTOCOLS", "Groups", "Tuning"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """NCCL's choice for one collective on some groups.

    Parameters
    ----------
    lines
        Times of every algorithm and protocol; arrays over groups.

    Examples
    --------
    >>> import numpy as np
    >>> node = Groups(
    ...     ranks=np.array([4.0, 8.0]), nodes=np.array([1.0]), generation="hopper",
    ...     inside_Bps=np.array([370.8e9]), node_Bps=np.array([0.0]),
    ... )
    >>> tuning = Tuning.of(node, "all_reduce")
    >>> [ALGORITHMS[found] for found in tuning.choose(2.0**30)]
    ['ring', 'nvls']
    """

    lines: tuple[Line, ...]

    @classmethod
    def of(cls, groups: Groups, collective: str) -> Tuning:
        """Return the tuning of a collective on groups.

        Parameters
        ----------
        groups
            Who takes part.
        collective
            One of :data:`COLLECTIVES`.

        Raises
        ------
        SpecError
            If NCCL's tables know no such generation or processor, or there is no such collective.
        """
        asked = (
            ("generation", groups.generation, GENERATIONS),
            ("cpu", groups.cpu, PROCESSORS),
            ("collective", collective, COLLECTIVES),
        )
        missing = "not in NCCL's tuning model"
        raise_if_any([unknown_name(*one, missing) for one in asked if one[1] not in one[2]])
        return cls(Model(groups.whole(), load_tables(), collective).lines())

    def take(self, index: NDArray[np.intp]) -> Tuning:
        """Return the tuning of some groups, in the order of `index`."""
        return Tuning(tuple(line.take(index) for line in self.lines))

    def choose(self, nbytes: Array | float) -> Chosen:
        """Return the position in :data:`ALGORITHMS` of what NCCL runs.

        Parameters
        ----------
        nbytes
            Bytes of the whole tensor: of what a rank holds after an all-gather, or before a
            reduce-scatter. Broadcasts with the groups.
        """
        return np.array([line.algorithm for line in self.lines])[self._fastest(nbytes)[0]]

    def protocol(self, nbytes: Array | float) -> Chosen:
        """Return the position in :data:`PROTOCOLS` of what NCCL runs."""
        return np.array([line.protocol for line in self.lines])[self._fastest(nbytes)[0]]

    def seconds(self, nbytes: Array | float) -> Array:
        """Return NCCL's own estimate for what it runs; zero for groups of one rank."""
        return self._fastest(nbytes)[1]

    def _fastest(self, nbytes: Array | float) -> tuple[NDArray[np.int8], Array]:
        """Return the fastest line and its time."""
        times = self._times(np.asarray(nbytes, dtype=np.float64))
        best_s = np.asarray(next(times))  # of a ring, which runs everywhere
        chosen = np.zeros(best_s.shape, dtype=np.int8)
        for position, taken_s in enumerate(times, start=1):
            chosen = np.where(taken_s < best_s, np.int8(position), chosen)
            best_s = np.minimum(best_s, taken_s)
        return chosen, best_s

    def _times(self, nbytes: Array) -> Iterator[Array]:
        """Yield the time of every line, in their order."""
        factors = _corrections(nbytes) if any(line.corrected for line in self.lines) else None
        for line in self.lines:
            taken_s = nbytes * line.per_byte_s
            if line.corrected and factors is not None:
                taken_s = taken_s / factors[line.protocol]
            taken_s = taken_s + line.start_s
            if line.later is not None:
                later_s, later_bytes = line.later
                taken_s = taken_s + later_s * (nbytes >= later_bytes)
            yield taken_s


def _corrections(nbytes: Array) -> list[Array]:
    """Return the factors on a tree's rate for every protocol, as NCCL looks them up."""
    correction = load_tables().tree_correction
    doublings = np.frexp(nbytes / correction.first_bytes)[1]  # 1 from first_bytes on
    found = []
    for name in PROTOCOLS:
        table = np.array([1.0, *getattr(correction, name), 1.0])
        found.append(table[np.clip(doublings, 0, len(table) - 1)])
    return found
