"""Published pipeline schedules, and a schedule run pass by pass."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.named_axes import Schedule

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FILE = Path(__file__).parents[1] / "data" / "pipeline_schedules.csv"
NAMES = {
    "GPipe": Schedule.GPIPE,
    "1F1B(sail)": Schedule.ONE_F_ONE_B,
    "LoopedBFS": Schedule.LOOPED_BFS,
    "Interleaved1F1B": Schedule.INTERLEAVED,
    "VPP2(sail, Megatron interleaved)": Schedule.INTERLEAVED,
    "InterleavedZeroBubble(ZB1P)": Schedule.ZB_H1,
    "ZB1P(sail)": Schedule.ZB_H1,
    "ZB2P(sail)": Schedule.ZB_H2,
    "ZBV": Schedule.ZB_V,
    "ZBV(sail)": Schedule.ZB_V,
    "DualPipeV": Schedule.DUALPIPE_V,
}


@dataclass(frozen=True)
class Row:
    """One schedule as its authors' generator orders it."""

    schedule: Schedule
    pp: int
    micro_batches: int
    vp: int
    makespan: float
    bubble: float
    in_flight: float

    def __str__(self) -> str:
        return f"{self.schedule.label}-p{self.pp}-m{self.micro_batches}-v{self.vp}"


def published(names: Collection[str], *, even: bool) -> list[dict[str, str]]:
    """Return the published rows of some schedules: those whose passes take as long, or the rest."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        found = [row for row in csv.DictReader(stream) if row["schedule"] in names]
    return [row for row in found if (row["F"] == row["I"] == row["W"]) == even]


def rows() -> list[Row]:
    """Return the published schedules that the closed form knows."""
    return [
        Row(
            schedule=NAMES[row["schedule"]],
            pp=int(row["pp"]),
            micro_batches=int(row["microbatches"]),
            vp=int(row["virtual_stages"]),
            makespan=float(row["makespan"]),
            bubble=float(row["bubble_time"]),
            in_flight=float(row["peak_activations_in_units_of_one_full_rank_microbatch"]),
        )
        for row in published(NAMES, even=True)
    ]


def one_f_one_b_makespan(
    forward: Sequence[float], backward: Sequence[float], micro_batches: int
) -> float:
    """Return when the last pass of 1F1B ends, every pass starting as early as it can.

    Rank ``r`` of ``p`` warms up with ``min(p - r - 1, m)`` forward passes, alternates, and cools
    down with backward passes (Narayanan et al., arXiv:2104.04473 figure 4).
    """
    ranks, ends = len(forward), {}
    orders = [_order(ranks - rank - 1, micro_batches) for rank in range(ranks)]
    free, done = [0.0] * ranks, [0] * ranks
    while any(done[rank] < len(orders[rank]) for rank in range(ranks)):
        for rank in range(ranks):
            while done[rank] < len(orders[rank]):
                kind, many = orders[rank][done[rank]]
                needs = _needs(kind, rank, many, ranks)
                if needs is not None and needs not in ends:
                    break
                start = max(free[rank], ends[needs] if needs is not None else 0.0)
                free[rank] = start + (forward if kind == "F" else backward)[rank]
                ends[kind, rank, many] = free[rank]
                done[rank] += 1
    return max(free)


def _order(warm_up: int, micro_batches: int) -> list[tuple[str, int]]:
    warm_up = min(warm_up, micro_batches)
    order = [("F", i) for i in range(warm_up)]
    for i in range(micro_batches - warm_up):
        order += [("F", warm_up + i), ("B", i)]
    return order + [("B", i) for i in range(micro_batches - warm_up, micro_batches)]


def _needs(kind: str, rank: int, many: int, ranks: int) -> tuple[str, int, int] | None:
    if kind == "F":
        return ("F", rank - 1, many) if rank else None
    return ("B", rank + 1, many) if rank < ranks - 1 else ("F", rank, many)
