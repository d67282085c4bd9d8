"""The links of a tier between the nodes of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topologies.graph import Link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from topologies.cluster import Tier
    from topologies.graph import ClusterGraph


def tier_link(tier: Tier, level: int, Bps: float) -> Link:
    """Return a class of links of a tier, at a rate of its own."""
    return Link(
        name=tier.name,
        level=level,
        scale_out=tier.scale_out,
        Bps=Bps,
        latency_s=tier.latency_s.value,
        usable_fraction=tier.usable_fraction.value,
        source=tier.Bps.source,
        start_s=tier.start_s.value,
        chunk_s=tier.chunk_s.value,
    )


class Cables:
    """Pairs of nodes by the rate of their link, joined at the end: a class of links per rate."""

    def __init__(self, graph: ClusterGraph, level: int, tier: Tier) -> None:
        self.graph, self.level, self.tier = graph, level, tier
        self.pairs: dict[float, list[tuple[int, int]]] = {}

    def lay(self, pairs: Iterable[tuple[int, int]], Bps: float) -> None:
        """Note pairs of nodes, and the rate of what shall join them."""
        self.pairs.setdefault(Bps, []).extend(pairs)

    def join(self) -> None:
        """Join all pairs noted."""
        for Bps, pairs in self.pairs.items():
            self.graph.join(pairs, tier_link(self.tier, self.level, Bps))
