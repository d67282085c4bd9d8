"""A cluster's graph in Graphviz' language."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from topologies.fold import Box, Mark, fold
from topologies.graph import NodeKind
from topologies.palette import COLOURS
from topologies.text import clean, rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from topologies.graph import ClusterGraph, Link

_SHAPES = {NodeKind.ACCELERATOR: "square", NodeKind.NIC: "component", NodeKind.SWITCH: "box3d"}


def to_dot(graph: ClusterGraph) -> str:
    """Return the cluster as an undirected graph in DOT, large clusters folded.

    Examples
    --------
    >>> from topologies import load_cluster
    >>> from topologies.builders import build_graph
    >>> print(to_dot(build_graph(load_cluster("h100-dgx"))).splitlines()[0])
    graph "h100-dgx" {
    """
    picture = fold(graph)
    colours = {link: COLOURS[at % len(COLOURS)] for at, link in enumerate(graph.links())}
    lines = [f"graph {_quoted(graph.name)} {{"]
    lines += ["  rankdir=BT; compound=true;", '  node [shape=box, fontname="sans-serif"];']
    lines += ['  edge [fontname="sans-serif", fontsize=9];']
    for layer in picture.layers.values():
        inside = " ".join(f"{_node(mark)};" for mark in layer)
        lines.append(f"  {{ rank=same; {inside} }}")
    for place, box in enumerate(picture.boxes):
        lines += [f"  {line}" for line in _box(place, box)]
    lines += [f"  {_edge(a, b, link, colours[link])}" for a, b, link in picture.wires]
    return "\n".join([*lines, "}"]) + "\n"


def _box(place: int, box: Box | Mark) -> Iterator[str]:
    if isinstance(box, Mark):
        yield f"{_node(box)};"
        return
    inside: list[str] = []
    for host, group in groupby(box.accelerators, lambda mark: mark.host):
        members = [f"{_node(mark)};" for mark in group]
        if box.hosts and host is not None:
            # Subgraphs of one name are one subgraph: a host's row may be cut in a grid.
            members = list(_cluster(f"cluster_{place}_{host}", f"host {host}", members))
        inside += members
    inside += [f"{_node(mark)};" for mark in (*box.cards, *box.switches)]
    yield from _cluster(f"cluster_{place}", box.label, inside)


def _cluster(name: str, label: str, inside: Iterable[str]) -> Iterator[str]:
    yield f"subgraph {name} {{"
    yield f"  label={_quoted(label)}; style=rounded;"
    yield from (f"  {line}" for line in inside)
    yield "}"


def _node(mark: Mark) -> str:
    if mark.hidden:
        noun = f" {mark.kind}s" if mark.kind is not None else ""
        return f"{mark.key} [label={_quoted(mark.label + noun)}, shape=plaintext]"
    shape = _SHAPES.get(mark.kind, "box") if mark.kind is not None else "box"
    return f"{mark.key} [label={_quoted(mark.label)}, shape={shape}]"


def _edge(a: Mark, b: Mark, link: Link, colour: str) -> str:
    style = ", style=dashed" if a.hidden or b.hidden else ""
    label = _quoted(rate(link))
    tip = _quoted(link.name)
    return f'{a.key} -- {b.key} [label={label}, tooltip={tip}, color="{colour}"{style}];'


def _quoted(text: str) -> str:
    escaped = clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
