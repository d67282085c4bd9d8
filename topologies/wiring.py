"""Which nodes the links of a file join, and what is wrong with that."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from itertools import combinations, product
from typing import TYPE_CHECKING, Literal, NamedTuple

import networkx as nx

from topologies.errors import Problem
from topologies.graph import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Pairing = Literal["all", "zip", "ring", "mesh"]
Pair = tuple[str, str]

#: Accelerators, and cables, that a file may give one by one.
MOST_ACCELERATORS, MOST_CABLES = 1024, 200_000
#: Names that a misspelt one is compared with.
MOST_COMPARED = 2000
#: Kinds of nodes that a cable may join.
_PATHS = {
    frozenset(pair)
    for pair in (
        (NodeKind.ACCELERATOR, NodeKind.ACCELERATOR),
        (NodeKind.ACCELERATOR, NodeKind.SWITCH),
        (NodeKind.SWITCH, NodeKind.SWITCH),
        (NodeKind.ACCELERATOR, NodeKind.NIC),
        (NodeKind.SWITCH, NodeKind.NIC),
        (NodeKind.NIC, NodeKind.LEAF),
        (NodeKind.NIC, NodeKind.SPINE),
        (NodeKind.LEAF, NodeKind.LEAF),
        (NodeKind.LEAF, NodeKind.SPINE),
        (NodeKind.SPINE, NodeKind.SPINE),
        (NodeKind.SPINE, NodeKind.CORE),
        (NodeKind.CORE, NodeKind.CORE),
    )
}
_MENDS = {
    NodeKind.ACCELERATOR: "join accelerators to accelerators, switches or network cards",
    NodeKind.SWITCH: "join switches to accelerators, switches or network cards",
    NodeKind.NIC: "join network cards to leaves or spines",
    NodeKind.LEAF: "join leaves to network cards, leaves or spines",
}


class Cable(NamedTuple):
    """One cable of a file: its ends, and the position of its link in the file."""

    tail: str
    head: str
    link: int


def pair_up(groups: Sequence[Sequence[str]], pairing: Pairing) -> tuple[Iterable[Pair], int, str]:
    """Return the pairs of one entry of ``between``, how many, and what is wrong with the entry.

    Parameters
    ----------
    groups
        Two lists of names for ``all`` and ``zip``; for ``ring`` and ``mesh`` one, in pieces.
    pairing
        Every left with every right, one to one, round a ring, or every two.

    Examples
    --------
    >>> list(pair_up([["a", "b", "c"]], "ring")[0])
    [('a', 'b'), ('b', 'c'), ('c', 'a')]
    """
    if pairing in ("ring", "mesh"):
        names = [name for group in groups for name in group]
        if len(names) < 2:
            return [], 0, f"a {pairing} has at least two nodes"
        if pairing == "mesh":
            return combinations(names, 2), len(names) * (len(names) - 1) // 2, ""
        ring = list(zip(names, names[1:] + names[:1], strict=True))
        return ring[: len(names) if len(names) > 2 else 1], len(names), ""
    if len(groups) != 2:
        return [], 0, "two sides: [left, right], each a name or a list of names"
    left, right = groups
    if pairing == "all":
        return product(left, right), len(left) * len(right), ""
    if len(left) != len(right):
        return [], 0, f"one to one needs equal counts, not {len(left)} and {len(right)}"
    return zip(left, right, strict=True), len(left), ""


def stranger(field: str, names: Sequence[str], known: Mapping[str, NodeKind]) -> list[Problem]:
    """Return the problem of names that no node has: one for all of an entry."""
    unknown = [name for name in names if name not in known]
    if not unknown:
        return []
    near = get_close_matches(unknown[0], list(known)[:MOST_COMPARED], n=2)
    verb = "is" if len(unknown) == 1 else "are"
    hint = f"; did you mean {' or '.join(near)}?" if near else ": name every node there first"
    return [Problem(field, _some(unknown), f"{verb} not among nodes{hint}")]


def cable_problems(
    cables: Sequence[Cable], kinds: Mapping[str, NodeKind], links: Sequence[str]
) -> Iterator[Problem]:
    """Yield what is wrong with single cables: one problem for all of a link that share it.

    Parameters
    ----------
    cables
        All cables of the file.
    kinds
        Of every node.
    links
        Names of the link classes, in the order of the file.
    """
    found: dict[tuple[int, str], list[str]] = {}
    first: dict[frozenset[str], int] = {}
    for tail, head, link in cables:
        pair = f"{tail}-{head}"
        ends = frozenset((tail, head))
        if tail == head:
            found.setdefault((link, "a link joins two different nodes"), []).append(pair)
            continue
        mend = _path_problem(kinds[tail], kinds[head])
        if mend:
            shown = f"{tail} ({kinds[tail]}) - {head} ({kinds[head]})"
            found.setdefault((link, mend), []).append(shown)
        if ends in first:
            mend = _twice_problem(link, first[ends], links)
            found.setdefault((link, mend), []).append(pair)
        first[ends] = link
    for (link, mend), pairs in sorted(found.items()):
        yield Problem(f"links.{link}.between", _some(pairs), mend)


def _twice_problem(link: int, before: int, links: Sequence[str]) -> str:
    if link == before:
        return "joined twice by this link: both directions of a cable count once"
    return f"joined by {links[before]} already: give a pair one link, with the sum of the rates"


def _path_problem(one: NodeKind, other: NodeKind) -> str:
    if frozenset((one, other)) in _PATHS:
        return ""
    inner = min(one, other, key=list(NodeKind).index)
    return f"no such path exists: {_MENDS.get(inner, 'join spines and cores to each other')}"


def part_problems(cables: Iterable[Cable], kinds: Mapping[str, NodeKind]) -> Iterator[Problem]:
    """Yield what is wrong with the whole: unused nodes, separate parts, switches out of reach."""
    graph: nx.Graph[str] = nx.Graph()
    graph.add_edges_from((tail, head) for tail, head, _ in cables)
    unused = [name for name in kinds if name not in graph]
    for kind, names in _by_kind(unused, kinds):
        yield Problem(f"nodes.{kind}", _some(names), "no link joins it: add one, or leave it out")
    place = {name: at for at, name in enumerate(kinds)}  # accelerators come first
    samples = sorted(
        (min(part, key=place.__getitem__) for part in nx.connected_components(graph)),
        key=place.__getitem__,
    )
    for sample in samples[1:2]:
        more = f" ({len(samples)} separate parts)" if len(samples) > 2 else ""
        mend = f"no path of links leads from one to the other{more}: join them"
        yield Problem("links", f"{samples[0]} and {sample}", mend)
    fast = graph.subgraph(n for n in graph if kinds[n] in (NodeKind.ACCELERATOR, NodeKind.SWITCH))
    lost = [
        name
        for part in nx.connected_components(fast)
        if not any(kinds[name] is NodeKind.ACCELERATOR for name in part)
        for name in part
    ]
    if lost:
        mend = "a switch lies inside the fast domain: join it to an accelerator or another switch"
        yield Problem("nodes.switch", _some(sorted(lost)), mend)


def _by_kind(
    names: Iterable[str], kinds: Mapping[str, NodeKind]
) -> Iterator[tuple[NodeKind, list[str]]]:
    names = list(names)
    for kind in NodeKind:
        of_kind = [name for name in names if kinds[name] is kind]
        if of_kind:
            yield kind, of_kind


def twice(names: Iterable[str]) -> list[str]:
    """Return names that are there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
