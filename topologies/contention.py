"""Collectives of several axes at once: what each gets of the links they share.

A collective that runs at a share ``x`` of the speed it has alone keeps every class of links busy
for ``x`` times what it would alone. Shares are weighted max-min fair (:mod:`topologies.max_min`):
all grow together until a class of links is full, and those that cross it stop there. Classes are
the levels of the cluster's quotient, for one rank as for all, since groups of an axis are alike;
dimensions of a torus and links of a mesh to peers so far away are classes of their own. The clock
of a plan does not ask for this yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.algorithms import way
from topologies.collective import Collective
from topologies.max_min import max_min_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.group_links import GroupLinks
    from topologies.library import Algorithm

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One collective that is under way, on every group of an axis.

    Parameters
    ----------
    collective, algorithm
        What is done, and how.
    links
        What the groups have alone; a single kind of group.
    """

    collective: Collective
    algorithm: Algorithm
    links: GroupLinks

    def occupancy(self) -> Array:
        """Return the share of each class of links that it keeps busy alone."""
        found = way(self.collective, self.algorithm, self.links)
        with np.errstate(invalid="ignore"):
            busy = np.where(found.per_byte_s > 0, found.levels_s / found.per_byte_s, 0.0)
        shifted = self.collective is Collective.SHIFT
        taken = (c.taken_send if shifted else c.taken for c in self.links.crossings)
        return np.concatenate([one[:, 0] * level for one, level in zip(taken, busy, strict=True)])


def shares(flows: Sequence[Flow]) -> Array:
    """Return the share of its own speed that each of several collectives has while all run.

    Parameters
    ----------
    flows
        Collectives under way at the same time, on groups of one cluster.

    Returns
    -------
    ndarray
        One number up to 1 for each flow.

    Examples
    --------
    Gradients and ring attention both leave the node through one card per GPU:

    >>> from topologies import load_cluster
    >>> from topologies.collective import Collective
    >>> from topologies.fabric import Fabric
    >>> from topologies.library import Algorithm
    >>> fabric = Fabric(load_cluster("h100-dgx:4"))
    >>> across = fabric.links((np.array([4.0]), np.array([8.0])))
    >>> hop = Flow(collective=Collective.SHIFT, algorithm=Algorithm.DIRECT, links=across)
    >>> reduce = Flow(
    ...     collective=Collective.REDUCE_SCATTER, algorithm=Algorithm.RING, links=across
    ... )
    >>> [round(float(share), 3) for share in shares([hop, reduce])]  # a hop takes 77% of a card
    [0.565, 0.565]
    """
    occupied = np.stack([flow.occupancy() for flow in flows]).astype(np.float64)
    return max_min_rates(occupied, np.ones(occupied.shape[1]), np.ones(len(flows)))
