"""Rows of text as people read them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.plans import Plan


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length, each column as wide as its widest cell, and an empty line."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print()


#: What :func:`cells` gives of a plan.
HEAD = ("step", "p10-p90", "tokens/s/GPU", "MFU", "compute", "tp", "cp", "ep", "bubble", "GiB")


def cells(plan: Plan) -> list[str]:
    """Return a plan's step, what goes into it as shares of the step, and its fullest rank."""
    low, high = plan.interval_s
    busy = plan.time_s["compute"] + plan.time_s["recompute"]
    shares = [busy, *(plan.time_s[part] for part in ("tp", "cp", "ep", "bubble"))]
    return [
        f"{plan.step_time_s:.3g} s",
        f"{low:.3g}-{high:.3g}",
        f"{plan.tokens_per_s_per_gpu:,.0f}",
        f"{plan.mfu:.0%}",
        *(f"{share / plan.step_time_s:.0%}" for share in shares),
        f"{plan.memory_total_bytes / 2**30:.0f}{'' if plan.fits else ' !'}",
    ]
