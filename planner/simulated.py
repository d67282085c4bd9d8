"""A layout played on the event clock: what the planner answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.layout import LayoutBatch, strides
from models.simulation.dynamics import Dynamics, sample_steps
from models.simulation.packing import Packing
from models.simulation.record import record
from models.simulation.step import StepSimulation
from topologies.fabric import Fabric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.layout import Layout
    from models.simulation.step import Step
    from models.simulation.timeline import Timeline
    from planner.disturbances import Disturbances
    from planner.plans import Plan
    from planner.scenario import Scenario

    Array = NDArray[np.floating[Any]]

#: Which shares of the drawn steps are shorter than what is reported.
PERCENTILES = (10, 50, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """One step as both clocks see it.

    Parameters
    ----------
    plan
        The analytical clock's estimate, with the mean of the steps drawn beside it.
    step
        The event clock's step, without what is drawn.
    steps_s
        Seconds of every step drawn; one if nothing is.
    timeline
        Everything that happened in `step`.
    disturbances
        What it was disturbed by.
    """

    plan: Plan
    step: Step
    steps_s: Array
    timeline: Timeline
    disturbances: Disturbances

    def percentiles_s(self) -> dict[str, float]:
        """Return what shares of the drawn steps stay below."""
        return {f"p{at}": float(np.percentile(self.steps_s, at)) for at in PERCENTILES}

    def ranks(self) -> list[dict[str, float]]:
        """Return what every pipeline rank does with its time, and the most memory it uses."""
        found = []
        for place, rank in enumerate(self.timeline.ranks):
            sent = self.timeline.overlap_s(place) + self.timeline.exposed_s(place)
            found.append(
                {
                    "rank": rank,
                    "idle_s": float(self.step.idle_s[place]),
                    "bubble_s": float(self.step.bubble_s[place]),
                    "communication_s": sent,
                    "exposed_s": self.timeline.exposed_s(place),
                    "reduction_tail_s": float(self.step.tail_s[place]),
                    "peak_memory_bytes": float(self.timeline.memory[place][1].max()),
                }
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as documented JSON values."""
        return self.plan.to_dict() | {
            "simulated": {
                "step_time_s": self.plan.event_step_s,
                "undisturbed_step_time_s": self.step.step_s,
                "pipeline_s": self.step.pipeline_s,
                "contention": self.disturbances.contention,
                "async_ulysses": self.disturbances.async_ulysses,
                "samples": len(self.steps_s),
                "seed": self.disturbances.seed,
                "percentiles_s": self.percentiles_s(),
                "ranks": self.ranks(),
            }
        }


def simulate_layout(scenario: Scenario, layout: Layout, disturbances: Disturbances) -> Simulated:
    """Return one layout of a scenario on both clocks.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Legal there.
    disturbances
        What goes otherwise than planned.

    Raises
    ------
    SpecError
        If a disturbance or the schedule cannot be.
    """
    disturbances.check(scenario, layout)
    batch = LayoutBatch.of([layout])
    prepared = scenario.prepared(batch)
    simulation = StepSimulation(
        prepared,
        scenario.device,
        scenario.fabric,
        contention=disturbances.contention,
        slower=_slower(scenario, batch, disturbances),
        async_ulysses=disturbances.async_ulysses,
    )
    steps_s = sample_steps(simulation, _dynamics(disturbances))
    return Simulated(
        plan=replace(scenario.evaluate(batch)[0], event_step_s=float(np.mean(steps_s))),
        step=simulation.step(),
        steps_s=steps_s,
        timeline=record(simulation),
        disturbances=disturbances,
    )


def event_step_s(scenario: Scenario, layout: Layout) -> float:
    """Return a layout's step on the event clock, as planned."""
    prepared = scenario.prepared(LayoutBatch.of([layout]))
    return StepSimulation(prepared, scenario.device, scenario.fabric).step().step_s


def _dynamics(disturbances: Disturbances) -> Dynamics:
    packing = None
    if disturbances.packed_tokens is not None:
        packing = Packing(mean_tokens=disturbances.packed_tokens, spread=disturbances.packed_spread)
    return Dynamics(
        samples=disturbances.samples if disturbances.drawn else 1,
        seed=disturbances.seed,
        jitter=disturbances.jitter,
        stragglers=disturbances.stragglers,
        packing=packing,
    )


def _slower(
    scenario: Scenario, batch: LayoutBatch, disturbances: Disturbances
) -> dict[int, Fabric]:
    """Return the links of every pipeline rank that has a slow or crippled node."""
    node, cards = scenario.cluster.accelerators_per_node, scenario.cluster.cards
    left = dict(disturbances.slow_links)
    for rank, failed in disturbances.failed_nics.items():
        left[rank] = left.get(rank, 1.0) * (cards - failed) / cards
    apart, pp = int(strides(batch).pp[0]), int(batch.pp[0])
    share: dict[int, float] = {}
    for rank, factor in left.items():
        for other in _node_of(rank, node):
            place = other // apart % pp
            share[place] = min(share.get(place, 1.0), factor)
    return {
        place: Fabric(scenario.cluster.scale_network(factor), scenario.ecmp, scenario.ecmp_seed)
        for place, factor in share.items()
    }


def _node_of(rank: int, node: int) -> range:
    """Return the ranks that share a rank's node."""
    first = rank - rank % node
    return range(first, first + node)
