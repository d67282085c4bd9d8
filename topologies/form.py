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
    if switches or len(accelerators) < 3 or not graph.has_edge(*accelerators[:2]):
        return Form()
    if all(graph.has_edge(accelerators[0], other) for other in accelerators[1:]):
        return Form(is_ring=True)
    dims = _sides(graph, accelerators)
    return Form(dims=dims) if len(dims) > 1 else Form(is_ring=True)


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
