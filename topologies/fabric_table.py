"""The fabric of a cluster as a table: every axis it can have, every collective, every algorithm.

An axis is a size and a stride of a rank order that fills the cluster: both divide the number of
accelerators, as their product does. There are at most a few hundred, whatever the size of the
cluster, and all are asked for at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.algorithms import ways
from topologies.collective import Collective
from topologies.divisors import divisors
from topologies.ecmp import Ecmp
from topologies.fabric import Fabric
from topologies.library import Algorithm
from topologies.reach import outermost_tier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.cluster import Cluster
    from topologies.group_links import GroupLinks

    Array = NDArray[np.floating[Any]]
    #: Size and stride of an axis.
    Pair = tuple[int, int]

#: Collectives in which ``n`` ranks send ``(n - 1) / n`` of the bytes.
_SHARES = (Collective.ALL_GATHER, Collective.REDUCE_SCATTER, Collective.ALL_TO_ALL)


def axis_pairs(accelerators: int) -> list[Pair]:
    """Return size and stride of every axis of at least two ranks that fills a cluster.

    >>> axis_pairs(4)
    [(2, 1), (2, 2), (4, 1)]
    """
    numbers = divisors(accelerators)
    return [
        (size, stride)
        for size in numbers[1:]
        for stride in numbers
        if accelerators % (size * stride) == 0
    ]


def telling_pairs(cluster: Cluster) -> list[Pair]:
    """Return the axes that say most about a cluster.

    They are the innermost axes of two, four, eight and so on ranks and of all ranks; and for each
    tier of links beyond the innermost the largest axis that has one rank in each block below it.

    >>> from topologies import load_cluster
    >>> telling_pairs(load_cluster("h100-dgx:4"))
    [(2, 1), (4, 1), (4, 8), (8, 1), (16, 1), (32, 1)]
    """
    every = axis_pairs(cluster.accelerators)
    chosen = {
        (size, stride)
        for size, stride in every
        if stride == 1 and (size & (size - 1) == 0 or size == cluster.accelerators)
    }
    for below, tier in zip(cluster.tiers, cluster.tiers[1:], strict=False):
        across = [
            (size, stride)
            for size, stride in every
            if stride >= (below.spans or cluster.accelerators)
            and outermost_tier(cluster, size, stride) is tier
        ]
        if across:
            chosen.add(max(across, key=lambda pair: (-pair[1], pair[0])))
    return sorted(chosen)


def bus_factor(collective: Collective, size: Array) -> Array:
    """Return the bytes a rank sends for each byte of a collective, as nccl-tests counts them.

    The bus bandwidth is that factor over the seconds per byte: what links at full use would show,
    whatever the collective and the number of ranks (nccl-tests, doc/PERFORMANCE.md).

    >>> bus_factor(Collective.ALL_REDUCE, np.array([2.0, 8.0])).tolist()
    [1.0, 1.75]
    """
    if collective is Collective.ALL_REDUCE:
        return 2.0 * (size - 1.0) / size
    return (size - 1.0) / size if collective in _SHARES else np.ones_like(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One collective by one algorithm; arrays over axes.

    Parameters
    ----------
    collective, algorithm
        What is done, and how.
    latency_s
        Seconds of its hops.
    bus_Bps
        Bus bandwidth of long messages, while all groups of the axis work.
    sharing
        What one group gets alone over what it gets while all groups work.
    able
        Which groups can use the algorithm.
    """

    collective: Collective
    algorithm: Algorithm
    latency_s: Array
    bus_Bps: Array
    sharing: Array
    able: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricTable:
    """What every axis of a cluster gets.

    Parameters
    ----------
    cluster
        Whose.
    pairs
        Size and stride of each axis.
    reach
        The outermost tier that each axis crosses.
    links
        What the groups of each axis get while all work.
    figures
        Of every collective and algorithm.
    ecmp, seed
        How flows meet on equal links.
    """

    cluster: Cluster
    pairs: tuple[Pair, ...]
    reach: tuple[str, ...]
    links: GroupLinks
    figures: tuple[Figures, ...]
    ecmp: Ecmp
    seed: int

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        pairs: Sequence[Pair] | None = None,
        ecmp: Ecmp = Ecmp.PERFECT,
        seed: int = 0,
    ) -> FabricTable:
        """Return the table of a cluster.

        Parameters
        ----------
        cluster
            Tiers or a graph.
        pairs
            Sizes and strides; by default all that there are.
        ecmp, seed
            How flows meet on equal links.

        Examples
        --------
        >>> from topologies import load_cluster
        >>> table = FabricTable.of(load_cluster("a100-pcie"), [(2, 4)])
        >>> hop = table.figures[-1]
        >>> str(hop.collective), hop.sharing.tolist()  # four pairs share the sockets' link
        ('shift', [3.937])
        """
        chosen = axis_pairs(cluster.accelerators) if pairs is None else list(pairs)
        columns = np.array(chosen, dtype=np.float64).reshape(-1, 2).T
        together, alone = (
            Fabric(cluster, ecmp, seed, alone=alone).links((columns[0], columns[1]))
            for alone in (False, True)
        )
        return cls(
            cluster=cluster,
            pairs=tuple(chosen),
            reach=tuple(outermost_tier(cluster, *pair).name for pair in chosen),
            links=together,
            figures=tuple(
                figures
                for collective in Collective
                for figures in _figures(collective, together, alone)
            ),
            ecmp=ecmp,
            seed=seed,
        )


def _figures(collective: Collective, together: GroupLinks, alone: GroupLinks) -> list[Figures]:
    """Return the figures of every algorithm of a collective that any group can use.

    Rings along the dimensions of a torus are rings where no tier is one.
    """
    torus = any(crossing.tier.fabric == "torus" for crossing in together.crossings)
    both = zip(ways(collective, together), ways(collective, alone), strict=True)
    return [
        Figures(
            collective=collective,
            algorithm=usual.algorithm,
            latency_s=usual.hops_s,
            bus_Bps=bus_factor(collective, together.size) / usual.per_byte_s,
            sharing=usual.per_byte_s / lone.per_byte_s,
            able=usual.able,
        )
        for usual, lone in both
        if usual.able.any() and (torus or usual.algorithm is not Algorithm.TORUS)
    ]
