"""Layouts costed per second on one core: every figure of the time and the memory of each.

``python -m benchmarks.layouts_per_second`` enumerates the legal space of three large jobs, then
costs all of it (nothing is pruned), and prints the rate of the costing, and with the enumeration.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from models.memory import memory_bill
from models.prepared import Prepared
from models.rates import rates
from models.training import step_time
from planner.bounds import Bounds
from planner.scenario import Scenario
from planner.space import Space

JOBS = (
    ("llama-3.1-405b", "h100-dgx:2048", 131_072, 128),
    ("gpt3-175b", "a100-dgx:128", 2_048, 1_536),
    ("deepseek-v3", "h800-hgx:16", 4_096, 960),
)
ROUNDS = 3
#: Full recomputation of the fewest layers is solved for by the search; here all layers count.
WHOLE_LAYERS = {"recompute_layers": 0}


def main() -> None:
    """Cost all jobs and print the best round of each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for model, cluster, seq_len, global_batch in JOBS:
        scenario = Scenario.load(model, cluster, seq_len=seq_len, global_batch=global_batch)
        runs = [_run(scenario) for _ in range(ROUNDS)]
        layouts = runs[0][0]
        listing = min(run[1] for run in runs)
        costing = min(run[2] for run in runs)
        print(
            f"{model} on {scenario.cluster.accelerators} {scenario.cluster.accelerator.name}: "
            f"{layouts:,} layouts, costed at {layouts / costing:,.0f} per second and core "
            f"({layouts / (costing + listing):,.0f} with their enumeration)"
        )


def _run(scenario: Scenario) -> tuple[int, float, float]:
    """Return layouts, and seconds to enumerate and to cost them."""
    started = time.perf_counter()
    batches = list(Space(scenario.job, Bounds.parse(WHOLE_LAYERS), "any").batches())
    listed = time.perf_counter()
    for batch in batches:
        domain = scenario.cluster.fast_domain
        prepared = Prepared.of(scenario.architecture, scenario.workload, batch, domain)
        bill = memory_bill(prepared, scenario.device.profile)
        step = step_time(prepared, scenario.device, scenario.fabric)
        rates(prepared, step.total, scenario.device)
        if not (bill.total > 0).all():
            sys.exit("a layout without memory")
    return sum(map(len, batches)), listed - started, time.perf_counter() - listed


if __name__ == "__main__":
    main()
