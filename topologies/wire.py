"""Paths of links between marks that have their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from topologies.fold import Box, Mark
from topologies.graph import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.fold import Picture
    from topologies.graph import Link
    from topologies.place import Page, Spot


class Wire(NamedTuple):
    """A piece of an SVG path, the class of its link, and whether it stands for several."""

    path: str
    link: Link
    folded: bool


def wires(picture: Picture, page: Page) -> Iterator[Wire]:
    """Yield every link to draw, and in grids what stands for links to chips not drawn."""
    boxes = [box for box in picture.boxes if isinstance(box, Box)]
    grids = {mark.key: box for box in boxes if box.form.is_grid for mark in box.accelerators}
    rings = {mark.key for box in boxes if box.form.is_ring for mark in box.accelerators}
    direct: dict[str, Link] = {}
    joined: set[tuple[str, str]] = set()
    for a, b, link in picture.wires:
        one, other = page.spots[a.key], page.spots[b.key]
        folded = bool(a.hidden or b.hidden)
        if a.kind is not NodeKind.ACCELERATOR or b.kind is not NodeKind.ACCELERATOR:
            if not (a.key in grids and folded):
                yield Wire(_between(a, one, b, other), link, folded)
        elif a.key in rings:
            yield Wire(_straight(one, other), link, folded)
        elif a.key not in grids:
            yield Wire(_along_row(one, other), link, folded)
        elif not folded:
            direct[grids[a.key].label] = link
            joined.add((a.key, b.key))
            yield Wire(_in_grid(grids[a.key], a, one, b, other), link, folded=False)
    for box in boxes:
        if box.label in direct:
            yield from _grid_extras(box, page, direct[box.label], joined)


def _between(a: Mark, one: Spot, b: Mark, other: Spot) -> str:
    """Return a line between rows, to a switch straight up or down, or along one row."""
    if abs(one.y - other.y) < 1:
        return _along_row(one, other)
    if a.kind is NodeKind.SWITCH and (b.kind is not NodeKind.SWITCH or one.y > other.y):
        a, one, b, other = b, other, a, one
    x1, x2 = one.x, other.x
    if b.kind is NodeKind.SWITCH:
        x2 = min(max(x1, other.left + 3), other.right - 3)
    upper, lower = ((x1, one), (x2, other)) if one.y < other.y else ((x2, other), (x1, one))
    return f"M{upper[0]:.1f} {upper[1].bottom:.1f}L{lower[0]:.1f} {lower[1].top:.1f}"


def _straight(one: Spot, other: Spot) -> str:
    return f"M{one.x:.1f} {one.y:.1f}L{other.x:.1f} {other.y:.1f}"


def _along_row(one: Spot, other: Spot) -> str:
    """Return a line to a neighbour in a row, or an arc over what lies between."""
    left, right = (one, other) if one.x < other.x else (other, one)
    if right.left - left.right < left.w:
        return _straight(one, other)
    lift = 8 + 22 * min((right.x - left.x) / 800, 1)
    return _arc(left.x, left.top, right.x, right.top, 0.0, -lift)


def _arc(x1: float, y1: float, x2: float, y2: float, across: float, down: float) -> str:
    return (
        f"M{x1:.1f} {y1:.1f}C{x1 + across:.1f} {y1 + down:.1f} "
        f"{x2 + across:.1f} {y2 + down:.1f} {x2:.1f} {y2:.1f}"
    )


def _in_grid(box: Box, a: Mark, one: Spot, b: Mark, other: Spot) -> str:
    """Return a line to a neighbour in a grid, or an arc round to the other end."""
    if abs(box.accelerators.index(a) - box.accelerators.index(b)) in (1, box.columns):
        return _straight(one, other)
    if abs(one.y - other.y) < 1:
        return _arc(one.x, one.y, other.x, other.y, 0.0, -1.15 * one.h)
    return _arc(one.x, one.y, other.x, other.y, -1.15 * one.w, 0.0)


def _grid_extras(box: Box, page: Page, link: Link, joined: set[tuple[str, str]]) -> Iterator[Wire]:
    """Yield dashes across the gaps of a folded grid, and stubs along dimensions not drawn."""
    shown = [mark for mark in box.accelerators if not mark.hidden]
    for at, mark in enumerate(shown):
        spot = page.spots[mark.key]
        nexts = [at + box.columns] if (at + 1) % box.columns == 0 else [at + 1, at + box.columns]
        for other in nexts:
            if other < len(shown) and (mark.key, shown[other].key) not in joined:
                yield Wire(_straight(spot, page.spots[shown[other].key]), link, folded=True)
        if len(box.form.dims) > 2:
            x, y = spot.right + 0.3 * spot.w, spot.top - 0.3 * spot.h
            yield Wire(f"M{spot.x:.1f} {spot.y:.1f}L{x:.1f} {y:.1f}", link, folded=False)
