"""What accelerators of one box look like together: a row at a switch, a ring, a grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx


@dataclass(frozen=True, slots=True)
class Form:
    """How the accelerators of a box are joined.

    Parameters
    ----------
    is_ring
        By direct links that are best drawn as chords: a mesh, or a torus of one dimension.
    dims
        Sides of a torus of two dimensions or more; its last dimension varies fastest.
    """

    is_ring: bool = False
    dims: tuple[int, ...] = ()

    @property
    def is_grid(self) -> bool:
        """Whether it is drawn as a grid."""
        return len(self.dims) > 1


def find_form(graph: nx.DiGraph[int], accelerators: Sequence[int], switches: Sequence[int]) -> Form:
    """Return the form of one box, read off its links.

    Parameters
    ----------
    graph
        Links of the cluster.
    accelerators, switches
        Nodes of the box.
    """
    places = {node: place for place, node in enumerate(accelerators)}
    joined = any(head in places for node in accelerators for head in graph[node])
    if switches or len(accelerators) < 3 or not joined:
        return Form()
    if all(graph.has_edge(accelerators[0], other) for other in accelerators[1:]):
        return Form(is_ring=True)
    dims = _sides(graph, accelerators)
    if len(dims) > 1 and prod(dims) == len(accelerators) and _is_torus(graph, places, dims):
        return Form(dims=dims)
    return Form(is_ring=True)


def _is_torus(graph: nx.DiGraph[int], places: dict[int, int], dims: Sequence[int]) -> bool:
    """Return whether all links of a box join neighbours along one side, or its two ends."""
    steps = [prod(dims[axis + 1 :]) for axis in range(len(dims))]
    for node, place in places.items():
        for other in (places[head] for head in graph[node] if head in places):
            apart = [
                (abs(place // step % side - other // step % side), side)
                for step, side in zip(steps, dims, strict=True)
            ]
            moved = [(far, side) for far, side in apart if far]
            if len(moved) != 1 or moved[0][0] not in (1, moved[0][1] - 1):
                return False
    return True


def _sides(graph: nx.DiGraph[int], nodes: Sequence[int]) -> tuple[int, ...]:
    """Walk from the first accelerator along each dimension, the fastest one first."""
    sides: list[int] = []
    step = 1
    while step < len(nodes):
        side = 1
        while side * step < len(nodes) and graph.has_edge(
            nodes[(side - 1) * step], nodes[side * step]
        ):
            side += 1
        if side == 1:
            return ()
        sides.append(side)
        step = prod(sides)
    return tuple(reversed(sides))
