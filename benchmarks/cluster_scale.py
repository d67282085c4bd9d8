"""How clusters scale: the graph, the table of what groups get, and a plan per layout.

python -m benchmarks.cluster_scale
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace

from planner.bounds import Bounds
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from topologies.builders import build_graph
from topologies.catalogue import load_cluster
from topologies.fabric_table import FabricTable
from topologies.quotient import quotient

LARGE, SMALL = 131_072, 1_024
TABLED = "h100-dgx:2048"
ROUNDS = 5
GIB = 2.0**30


def main() -> None:
    """Print the three figures; the graph in a process of its own, for its memory."""
    if "--graph" in sys.argv:
        _graph()
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    subprocess.run([sys.executable, "-m", "benchmarks.cluster_scale", "--graph"], check=True)
    _table()
    _plans()


def _graph() -> None:
    cluster = replace(load_cluster("meta-24k"), accelerators=LARGE, max_nodes=None)
    started = time.perf_counter()
    graph = build_graph(cluster)
    levels = quotient(graph)
    taken = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    print(
        f"graph of {LARGE:,} accelerators: {graph.graph.number_of_edges():,} links built and "
        f"compiled to {len(levels)} levels in {taken:.1f} s, {peak:.1f} GiB",
        flush=True,
    )


def _table() -> None:
    cluster = load_cluster(TABLED)
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        table = FabricTable.of(cluster)
        best = min(best, time.perf_counter() - started)
    rows = sum(int(figures.able.sum()) for figures in table.figures)
    of = f"fabric table of {cluster.accelerators:,} accelerators"
    print(f"{of}: {rows:,} rows in {best:.3f} s")


def _plans() -> None:
    """Plan the same model on few and on many accelerators, in turns."""
    jobs = {
        gpus: Scenario.load(
            "llama-3.1-405b", f"h100-dgx:{min(gpus // 8, 2048)}", seq_len=131_072, global_batch=gpus
        )
        for gpus in (SMALL, LARGE)
    }
    jobs[LARGE] = replace(
        jobs[LARGE], cluster=replace(jobs[LARGE].cluster, accelerators=LARGE, max_nodes=None)
    )
    spent = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for gpus, scenario in jobs.items():
            counts = plan_scenario(scenario, Bounds.parse({}), "any", top=10).search
            spent[gpus] = min(spent[gpus], counts.seconds / counts.legal)
    ratio = spent[LARGE] / spent[SMALL]
    print(
        f"plan per layout: {spent[SMALL] * 1e6:.2f} us on {SMALL:,} accelerators, "
        f"{spent[LARGE] * 1e6:.2f} us on {LARGE:,}: {ratio:.2f} times"
    )


if __name__ == "__main__":
    main()
