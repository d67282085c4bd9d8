"""A cluster: accelerators, and the tiers, single links or parts that join them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from topologies.errors import Problem, raise_if_any
from topologies.figure import Figure
from topologies.torus import Slice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.accelerator import Accelerator
    from topologies.graph import ClusterGraph
    from topologies.stated import StatedSize

#: Jobs that would leave more of their racks idle fill one after the other instead.
LEAST_FILLED = 0.75

TierFabric = Literal["nvswitch", "mesh", "pcie", "torus", "nic", "spine", "dragonfly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One level of links: what an accelerator has towards the others of its block.

    Parameters
    ----------
    name
        What people call it: ``nvlink``, ``infiniband``.
    fabric
        How it is built. ``nic`` and what lies above it is *scale-out*; the rest is *scale-up*.
    spans
        Accelerators inside one block that the job uses; ``None`` for the whole cluster.
    block
        Accelerators that a block has, where the job leaves some idle to fill blocks evenly.
    Bps
        Bytes/s per accelerator and direction, towards all peers of the block together.
    peer_Bps
        Bytes/s per accelerator and direction towards a single peer. Below `Bps` where links are
        point to point (xGMI mesh, torus); of a dragonfly towards a single other group.
    usable_fraction
        Share of the wire rate that a collective library reaches at best.
    latency_s
        One hop of a collective: what a ring step or a doubling takes beyond its bytes.
    relay_s
        Least duration of a hop *inside* the domain on a ring that goes on through this tier: such
        a ring runs in step with the network cards; ``None`` for no more than a hop takes anyway.
    start_s
        Start of a collective, beyond what a framework adds.
    chunk_s
        What a chunk waits for its neighbours: a collective whose bytes take ``w`` seconds takes
        ``w + 2 sqrt(chunk_s w)``, the best cut into chunks.
    send_fraction
        Share of the wire rate that a send to one rank reaches, where that is less than all of a
        collective's reach together (`usable_fraction`); ``None`` where it is not.
    nvls_fraction, nvls_start_s
        Share of the wire rate at which the switch reduces (NVLS: every byte crosses a link once),
        and what that adds to the start; ``None`` where it cannot.
    peer_issue_s
        Shortest time between sends to two peers of an all-to-all beyond the node.
    staged
        Whether bytes go through host memory, where each takes its share wherever it goes.
    shift_fraction
        Share of the wire rate that a shift reaches there, each rank sending to one other; ``None``
        for `usable_fraction`, that of collectives.
    rails
        Whether accelerators of one position in their nodes share leaf switches (rail-optimised).
    cards
        Network cards of a node; ``None`` for one each accelerator.
    planes
        Ports of a network card, each to switches of a plane of its own, at its share of the rate.
    paths
        Equal uplinks that flows are hashed onto.
    dims, wrap_multiple
        Sides of a torus, and of what a side must be a multiple for its ends to meet (0: never).
    pooled
        Whether accelerators of a block below share one uplink, rather than each having its own:
        what an idle neighbour leaves, others can use.
    """

    name: str
    fabric: TierFabric
    spans: int | None
    Bps: Figure
    peer_Bps: Figure
    usable_fraction: Figure
    latency_s: Figure
    start_s: Figure
    chunk_s: Figure
    relay_s: Figure | None = None
    send_fraction: Figure | None = None
    nvls_fraction: Figure | None = None
    nvls_start_s: Figure | None = None
    peer_issue_s: Figure | None = None
    staged: bool = False
    shift_fraction: Figure | None = None
    rails: bool = False
    cards: int | None = None
    planes: int = 1
    paths: int = 1
    dims: tuple[int, ...] = ()
    wrap_multiple: int = 0
    pooled: bool = False
    block: int | None = None

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every figure of the tier with its name."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Figure):
                yield entry.name, value

    @property
    def scale_out(self) -> bool:
        """Whether traffic of this tier leaves the fast domain through a network card."""
        return self.fabric in ("nic", "spine", "dragonfly")

    def filled(self, accelerators: int, node: int) -> Tier:
        """Return it as a job of some accelerators, in nodes of so many, fills its blocks.

        Racks that share fast links are filled evenly, as schedulers are asked to (SLURM's
        ``--segment``): 256 accelerators are four times 64 of 72, whose groups stay in their racks.
        """
        whole = self.block or self.spans
        if self.fabric != "nvswitch" or whole is None or whole <= node:
            return self
        used = whole
        if accelerators > whole:
            fewest = -(-accelerators // whole)
            even = (
                accelerators // blocks
                for blocks in range(fewest, int(fewest / LEAST_FILLED) + 1)
                if accelerators % (blocks * node) == 0
            )
            used = next(even, whole)
        return replace(self, spans=used, block=whole if used < whole else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Accelerators that get equal work, and the tiers of links that join them, inside out.

    Parameters
    ----------
    name, title
        Catalogue name and the name people read.
    accelerator
        What it is made of; of a mix, the slowest of each figure.
    accelerators_per_node
        Accelerators that share a host.
    accelerators
        How many the job may use.
    tiers
        Links from the inside out; the last tier spans the cluster.
    max_nodes
        Where it ends; ``None`` for nowhere.
    stated
        The nodes that a user says there are; ``None`` for a kind of nodes, of which there are as
        many as a job wants.
    graph
        Every single link, where a file says them; `tiers` are then what is left of it.
    parts
        What a mix is made of; empty for any other cluster.
    """

    name: str
    title: str
    accelerator: Accelerator
    accelerators_per_node: int
    accelerators: int
    tiers: tuple[Tier, ...]
    max_nodes: int | None = None
    stated: StatedSize | None = None
    graph: ClusterGraph | None = None
    parts: tuple[Cluster, ...] = ()

    def torus(self, tier: Tier) -> Slice:
        """Return the slice of a torus tier that the job's accelerators fill."""
        size = min(tier.spans or self.accelerators, self.accelerators)
        return Slice.of(tier.dims or (size,), size, tier.wrap_multiple)

    @property
    def fast_domain(self) -> int:
        """Accelerators that reach each other without a network card."""
        spans = [tier.spans or self.accelerators for tier in self.tiers if not tier.scale_out]
        return min(max(spans, default=1), self.accelerators)

    @property
    def filling(self) -> str:
        """In words, how many of a block's accelerators the job uses; empty for all."""
        parts = (
            f"{tier.spans} of the {tier.block} that each {tier.name} domain joins"
            for tier in self.tiers
            if tier.block
        )
        return ", ".join(parts)

    @property
    def nodes(self) -> int:
        """Hosts that the job touches."""
        if self.parts:
            return sum(part.nodes for part in self.parts)
        return -(-self.accelerators // self.accelerators_per_node)

    @property
    def cards(self) -> int:
        """Network cards of a node; of nodes that differ, what the poorest kind has."""
        if self.parts:
            return min(part.cards for part in self.parts)
        if self.graph is not None and (each := self.graph.cards // self.nodes):
            return each
        said = (tier.cards for tier in self.tiers if tier.cards is not None)
        return next(said, self.accelerators_per_node)

    def take(self, accelerators: int, field: str = "--gpus") -> Cluster:
        """Return the cluster cut down (or grown) to a number of accelerators.

        Raises
        ------
        SpecError
            If it is not a divisor of a node or a whole number of nodes, or more than exists or is
            said to be there; of links one by one and of a mix, if it is not all there is.
        """
        raise_if_any(self._size_problems(accelerators, field))
        node = self.accelerators_per_node
        tiers = tuple(tier.filled(accelerators, node) for tier in self.tiers)
        return replace(self, accelerators=accelerators, tiers=tiers)

    def scale_network(self, factor: float) -> Cluster:
        """Return the cluster with every scale-out link `factor` times as fast."""
        tiers = tuple(_scaled(tier, factor) if tier.scale_out else tier for tier in self.tiers)
        graph = self.graph and self.graph.relinked(
            lambda link: replace(link, Bps=link.Bps * factor) if link.scale_out else link
        )
        parts = tuple(part.scale_network(factor) for part in self.parts)
        return replace(self, tiers=tiers, graph=graph, parts=parts)

    def all_or_nothing(self) -> str:
        """Return why only the whole of a mix or a graph can be taken, and what else to do."""
        whole = f"the file describes all {self.accelerators} accelerators ({self.nodes} nodes)"
        if self.parts:
            return f"{whole} of the mix: take all, or change the nodes of its parts"
        return f"{whole} one by one: take all, or describe the cluster by tiers"

    def _size_problems(self, accelerators: int, field: str) -> list[Problem]:
        node = self.accelerators_per_node
        if accelerators < 1:
            return [Problem(field, accelerators, "give at least 1 accelerator")]
        if self.graph is not None or self.parts:
            whole = accelerators == self.accelerators
            return [] if whole else [Problem(field, accelerators, self.all_or_nothing())]
        if node % accelerators and accelerators % node:
            below = max(accelerators // node * node, 1)
            above = -(-accelerators // node) * node
            mend = (
                f"{self.name} has {node} accelerators a node: take a divisor of {node} "
                f"or whole nodes, for example {below} or {above}"
            )
            return [Problem(field, accelerators, mend)]
        if self.max_nodes is not None and accelerators > self.max_nodes * node:
            most = self.max_nodes * node
            return [Problem(field, accelerators, f"{self.name} ends at {most} accelerators")]
        if self.stated is not None and accelerators > self.stated.nodes * node:
            return [Problem(field, accelerators, self.stated.refusal(node))]
        return []


def _scaled(tier: Tier, factor: float) -> Tier:
    return replace(
        tier,
        Bps=replace(tier.Bps, value=tier.Bps.value * factor),
        peer_Bps=replace(tier.peer_Bps, value=tier.peer_Bps.value * factor),
    )
