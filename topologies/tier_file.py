"""A cluster file of tiers: links that nest, from the inside out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from topologies.cluster import Cluster, Tier, TierFabric
from topologies.errors import Problem
from topologies.schema import (
    FigureSchema,
    LatencySchema,
    RateSchema,
    Strict,
    WaitSchema,
    card_problems,
    checked,
    optional,
    share_problems,
)
from topologies.units import GB, MICRO
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from topologies.accelerator import Accelerator

#: Fabrics above a block that share its uplink, and those that join accelerators in a switch.
_ABOVE, _SWITCHED = ("spine", "dragonfly"), ("pcie", "nvswitch")
#: More planes or equal uplinks than any switch has ports.
MOST_PATHS = 512


class TierSchema(Strict):
    """One tier of a cluster file."""

    name: str
    fabric: TierFabric
    spans: int | Literal["all"]
    GBps: RateSchema
    peer_GBps: RateSchema | None = None
    usable_fraction: FigureSchema
    latency_us: LatencySchema
    start_us: WaitSchema | None = None
    chunk_us: WaitSchema | None = None
    relay_us: LatencySchema | None = None
    send_fraction: FigureSchema | None = None
    nvls_fraction: FigureSchema | None = None
    nvls_start_us: LatencySchema | None = None
    peer_issue_us: LatencySchema | None = None
    staged: bool = False
    shift_fraction: FigureSchema | None = None
    rails: bool = False
    cards: int | None = Field(default=None, ge=1)
    planes: int = Field(default=1, ge=1, le=MOST_PATHS)
    paths: int = Field(default=1, ge=1, le=MOST_PATHS)
    dims: list[int] = Field(default_factory=list, max_length=6)
    wrap_multiple: int = Field(default=0, ge=0)

    def build(self, inner: Tier | None = None) -> Tier:
        """Return the tier in SI units; a flow over a shared uplink is as fast as inside."""
        pooled = self.fabric in _ABOVE or (
            self.fabric == "pcie" and inner is not None and inner.fabric in _SWITCHED
        )
        through = inner.peer_Bps if inner and pooled else self.GBps.si(GB)
        return Tier(
            name=self.name,
            fabric=self.fabric,
            spans=None if self.spans == "all" else self.spans,
            Bps=self.GBps.si(GB),
            peer_Bps=self.peer_GBps.si(GB) if self.peer_GBps else through,
            usable_fraction=self.usable_fraction.si(),
            latency_s=self.latency_us.si(MICRO),
            start_s=(self.start_us or unstated().start_us).si(MICRO),
            chunk_s=(self.chunk_us or unstated().chunk_us).si(MICRO),
            relay_s=optional(self.relay_us, MICRO),
            send_fraction=optional(self.send_fraction),
            nvls_fraction=optional(self.nvls_fraction),
            nvls_start_s=optional(self.nvls_start_us, MICRO),
            peer_issue_s=optional(self.peer_issue_us, MICRO),
            staged=self.staged,
            shift_fraction=optional(self.shift_fraction),
            rails=self.rails,
            cards=self.cards,
            planes=self.planes,
            paths=self.paths,
            dims=tuple(self.dims),
            wrap_multiple=self.wrap_multiple,
            pooled=pooled,
        )

    def problems(self, where: str) -> Iterator[Problem]:
        """Yield what is wrong with the tier by itself."""
        yield from share_problems(f"{where}.usable_fraction", self.usable_fraction)
        if (self.nvls_fraction is None) != (self.nvls_start_us is None):
            mend = "give nvls_fraction and nvls_start_us, or neither"
            yield Problem(f"{where}.nvls_fraction", self.nvls_fraction, mend)
        if self.shift_fraction is not None:
            yield from share_problems(f"{where}.shift_fraction", self.shift_fraction)
            if not self.staged:
                mend = "leave it out where nothing is staged: a shift gets the links' own share"
                yield Problem(f"{where}.shift_fraction", self.shift_fraction.value, mend)
        if self.fabric == "nic":
            yield from card_problems(f"{where}.GBps", self.GBps)
        elif self.planes > 1:
            mend = "ports of network cards: planes belong to a nic tier"
            yield Problem(f"{where}.planes", self.planes, mend)
        if self.paths > 1 and self.fabric not in ("nic", "spine"):
            mend = "equal uplinks belong to a nic or spine tier"
            yield Problem(f"{where}.paths", self.paths, mend)
        if self.fabric == "dragonfly":
            yield from self._dragonfly_problems(where)

    def _dragonfly_problems(self, where: str) -> Iterator[Problem]:
        if self.peer_GBps is None:
            mend = "a dragonfly needs the rate of an accelerator towards one other group"
            yield Problem(f"{where}.peer_GBps", "missing", mend)
        elif self.peer_GBps.value > self.GBps.value:
            mend = f"at most the rate towards all groups together ({self.GBps.value:g})"
            yield Problem(f"{where}.peer_GBps", self.peer_GBps.value, mend)


class UnstatedSchema(Strict):
    """``data/unstated_tier.yaml``: figures of tiers whose file does not give them."""

    start_us: WaitSchema
    chunk_us: WaitSchema


@cache
def unstated() -> UnstatedSchema:
    """Return the figures of links whose file does not give them."""
    path = Path(__file__).parent / "data" / "unstated_tier.yaml"
    return checked(UnstatedSchema, read_yaml(path), path.name)


class ClusterSchema(Strict):
    """One file of ``data/clusters``, or a user's own, made of tiers."""

    name: str
    title: str
    accelerator: str
    accelerators_per_node: int = Field(ge=1, le=1024)
    nodes: int | None = Field(default=None, ge=1, le=1_000_000)
    max_nodes: FigureSchema | None = None
    tiers: list[TierSchema] = Field(min_length=1)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the tiers taken together."""
        found: list[Problem] = []
        if self.max_nodes is not None and self.max_nodes.value < 1:
            found.append(Problem("max_nodes", self.max_nodes.value, "at least 1"))
        inner = 0
        carded = False
        for position, tier in enumerate(self.tiers):
            where = f"tiers.{position}"
            found += end_problems(where, tier, last=position == len(self.tiers) - 1)
            if isinstance(tier.spans, int):
                found += self._span_problems(f"{where}.spans", tier.spans, inner)
                inner = tier.spans
            found += tier.problems(where)
            carded |= tier.fabric == "nic"
            if tier.fabric in ("spine", "dragonfly") and not carded:
                mend = "it joins blocks of network cards: put a nic tier inside it"
                found.append(Problem(f"{where}.fabric", tier.fabric, mend))
        return found

    def build(self, accelerator: Accelerator) -> Cluster:
        """Return one node of the cluster."""
        return Cluster(
            name=self.name,
            title=self.title,
            accelerator=accelerator,
            accelerators_per_node=self.accelerators_per_node,
            accelerators=self.accelerators_per_node,
            tiers=build_tiers(self.tiers),
            max_nodes=int(self.max_nodes.value) if self.max_nodes else None,
        )

    def _span_problems(self, where: str, spans: int, inner: int) -> list[Problem]:
        node = self.accelerators_per_node
        if spans < 1:
            return [Problem(where, spans, "at least 1 accelerator, or all")]
        if inner and (spans <= inner or spans % inner):
            return [Problem(where, spans, f"a whole multiple of the tier inside it ({inner})")]
        if spans % node and node % spans:
            return [Problem(where, spans, f"a divisor or a multiple of the {node} of a node")]
        return []


def end_problems(where: str, tier: TierSchema, *, last: bool) -> list[Problem]:
    """Return the problem of a tier that spans all too early, or of a last one that does not."""
    if (tier.spans == "all") == last:
        return []
    return [Problem(f"{where}.spans", tier.spans, "the last tier, and only the last, spans all")]


def build_tiers(schemas: Sequence[TierSchema], inner: Tier | None = None) -> tuple[Tier, ...]:
    """Return tiers in SI units, those of `schemas` around an `inner` one."""
    tiers: list[Tier] = []
    for schema in schemas:
        inner = schema.build(inner)
        tiers.append(inner)
    return tuple(tiers)
