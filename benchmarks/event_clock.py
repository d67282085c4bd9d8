"""How fast the event clock is: a step on 16,384 accelerators, and its engines beside SimPy.

python -m benchmarks.event_clock
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import simpy

from models.layout import Layout, LayoutBatch
from models.named_axes import Schedule, StageSplit
from models.prepared import Prepared
from models.simulation import reference
from models.simulation.dynamics import Dynamics, sample_steps
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled
from models.simulation.step import StepSimulation
from planner.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

#: 126 layers over 16 stages, 1,024 sequences over 8 replicas: 128 micro-batches.
LAYOUT = Layout(
    tp=8, ring=16, pp=16, dp=8, tp_sp=True, stage_split=StageSplit.BALANCED, micro_batch=1, zero=1
)
SEQ_LEN, GLOBAL_BATCH = 131_072, 1_024
SAMPLES, JITTER, SEED = 256, 0.05, 0
ROUNDS = 30
#: A 1F1B step of as many ranks and micro-batches, with any hop that is shorter than a pass.
RANKS, MICRO_BATCHES, HOP_S = 16, 128, 0.01
GIB = 2.0**30


def main() -> None:
    """Print the figures; each step in a process of its own, for its memory."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if "--step" in sys.argv:
        _step(contention="--contention" in sys.argv)
        return
    for flags in (["--step"], ["--step", "--contention"]):
        subprocess.run([sys.executable, "-m", "benchmarks.event_clock", *flags], check=True)
    _engines()


def _step(*, contention: bool) -> None:
    scenario = Scenario.load(
        "llama-3.1-405b", "h100-dgx:2048", seq_len=SEQ_LEN, global_batch=GLOBAL_BATCH
    )
    prepared = Prepared.of(scenario.architecture, scenario.workload, LayoutBatch.of([LAYOUT]))
    fabric = scenario.fabric  # made once for all layouts of a cluster

    def simulation() -> StepSimulation:
        return StepSimulation(prepared, scenario.device, fabric, contention=contention)

    (build_s,) = _best(simulation)
    built = simulation()
    (play_s,) = _best(built.step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    sharing = "sharing links" if contention else "links to itself"
    print(
        f"405B step on {LAYOUT.gpus:,} accelerators, {built.micro_batches} micro-batches, {sharing}"
        f": {build_s:.3f} s to build, {play_s:.3f} s to play, {peak:.2f} GiB",
        flush=True,
    )
    if not contention:
        _samples(built)


def _samples(simulation: StepSimulation) -> None:
    generator = np.random.default_rng(SEED)
    passes = len(simulation.runs), SAMPLES
    seconds = simulation.seconds[:, None] * generator.lognormal(0.0, JITTER, passes)
    dynamics = Dynamics(samples=SAMPLES, seed=SEED, jitter=JITTER)
    columns_s, draw_s = _best(
        lambda: simulation.times(seconds), lambda: sample_steps(simulation, dynamics), rounds=2
    )
    print(
        f"{SAMPLES} jittered columns of {passes[0]:,} passes in {columns_s:.3f} s; as many steps "
        f"of all {LAYOUT.dp} replicas drawn and timed in {draw_s:.3f} s",
        flush=True,
    )


def _engines() -> None:
    """Time one 1F1B step on both engines, and bare SimPy on as many events, in turns."""
    compiled = Compiled.of(*ordered(Schedule.ONE_F_ONE_B, RANKS, MICRO_BATCHES))
    many = len(compiled.runs)
    seconds = np.random.default_rng(SEED).lognormal(0.0, JITTER, many)

    def simulated() -> object:
        return reference.times(compiled, seconds, HOP_S)

    events = _events(simulated)
    spent = _rounds(
        lambda: compiled.times(seconds, HOP_S), simulated, lambda: _bare(2 * RANKS, events)
    )
    walk_s, simulated_s, bare_s = spent.min(axis=0)
    # Each round's own ratio: what slows the machine down for a while slows both.
    walked = np.median(spent[:, 1] / spent[:, 0])
    reached = np.median(spent[:, 2] / spent[:, 1])
    print(
        f"1F1B step of {many:,} passes: {walk_s * 1e3:.2f} ms walked, {simulated_s * 1e3:.1f} ms "
        f"on SimPy: {walked:.1f} times"
    )
    print(
        f"SimPy: {events / simulated_s / 1e6:.2f} M of its {events:,} events per second, "
        f"{events / bare_s / 1e6:.2f} M of bare timeouts: {reached:.2f} of them"
    )


def _events(simulated: Callable[[], object]) -> int:
    """Return how many events SimPy works off."""
    count = 0
    once = simpy.Environment.step

    def counted(env: simpy.Environment) -> None:
        nonlocal count
        count += 1
        once(env)

    with mock.patch.object(simpy.Environment, "step", counted):
        simulated()
    return count


def _bare(processes: int, events: int) -> None:
    """Run as many events of processes that only let time pass."""
    env = simpy.Environment()

    def idle() -> Generator[simpy.Event, Any, None]:
        for _ in range(events // processes):
            yield env.timeout(1.0)

    for _ in range(processes):
        env.process(idle())
    env.run()


def _best(*jobs: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return the shortest time of each job, all run in turns."""
    return list(map(float, _rounds(*jobs, rounds=rounds).min(axis=0)))


def _rounds(*jobs: Callable[[], object], rounds: int = ROUNDS) -> NDArray[np.floating[Any]]:
    """Return the time of each job in each round, shape ``[rounds, jobs]``."""
    spent = np.zeros((rounds, len(jobs)))
    for turn in range(rounds):
        for at, job in enumerate(jobs):
            started = time.perf_counter()
            job()
            spent[turn, at] = time.perf_counter() - started
    return spent


if __name__ == "__main__":
    main()
