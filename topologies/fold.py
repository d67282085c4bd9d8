"""Folding a cluster's graph until it fits on a page.

Accelerators that reach each other without a network card share a *box*: a host, or a domain of
several hosts. Of what repeats, the first few and the last stay; an ellipsis stands for the rest
and keeps its links, so a folded picture shows every class of links that the cluster has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from math import isqrt
from typing import TYPE_CHECKING, TypeVar

import networkx as nx

from topologies.form import Form, find_form
from topologies.graph import NodeKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from topologies.graph import ClusterGraph, Link

#: Drawn of a kind, each with one ellipsis among them.
MOST_BOXES, MOST_SWITCHES, MOST_HOSTS, MOST_ON_RING = 4, 8, 4, 16
#: Switches drawn inside a box.
MOST_INNER = 12
#: Accelerators drawn in all boxes together, nearly.
MOST_ACCELERATORS = 64
#: Kinds above the boxes, top down.
UPPER = (NodeKind.CORE, NodeKind.SPINE, NodeKind.LEAF)

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing to draw: a node of the graph, or an ellipsis that stands for several.

    Parameters
    ----------
    key
        Unique in the picture.
    kind
        What it is; ``None`` for an ellipsis of whole boxes.
    label
        What is written on it.
    hidden
        How many an ellipsis stands for; 0 for a node.
    host
        Host it belongs to, where there is a single one.
    """

    key: str
    kind: NodeKind | None
    label: str
    hidden: int = 0
    host: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Accelerators that reach each other without a network card, and what joins them.

    Parameters
    ----------
    label
        ``host 3``, or ``domain 0`` with its size.
    form
        How its accelerators are joined.
    accelerators, cards, switches
        What is drawn, in order; switches from the inside out.
    columns
        Accelerators drawn in a row of a grid.
    hosts
        Whether it is larger than a host.
    """

    label: str
    form: Form
    accelerators: tuple[Mark, ...]
    cards: tuple[Mark, ...]
    switches: tuple[Mark, ...]
    columns: int
    hosts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is left to draw of a cluster.

    Parameters
    ----------
    boxes
        Boxes, and where some are folded the ellipsis between them.
    layers
        Cores, spines and leaves, those that exist, top down.
    wires
        Pairs of marks with the class of their link, each once.
    """

    boxes: tuple[Box | Mark, ...]
    layers: dict[NodeKind, tuple[Mark, ...]]
    wires: tuple[tuple[Mark, Mark, Link], ...]


def fold(graph: ClusterGraph) -> Picture:
    """Return what to draw of a cluster, at most a few hundred marks whatever its size.

    Examples
    --------
    >>> from topologies import load_cluster
    >>> from topologies.builders import build_graph
    >>> picture = fold(build_graph(load_cluster("h100-dgx:256")))
    >>> [box.label for box in picture.boxes]
    ['host 0', 'host 1', '… 253 more hosts', 'host 255']
    """
    return _Folder(graph).picture()


def first_and_last(items: Sequence[_Item], most: int) -> list[_Item]:
    """Return all items, or where they are too many all but one place's worth of the middle.

    >>> first_and_last(range(100), 4)
    [0, 1, 99]
    """
    return list(items) if len(items) <= most else [*items[: most - 2], items[-1]]


class _Folder:
    """Folds one graph; remembers for each node which mark stands for it."""

    def __init__(self, graph: ClusterGraph) -> None:
        self.graph = graph
        self.domains = _domains(graph)
        self.cards = _cards(graph)
        self.marks: dict[int, Mark] = {}
        self.places: dict[int, int] = {}  # of a node among those of its kind
        kinds: dict[NodeKind, list[int]] = {kind: [] for kind in NodeKind}
        for node, data in graph.graph.nodes.data():
            self.places[node] = len(kinds[data["kind"]])
            kinds[data["kind"]].append(node)
        self.kinds = kinds

    def picture(self) -> Picture:
        """Return the folded picture."""
        shown = self._shown_boxes()
        boxes: list[Box | Mark] = [self._box(number, len(shown)) for number in shown]
        if len(shown) < len(self.domains):
            boxes.insert(-1, self._other_boxes(shown))
        layers = {
            kind: self._row(self.kinds[kind], first_and_last(self.kinds[kind], MOST_SWITCHES), kind)
            for kind in UPPER
            if self.kinds[kind]
        }
        return Picture(boxes=tuple(boxes), layers=layers, wires=tuple(self._wires()))

    def _shown_boxes(self) -> list[int]:
        """Return the boxes that are drawn: the first few and the last, one at least of a part."""
        shown = first_and_last(range(len(self.domains)), MOST_BOXES)
        parts: dict[str, int] = {}
        for number, domain in enumerate(self.domains):
            parts.setdefault(self._part(domain[0]), number)
        if len(shown) == len(self.domains) or len(parts) == 1:
            return shown
        wanted = dict.fromkeys((*list(parts.values())[: MOST_BOXES - 1], shown[-1], *shown))
        return sorted(list(wanted)[: MOST_BOXES - 1])

    def _part(self, node: int) -> str:
        """Return what the accelerators of a mix's part are called; nothing elsewhere."""
        name: str = self.graph.graph.nodes[node].get("part", "")
        return name

    def _box(self, number: int, boxes: int) -> Box:
        domain = self.domains[number]
        members = [node for node in domain if node < self.graph.accelerators]
        inner = domain[len(members) :]
        form = find_form(self.graph.graph, members, inner)
        shown, columns = self._shown(members, form, MOST_ACCELERATORS // boxes)
        front = shown[:columns] if form.is_grid else shown
        switches = self._reached(inner, set(shown))
        behind = [card for node in domain for card in self.cards.get(node, ())]
        near = {*front, *switches}
        before = {card for card in behind if near & set(self.graph.graph.predecessors(card))}
        hosts = len({self._host(node) for node in members})
        return Box(
            label=self._box_label(number, members, hosts),
            form=form,
            accelerators=self._row(members, shown, NodeKind.ACCELERATOR, apart=not form.is_grid),
            cards=self._row(behind, before, NodeKind.NIC, apart=not form.is_grid),
            switches=self._row(inner, switches, NodeKind.SWITCH),
            columns=columns,
            hosts=hosts > 1,
        )

    def _box_label(self, number: int, members: Sequence[int], hosts: int) -> str:
        part = self._part(members[0])
        if hosts == 1:
            return f"host {self._host(members[0])}" + (f": {part}" if part else "")
        size = f"{hosts:,} hosts, {len(members):,} accelerators"
        return f"domain {number}: {size}" + (f", {part}" if part else "")

    def _host(self, node: int) -> int:
        return self.graph.host(node)

    def _shown(self, members: Sequence[int], form: Form, most: int) -> tuple[list[int], int]:
        """Return the accelerators of a box that are drawn, and how many of them make a row."""
        if form.is_grid:
            rows, columns = form.dims[-2:]
            side = isqrt(most) if len(members) > most else max(rows, columns)
            kept = first_and_last(range(columns), side)
            places = [
                row * columns + at for row in first_and_last(range(rows), side) for at in kept
            ]
            return [members[place] for place in places if place < len(members)], len(kept)
        if form.is_ring:
            shown = first_and_last(members, min(most, MOST_ON_RING))
        elif len(members) <= most:
            shown = list(members)
        else:
            hosts = [list(group) for _, group in groupby(members, self._host)]
            each = max(most // (MOST_HOSTS - 1), 3)
            kept_hosts = first_and_last(hosts, MOST_HOSTS)
            shown = [node for host in kept_hosts for node in first_and_last(host, each)]
        return shown, len(shown)

    def _reached(self, switches: Sequence[int], reached: set[int]) -> set[int]:
        """Return switches with a drawn accelerator behind them, directly or through others."""
        waiting, grown = set(switches), True
        while grown:
            found = {
                switch
                for switch in waiting
                if any(node in reached for node in self.graph.graph.predecessors(switch))
            }
            reached, waiting, grown = reached | found, waiting - found, bool(found)
        return set(first_and_last([node for node in switches if node in reached], MOST_INNER))

    def _row(
        self, nodes: Sequence[int], shown: Collection[int], kind: NodeKind, *, apart: bool = True
    ) -> tuple[Mark, ...]:
        """Return marks in order: one ellipsis for each gap, or one for all at the end."""
        shown = set(shown)
        if not apart:
            nodes = sorted(nodes, key=lambda node: node not in shown)
        row: list[Mark] = []
        for is_shown, group in groupby(nodes, shown.__contains__):
            run = list(group)
            row += [self._mark(node, kind) for node in run] if is_shown else [self._more(run, kind)]
        return tuple(row)

    def _mark(self, node: int, kind: NodeKind) -> Mark:
        host = self._host(node) if kind is NodeKind.ACCELERATOR else None
        own = self.graph.graph.nodes[node].get("name")
        label = own or f"{kind} {self.places[node]}"
        self.marks[node] = Mark(key=f"n{node}", kind=kind, label=label, host=host)
        return self.marks[node]

    def _more(self, run: Sequence[int], kind: NodeKind) -> Mark:
        hosts = {self._host(node) for node in run} if kind is NodeKind.ACCELERATOR else set()
        host = hosts.pop() if len(hosts) == 1 else None
        label = f"… {len(run):,} more"
        more = Mark(key=f"more{run[0]}", kind=kind, label=label, hidden=len(run), host=host)
        self.marks.update(dict.fromkeys(run, more))
        return more

    def _other_boxes(self, shown: Sequence[int]) -> Mark:
        hidden = [number for number in range(len(self.domains)) if number not in set(shown)]
        hosts = self._host(self.graph.accelerators - 1) + 1
        noun = "hosts" if len(self.domains) == hosts else "domains"
        label = f"… {len(hidden):,} more {noun}"
        more = Mark(key="more_boxes", kind=None, label=label, hidden=len(hidden))
        for number in hidden:
            for node in self.domains[number]:
                self.marks[node] = more
                self.marks.update(dict.fromkeys(self.cards.get(node, ()), more))
        return more

    def _wires(self) -> Iterator[tuple[Mark, Mark, Link]]:
        seen: set[tuple[frozenset[str], Link]] = set()
        for tail, head, link in self.graph.edges():
            if tail > head or tail not in self.marks or head not in self.marks:
                continue
            a, b = self.marks[tail], self.marks[head]
            pair = frozenset((a.key, b.key)), link
            if a is not b and pair not in seen:
                seen.add(pair)
                yield a, b, link


def _domains(graph: ClusterGraph) -> list[list[int]]:
    """Return the accelerators and inner switches of every box, in order."""
    inner: nx.Graph[int] = nx.Graph()
    inner.add_nodes_from(range(graph.accelerators))
    inner.add_edges_from((a, b) for a, b, link in graph.edges() if a < b and not link.scale_out)
    hosts = [graph.host(i) for i in range(graph.accelerators)]
    pairs = enumerate(pairwise(hosts), start=1)
    inner.add_edges_from((i, i - 1) for i, (before, here) in pairs if here == before)
    return sorted(sorted(part) for part in nx.connected_components(inner))


def _cards(graph: ClusterGraph) -> dict[int, list[int]]:
    """Return the network cards of every accelerator, and of every switch that has some."""
    found: dict[int, list[int]] = {}
    kinds = dict(graph.graph.nodes.data("kind"))
    for node, kind in kinds.items():
        if kind is NodeKind.NIC:
            near = graph.graph.predecessors(node)
            inside = (n for n in near if kinds[n] in (NodeKind.ACCELERATOR, NodeKind.SWITCH))
            owner = min(inside, default=node)
            found.setdefault(owner, []).append(node)
    return found
