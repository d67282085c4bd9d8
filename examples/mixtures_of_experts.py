"""Mixtures of experts on 256 H100: where experts go, and what it costs to bring them their tokens.

The best layout of each way of dispatch, and what a stated skew of the routing makes of it: the
busiest rank holds up all others. Taken is what is possible, whatever framework has it.

    python -m examples.mixtures_of_experts
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from examples.published import like
from examples.table import HEAD, cells, print_table
from models.layout import LayoutBatch
from models.named_axes import Dispatch
from models.routing import Routing
from planner.bounds import Bounds
from planner.layout_words import details
from planner.ranking import plan_scenario
from planner.scenario import Scenario

CLUSTER = "h100-dgx:32"
#: Exponents of the power law by which experts are wanted.
SKEWS = (0.0, 0.2, 0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model with the size of its step, and what of the space is left out to be quick."""

    model: str
    seq_len: int
    global_batch: int
    pins: dict[str, object]


JOBS = (
    Job(
        model="mixtral-8x22b",
        seq_len=8_192,
        global_batch=1_024,
        pins={"cp": 1, "tp": "1..8", "pp": "2..16", "recompute": "none,selective"},
    ),
    Job(
        model="qwen3-235b-a22b",
        seq_len=4_096,
        global_batch=2_048,
        pins={"cp": 1, "tp": "1..4", "pp": "4..16", "recompute": "none,selective"},
    ),
    Job(
        model="llama-4-scout",
        seq_len=8_192,
        global_batch=1_024,
        pins={"cp": 1, "tp": "1..4", "pp": "2..8", "recompute": "none,selective"},
    ),
)


def rows_of(job: Job) -> list[list[str]]:
    """Return the best layout of each way of dispatch, then the best of all under skew."""
    scenario = Scenario.load(job.model, CLUSTER, seq_len=job.seq_len, global_batch=job.global_batch)
    found = []
    for way in Dispatch:
        pins = {**job.pins, "ep": "2..1024", "dispatch": way.label, "zero": 1}
        best = plan_scenario(scenario, Bounds.parse(pins), "unrestricted", top=1).best
        if best is None:
            raise SystemExit(f"{job.model} does not fit with {way.label}")
        found.append((way.label, best))
    rows = [[name, f"{p.layout} {details(p.layout)}", *cells(p)] for name, p in found]
    _, best = min(found, key=lambda pair: pair[1].step_time_s)
    for skew in SKEWS[1:]:
        workload = replace(scenario.workload, routing=Routing(skew))
        skewed = replace(scenario, workload=workload)
        (plan,) = skewed.evaluate(LayoutBatch.of([best.layout]))
        rows.append([f"skew {skew:g}", "the fastest of these", *cells(plan)])
    return rows


def main() -> None:
    """Print a table for each model, and published runs of it."""
    for job in JOBS:
        print(
            f"{job.model}, {job.seq_len} tokens x {job.global_batch} sequences on {CLUSTER} "
            f"(pinned: {', '.join(f'{axis} {value}' for axis, value in job.pins.items())})"
        )
        print_table([["dispatch", "best layout", *HEAD], *rows_of(job)])
        for sentence in like(job.model):
            print(sentence)
        print()


if __name__ == "__main__":
    main()
