"""Levels of a graph that was given link by link, and the tiers that are left of it.

Links are ordered from the inside out: those of the fast domain first, then those of cards and
leaves, of spines, of cores; within each by how far they lie from the accelerators, and the fast
before the slow. Taken in one by one, a class of links

* that joins nothing new lies beside the one before it: two cables of different widths between the
  same eight accelerators are one level;
* that leaves some block without a link waits for the next: bridges of half of the hosts are no
  level of their own;
* that leads out of blocks but not yet to others (cards that hang on their accelerators) is the
  first leg of the level that does: the poorest leg is its rate.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from topologies.graph import NodeKind
from topologies.quotient import quotient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from topologies.graph import ClusterGraph, Link
    from topologies.quotient import Blocks

_STAGES = {NodeKind.ACCELERATOR: 0, NodeKind.SWITCH: 0, NodeKind.NIC: 1, NodeKind.LEAF: 1}
_STAGES |= {NodeKind.SPINE: 2, NodeKind.CORE: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a graph, as a tier sees it.

    Parameters
    ----------
    classes
        Positions of the links in their file whose figures count: not those that lead nowhere else.
    scale_out
        Whether any of them lies behind a network card.
    spans
        Accelerators of a block: the longest runs that never straddle two.
    Bps, peer_Bps
        Bytes/s per accelerator of the poorest block, and towards a single peer.
    usable_fraction
        Share of `Bps` that the poorest block reaches.
    """

    classes: tuple[int, ...]
    scale_out: bool
    spans: int
    Bps: float
    peer_Bps: float
    usable_fraction: float


class _Part(NamedTuple):
    """Cables of one link of a file that lie equally far inside, in the order of parts."""

    stage: int
    distance: int
    slowness: float
    place: int


def settle(graph: ClusterGraph) -> tuple[ClusterGraph, list[Level]]:
    """Return a graph whose links know their levels, and the levels from the inside out.

    Parameters
    ----------
    graph
        The level of its links is their position in their file; both ways of a cable share it.
    """
    split, parts = _split(graph)
    legs = [[part] for part in range(len(parts))]
    while True:
        numbers = {part: at for at, leg in enumerate(legs) for part in leg}
        found = quotient(_numbered(split, numbers))
        lame = next((at for at, blocks in enumerate(found) if not blocks.Bps), None)
        if lame is None or len(legs) == 1:
            break
        outward = found[lame].richest_Bps > 0 and lame + 1 < len(legs)
        other = lame + 1 if outward or not lame else lame - 1
        first, second = sorted((lame, other))
        legs[first : second + 1] = [legs[first] + legs[second]]
    reached = quotient(_numbered(split.relinked(_usable), numbers))
    levels: list[Level] = []
    tiers: dict[int, int] = {}
    for run, joining in _runs(found):
        counted = [part for leg in run[: joining + 1] for part in legs[leg]]
        inner = levels[-1].peer_Bps if levels else np.inf
        Bps, usable = (min(at[leg].Bps for leg in run[: joining + 1]) for at in (found, reached))
        levels.append(
            Level(
                classes=tuple(dict.fromkeys(parts[part].place for part in counted)),
                scale_out=any(parts[part].stage for part in counted),
                spans=_aligned(found[run[-1]]),
                Bps=Bps,
                peer_Bps=_peer_Bps(split, set(counted), inner),
                usable_fraction=usable / Bps,
            )
        )
        tiers |= {part: len(levels) - 1 for leg in run for part in legs[leg]}
    return _numbered(split, tiers), levels


def _usable(link: Link) -> Link:
    return replace(link, Bps=link.Bps * link.usable_fraction)


def _numbered(graph: ClusterGraph, levels: Mapping[int, int]) -> ClusterGraph:
    return graph.relinked(lambda link: replace(link, level=levels[link.level]))


def _split(graph: ClusterGraph) -> tuple[ClusterGraph, list[_Part]]:
    """Return the graph with its links numbered by parts, and the parts from the inside out."""
    kinds = dict(graph.graph.nodes.data("kind"))
    far = _distances(graph)
    slowness: dict[int, float] = {}
    for link in graph.links():
        slowness[link.level] = min(slowness.get(link.level, 0.0), -link.Bps)
    of_edge = {}
    for tail, head, link in graph.edges():
        stage = max(_STAGES[kinds[tail]], _STAGES[kinds[head]])
        distance = min(far[tail], far[head])
        of_edge[tail, head] = _Part(stage, distance, slowness[link.level], link.level)
    parts = sorted(set(of_edge.values()))
    numbers = {part: number for number, part in enumerate(parts)}
    split = graph.relinked(lambda link: link)
    for tail, head, data in split.graph.edges.data():
        data["link"] = replace(data["link"], level=numbers[of_edge[tail, head]])
    return split, parts


def _distances(graph: ClusterGraph) -> dict[int, int]:
    """Return for every node how many links lie between it and the nearest accelerator."""
    found = dict.fromkeys(range(graph.accelerators), 0)
    waiting = deque(found)
    while waiting:
        node = waiting.popleft()
        for neighbour in graph.graph[node]:
            if neighbour not in found:
                found[neighbour] = found[node] + 1
                waiting.append(neighbour)
    return found


def _runs(found: Sequence[Blocks]) -> list[tuple[list[int], int]]:
    """Return runs of legs, each with the place in it of the leg that joins blocks.

    What follows the last that does leads nowhere else and belongs to its run.
    """
    runs: list[tuple[list[int], int]] = []
    run: list[int] = []
    parts = len(found[0].block)
    for leg, blocks in enumerate(found):
        run.append(leg)
        now = len(np.unique(blocks.block))
        if now < parts:
            runs.append((run, len(run) - 1))
            run, parts = [], now
    if run and runs:
        runs[-1][0].extend(run)
    return runs or [(run, len(run) - 1)]


def _aligned(blocks: Blocks) -> int:
    """Return the longest runs of accelerators of which none straddles two blocks."""
    borders = np.flatnonzero(np.diff(blocks.block)) + 1
    return gcd(len(blocks.block), *map(int, borders))


def _peer_Bps(graph: ClusterGraph, parts: set[int], inner: float) -> float:
    """Return what one accelerator reaches a single peer with over some parts of the links.

    All links of an accelerator to switches and cards serve a single peer, as far as one link
    beyond them carries it; of direct links one does; where none begins at an accelerator, a flow
    is as fast as inside, or as the link.
    """
    through = np.zeros(graph.accelerators)
    direct = beyond = np.inf
    for tail, head, link in graph.edges():
        if link.level not in parts:
            continue
        if tail < graph.accelerators <= head:
            through[tail] += link.Bps
        elif tail < graph.accelerators:
            direct = min(direct, link.Bps)
        elif head >= graph.accelerators:
            beyond = min(beyond, link.Bps)
    if through.min() > 0:
        return float(min(through.min(), beyond))
    return float(direct if np.isfinite(direct) else min(inner, beyond))
