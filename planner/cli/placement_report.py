"""Where ranks sit: as a sentence, as a table with the first nodes, as CSV."""

from __future__ import annotations

import csv
import io
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from planner.placement import PlacedAxis, Placement

#: Nodes whose ranks are shown.
SHOWN_NODES = 2


def sentence(placement: Placement, whose: str) -> str:
    """Return on which links each axis of a layout lies; nothing for a single accelerator."""
    shown = (*placement.axes, *placement.experts)
    groups = groupby(shown, key=lambda axis: (axis.reach, axis.scale_out))
    parts = [_together(list(axes)) for _, axes in groups]
    return f"Placement of {whose} (innermost first): {'; '.join(parts)}." if parts else ""


def _together(axes: list[PlacedAxis]) -> str:
    *before, last = [f"{axis.name} {axis.size}" for axis in axes]
    names = f"{', '.join(before)} and {last}" if before else last
    return f"{names} {'across' if axes[0].scale_out else 'inside'} {axes[0].reach}"


def show(screen: Console, placement: Placement) -> None:
    """Print every axis with its reach, and the ranks of the first nodes."""
    if not placement.axes:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("where ranks sit")
    for name in ("size", "stride"):
        table.add_column(name, justify="right")
    table.add_column("reach")
    for axis in (*placement.axes, *placement.experts):
        table.add_row(axis.name, f"{axis.size}", f"{axis.stride:,}", escape(axis.reach))
    screen.print(table)
    for line in first_nodes(placement):
        screen.print(line)
    screen.print()


def first_nodes(placement: Placement) -> list[str]:
    """Return the ranks of the first nodes, a line each, outermost axis first."""
    size, end = placement.accelerators_per_node, placement.accelerators
    starts = range(0, end, size)[:SHOWN_NODES]
    return [
        f"node {placement.node(start)}: "
        + " + ".join(_written(b) for b in placement.blocks(range(start, min(start + size, end))))
        for start in starts
    ]


def _written(block: dict[str, range]) -> str:
    return " ".join(
        f"{axis}{places[0]}" + (f"..{places[-1]}" if len(places) > 1 else "")
        for axis, places in reversed(block.items())
    )


def csv_text(placement: Placement) -> str:
    """Return the whole map as CSV: one row for each rank."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = placement.ranks()
    columns |= {
        axis.name: np.arange(placement.accelerators, dtype=np.int32) // axis.stride % axis.size
        for axis in placement.experts
    }
    writer.writerow(["rank", "node", "place", *columns])
    numbers = range(placement.accelerators)
    coordinates = (column.tolist() for column in columns.values())
    for rank, *places in zip(numbers, *coordinates, strict=True):
        writer.writerow([rank, *divmod(rank, placement.accelerators_per_node), *places])
    return stream.getvalue()
