"""A cluster file of nodes and links: every accelerator, switch and cable by its name.

::

    nodes: {accelerator: "gpu[0-7]", switch: ["plx[0-1]"], nic: "nic[0-1]", leaf: leaf}
    links:
      - name: pcie
        GBps: {value: 31, kind: spec, source: data sheet}
        latency_us: {...}
        usable_fraction: {...}
        between: [["gpu[0-3]", plx0], ["gpu[4-7]", plx1]]
      - name: nvlink
        ...
        pairing: zip
        between: [["gpu[0,2,4,6]", "gpu[1,3,5,7]"]]

``pairing`` is ``all`` (every left with every right), ``zip`` (one to one), ``ring`` or ``mesh``
(within one list). ``back_GBps`` is the rate from right to left where it is another.
"""

from __future__ import annotations

from functools import partial
from math import isclose
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from topologies.cluster import Cluster, Tier, TierFabric
from topologies.errors import Collected, Problem
from topologies.figure import Figure, Provenance
from topologies.graph import ClusterGraph, Link, NodeKind
from topologies.graph_levels import settle
from topologies.node_names import expand
from topologies.schema import (
    FigureSchema,
    LatencySchema,
    RateSchema,
    Strict,
    WaitSchema,
    card_problems,
    share_problems,
)
from topologies.tier_file import unstated
from topologies.units import GB, MICRO
from topologies.wiring import (
    MOST_ACCELERATORS,
    MOST_CABLES,
    Cable,
    Pairing,
    cable_problems,
    pair_up,
    part_problems,
    stranger,
    twice,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from topologies.accelerator import Accelerator
    from topologies.graph_levels import Level


def _listed(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    return [value] if isinstance(value, str) else value


#: One pattern or a list of them.
Names = Annotated[list[str], BeforeValidator(_listed)]


class NodesSchema(Strict):
    """Names of the nodes by kind, accelerators in the order of their ranks."""

    accelerator: Names = Field(min_length=1)
    switch: Names = Field(default_factory=list)
    nic: Names = Field(default_factory=list)
    leaf: Names = Field(default_factory=list)
    spine: Names = Field(default_factory=list)
    core: Names = Field(default_factory=list)


class LinkSchema(Strict):
    """One class of links, and what it joins."""

    name: str = Field(min_length=1)
    GBps: RateSchema
    back_GBps: RateSchema | None = None
    usable_fraction: FigureSchema
    latency_us: LatencySchema
    start_us: WaitSchema | None = None
    chunk_us: WaitSchema | None = None
    pairing: Pairing = "all"
    between: list[list[Names]] = Field(min_length=1)

    def link(self, Bps: float, level: int, *, scale_out: bool) -> Link:
        """Return the class in SI units, at a rate of one direction."""
        return Link(
            name=self.name,
            level=level,
            scale_out=scale_out,
            Bps=Bps,
            latency_s=self.latency_us.si(MICRO).value,
            usable_fraction=self.usable_fraction.value,
            source=self.GBps.source,
            start_s=self.start.si(MICRO).value,
            chunk_s=self.chunk.si(MICRO).value,
        )

    @property
    def start(self) -> FigureSchema:
        """Start of a collective, in microseconds."""
        return self.start_us or unstated().start_us

    @property
    def chunk(self) -> FigureSchema:
        """What a chunk waits, in microseconds."""
        return self.chunk_us or unstated().chunk_us

    @property
    def rates(self) -> tuple[FigureSchema, FigureSchema]:
        """The rates of the way out and of the way back."""
        return self.GBps, self.back_GBps or self.GBps


class GraphSchema(Strict):
    """A user's file of nodes and links."""

    name: str
    title: str
    accelerator: str
    accelerators_per_node: int = Field(ge=1, le=1024)
    nodes: NodesSchema
    links: list[LinkSchema] = Field(min_length=1)

    def build(self, accelerator: Accelerator, where: str) -> Cluster:
        """Return the cluster: its graph, and the tiers that are left of it.

        Raises
        ------
        SpecError
            With everything that is wrong with nodes and links.
        """
        found = Collected()
        kinds = self._kinds(found)
        cables = self._cables(kinds, found)
        if not found.problems:
            found.problems += cable_problems(cables, kinds, [link.name for link in self.links])
            found.problems += part_problems(cables, kinds)
        found.problems += self._rate_problems(cables, kinds)
        found.problems = [Problem(f"{where}: {p.field}", p.value, p.mend) for p in found.problems]
        found.raise_if_any()
        graph, levels = settle(self._graph(cables, kinds))
        tiers = tuple(
            self._tier(level, last=place + 1 == len(levels), inner=levels[:place])
            for place, level in enumerate(levels)
        )
        return Cluster(
            name=self.name,
            title=self.title,
            accelerator=accelerator,
            accelerators_per_node=self.accelerators_per_node,
            accelerators=graph.accelerators,
            tiers=tiers,
            graph=graph,
        )

    def _kinds(self, found: Collected) -> dict[str, NodeKind]:
        """Return the kind of every node by its name, accelerators first."""
        kinds: dict[str, NodeKind] = {}
        every: list[str] = []
        for kind in NodeKind:
            names = _expanded(getattr(self.nodes, kind), f"nodes.{kind}", found)
            kinds |= {name: kind for name in names if name not in kinds}
            every += names
        for name in twice(every):
            found.problems.append(Problem("nodes", name, "this name is there twice: give it once"))
        count = sum(kind is NodeKind.ACCELERATOR for kind in kinds.values())
        if count > MOST_ACCELERATORS:
            mend = f"at most {MOST_ACCELERATORS:,} one by one: describe larger ones by tiers"
            found.problems.append(Problem("nodes.accelerator", count, mend))
        if count % self.accelerators_per_node:
            mend = f"not a multiple of the {self.accelerators_per_node} of a node"
            found.problems.append(Problem("nodes.accelerator", count, mend))
        return kinds

    def _cables(self, kinds: Mapping[str, NodeKind], found: Collected) -> list[Cable]:
        cables: list[Cable] = []
        for place, link in enumerate(self.links):
            for entry, sides in enumerate(link.between):
                field = f"links.{place}.between.{entry}"
                groups = [_expanded(side, field, found) for side in sides]
                pairs, count, mend = pair_up(groups, link.pairing)
                unknown = stranger(field, [name for group in groups for name in group], kinds)
                if mend:
                    unknown.append(Problem(field, f"pairing {link.pairing}", mend))
                if len(cables) + count > MOST_CABLES:
                    mend = f"at most {MOST_CABLES:,} cables: describe larger clusters by tiers"
                    unknown.append(Problem(field, f"{count:,} more", mend))
                found.problems += unknown
                if not unknown:
                    cables += [Cable(tail, head, place) for tail, head in pairs]
        return cables

    def _rate_problems(
        self, cables: Iterable[Cable], kinds: Mapping[str, NodeKind]
    ) -> Iterator[Problem]:
        carded = {link for tail, head, link in cables if NodeKind.NIC in (kinds[tail], kinds[head])}
        for place, link in enumerate(self.links):
            yield from share_problems(f"links.{place}.usable_fraction", link.usable_fraction)
            if place in carded:
                yield from card_problems(f"links.{place}.GBps", link.GBps)
                yield from card_problems(f"links.{place}.back_GBps", link.back_GBps)

    def _graph(self, cables: Sequence[Cable], kinds: Mapping[str, NodeKind]) -> ClusterGraph:
        names = list(kinds)
        count = sum(kind is NodeKind.ACCELERATOR for kind in kinds.values())
        graph = ClusterGraph(self.name, count, self.accelerators_per_node)
        for kind in kinds.values():
            if kind is not NodeKind.ACCELERATOR:
                graph.add(kind)
        graph.call(names)
        numbers = {name: number for number, name in enumerate(names)}
        pairs: dict[tuple[int, bool], list[tuple[int, int]]] = {}
        for tail, head, place in cables:
            inside = {kinds[tail], kinds[head]} <= {NodeKind.ACCELERATOR, NodeKind.SWITCH}
            pairs.setdefault((place, not inside), []).append((numbers[tail], numbers[head]))
        for (place, scale_out), ends in pairs.items():
            link = self.links[place]
            out, back = (
                link.link(rate.value * GB, place, scale_out=scale_out) for rate in link.rates
            )
            graph.join(ends, out, back)
        return graph

    def _tier(self, level: Level, *, last: bool, inner: Sequence[Level]) -> Tier:
        """Return the tier of a level: each figure that of the link that has the worst."""
        links = [self.links[place] for place in level.classes]
        source = "; ".join(dict.fromkeys(link.GBps.source for link in links))
        softest = max((Provenance(link.GBps.kind) for link in links), key=list(Provenance).index)
        outer: TierFabric = "spine" if any(level.scale_out for level in inner) else "nic"
        return Tier(
            name="+".join(dict.fromkeys(link.name for link in links)),
            fabric=outer if level.scale_out else "nvswitch",
            spans=None if last else level.spans,
            Bps=Figure(value=level.Bps, kind=softest, source=f"of the poorest block: {source}"),
            peer_Bps=Figure(value=level.peer_Bps, kind=softest, source=source),
            usable_fraction=_share(level.usable_fraction, links),
            latency_s=max((li.latency_us for li in links), key=_value).si(MICRO),
            start_s=max((li.start for li in links), key=_value).si(MICRO),
            chunk_s=max((li.chunk for li in links), key=_value).si(MICRO),
        )


def _expanded(patterns: Iterable[str], field: str, found: Collected) -> list[str]:
    names: list[str] = []
    for pattern in patterns:
        names += found.attempt(partial(expand, pattern, field)) or []
    return names


def _share(usable_fraction: float, links: Sequence[LinkSchema]) -> Figure:
    """Return the usable share of a level, as the figure of one of its links where it is that."""
    shares = [link.usable_fraction for link in links]
    nearest = min(shares, key=lambda share: abs(share.value - usable_fraction))
    if isclose(nearest.value, usable_fraction):
        return nearest.si()
    source = "of the poorest block: " + "; ".join(dict.fromkeys(share.source for share in shares))
    softest = max((Provenance(share.kind) for share in shares), key=list(Provenance).index)
    return Figure(value=usable_fraction, kind=softest, source=source)


def _value(figure: FigureSchema) -> float:
    return figure.value
