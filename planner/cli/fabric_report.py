"""The fabric of a cluster as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from planner.cli.byte_count import format_bytes
from planner.cli.columns import Columns
from planner.cli.report import ecmp_note
from topologies.ecmp import Ecmp
from topologies.units import GB, MICRO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from planner.fabric_rows import FabricRow
    from topologies.fabric_table import FabricTable

#: What a narrow screen leaves out, the first first.
DISPENSABLE = ("sharing", "latency us", "busbw GB/s")
COLUMNS = Columns(names=("reach", "collective", "algorithm"), dispensable=DISPENSABLE)


def content(
    table: FabricTable, profile: str, nbytes: int, rows: Sequence[FabricRow]
) -> dict[str, Any]:
    """Return the answer as documented JSON values."""
    return {
        "cluster": table.cluster.name,
        "accelerators": table.cluster.accelerators,
        "ecmp": str(table.ecmp),
        "ecmp_seed": table.seed if table.ecmp is Ecmp.SEEDED else None,
        "library": table.links.library.name,
        "profile": profile,
        "bytes": nbytes,
        "rows": [row.to_dict() for row in rows],
    }


def show(screen: Console, table: FabricTable, rows: Sequence[FabricRow], nbytes: int) -> None:
    """Print some rows under what cluster they are of."""
    cluster = table.cluster
    device = f"{cluster.accelerators} x {escape(cluster.accelerator.title)}"
    screen.print(f"[bold]{escape(cluster.title)}[/bold]  {device}")
    if cluster.filling:
        screen.print(f"filled evenly: {escape(cluster.filling)}")
    if table.ecmp is not Ecmp.PERFECT:
        screen.print(ecmp_note(cluster, table.ecmp, table.seed))
    screen.print()
    screen.print(_table(rows, nbytes, screen.width))


def _table(rows: Sequence[FabricRow], nbytes: int, width: int) -> Table:
    """Return rows as a table; what a row has from the one above it stays empty."""
    cells, above = [], None
    for row in rows:
        known = above is not None and above.pair == row.pair
        again = known and above is not None and above.collective == row.collective
        cells.append(
            {
                "size": "" if known else f"{row.size}",
                "stride": "" if known else f"{row.stride:,}",
                "reach": "" if known else row.reach,
                "collective": "" if again else row.collective,
                **_figures(row, nbytes),
            }
        )
        above = row
    return COLUMNS.table(cells, width)


def _figures(row: FabricRow, nbytes: int) -> dict[str, str]:
    return {
        "algorithm": f"{row.algorithm}{' *' if row.taken else ''}",
        "latency us": f"{row.latency_s / MICRO:,.1f}",
        "busbw GB/s": f"{row.bus_Bps / GB:,.1f}",
        "sharing": f"{row.sharing:.3g}",
        f"us for {format_bytes(nbytes)}": f"{row.time_s / MICRO:,.1f}",
    }


def footing(screen: Console, table: FabricTable, profile: str, nbytes: int) -> None:
    """Print what the columns mean, and where the other rows are."""
    screen.print(
        f"\n* what {table.links.library.name} takes for {format_bytes(nbytes)}; times with profile "
        f"{escape(profile)}. latency: all hops in turn. busbw: of long messages, as nccl-tests "
        "counts it, while all groups of the axis work. sharing: what one group gets alone over "
        "that. Other axes: --size, --stride; other algorithms: --collective; all: --json."
    )
