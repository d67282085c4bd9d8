"""How long a device waits for the host to start its kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.layout import LayoutBatch

if TYPE_CHECKING:
    from planner.plans import Plan
    from planner.scenario import Scenario

#: Parts of a step in which kernels run, or wait for the host.
KERNEL_PARTS = ("compute", "recompute")
#: Shares of a step below this are not worth a word.
LEAST_SHARE = 0.05


def host_wait_s(scenario: Scenario, plan: Plan) -> float:
    """Return what of a plan's compute and recomputation is waiting for the host.

    That is what they take beyond the same layout with a host that starts kernels in no time.
    """
    profile = scenario.device.profile
    idle = replace(profile, host_launch_s=replace(profile.host_launch_s, value=0.0))
    (free,) = replace(scenario, profile=idle).evaluate(LayoutBatch.of([plan.layout]))
    return sum(plan.time_s[part] - free.time_s[part] for part in KERNEL_PARTS)


def host_wait(scenario: Scenario, plan: Plan) -> str:
    """Return a sentence on it; empty where it is little."""
    share = host_wait_s(scenario, plan) / plan.step_time_s
    if share < LEAST_SHARE:
        return ""
    return (
        f"{share:.0%} of the step, counted as compute, is waiting for the host to start kernels: "
        "larger micro-batches or CUDA graphs (--software cuda-graphs) would fill the device."
    )
