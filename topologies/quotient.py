"""From a graph back to tiers: the quotient by link classes.

Links are taken in from the innermost level outwards. What the links up to a level join is a block;
what leaves it over the next level's links is its uplink. The blocks of all levels, their sizes and
their uplinks per accelerator are what groups of ranks share, and all that the fabric asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from topologies.graph import ClusterGraph

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """One level of the quotient.

    Parameters
    ----------
    level
        Of the links that join the blocks below.
    span
        Accelerators of the largest block.
    Bps, richest_Bps
        Uplink over this level's links per accelerator, in its poorer direction, of the poorest
        and of the richest block below.
    latency_s
        Of one link of this level.
    block
        For each accelerator the block it is in.
    """

    level: int
    span: int
    Bps: float
    richest_Bps: float
    latency_s: float
    block: Ints


def quotient(cluster: ClusterGraph) -> list[Blocks]:
    """Return the levels of a cluster's graph, inside out.

    Raises
    ------
    ValueError
        If the graph has no links.
    """
    compiled = _Edges.of(cluster)
    return [compiled.blocks(int(level)) for level in np.unique(compiled.level)]


@dataclass(frozen=True, slots=True)
class _Edges:
    nodes: int
    accelerators: int
    tails: Ints
    heads: Ints
    level: Ints
    Bps: Floats
    latency_s: Floats

    @classmethod
    def of(cls, cluster: ClusterGraph) -> _Edges:
        """Return the edges as arrays; edges of a class share one link object."""
        nodes, heads, links = [], [], []
        for node, edges in cluster.graph.adjacency():
            nodes.append((node, len(edges)))
            heads += edges
            links += [edge["link"] for edge in edges.values()]
        tails, degrees = np.array(nodes).T
        which = np.fromiter(map(id, links), dtype=np.int64, count=len(links))
        _, first, codes = np.unique(which, return_index=True, return_inverse=True)
        kinds = [links[at] for at in first]
        return cls(
            nodes=len(nodes),
            accelerators=cluster.accelerators,
            tails=np.repeat(tails, degrees),
            heads=np.array(heads),
            level=np.array([link.level for link in kinds])[codes],
            Bps=np.array([link.Bps for link in kinds])[codes],
            latency_s=np.array([link.latency_s for link in kinds])[codes],
        )

    def blocks(self, level: int) -> Blocks:
        below = self._joined(self.level < level)
        here = self._joined(self.level <= level)
        inside = np.bincount(below[: self.accelerators], minlength=below.max() + 1)
        leaving = (self.level == level) & (below[self.tails] != below[self.heads])
        rates = self.Bps[leaving]
        out, back = (
            np.bincount(below[ends[leaving]], weights=rates, minlength=len(inside))
            for ends in (self.tails, self.heads)
        )
        populated = inside > 0
        uplink = np.minimum(out, back)[populated] / inside[populated]
        block = here[: self.accelerators]
        return Blocks(
            level=level,
            span=int(np.bincount(block).max()),
            Bps=float(uplink.min()),
            richest_Bps=float(uplink.max()),
            latency_s=float(self.latency_s[self.level == level].max()),
            block=block,
        )

    def _joined(self, used: NDArray[np.bool_]) -> Ints:
        ends = (self.tails[used], self.heads[used])
        ones = np.ones(int(used.sum()), dtype=np.int8)
        matrix = coo_array((ones, ends), shape=(self.nodes, self.nodes))
        _, labels = connected_components(matrix, directed=False)
        numbers: Ints = labels.astype(np.int64)
        return numbers
