"""Runs that keep what some layers save in host memory until their backward passes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from planner.plans import Plan
    from planner.scenario import Scenario
    from topologies.cluster import Cluster
    from validate.published.row import Row

#: How tables say that what some layers save is offloaded.
_LAYERS = r"(?i)CPU offload of activations, (\d+) layers"
#: Accelerators whose host is at the other end of an NVLink, not of PCIe.
BESIDE_HOST = ("gb200", "gb300", "gh200")
#: Frameworks that offload so many layers as do not fit (NVIDIA-NeMo/Megatron-Bridge's runs on
#: GB200 and GB300), where their tables say nothing of it.
OFFLOADING = r"(?i)nemo|megatron-bridge"
#: The allocator's reserve, which grows with what layers save.
_RESERVE = "fragmentation"


def offloaded_layers(row: Row) -> int:
    """Return how many layers' saved tensors a row has in host memory; 0 for none.

    Raises
    ------
    UnexpressedError
        If it offloads anything else.
    """
    said = row.text("offload")
    if said in ("", "none", "0"):
        return 0
    layers = re.match(_LAYERS, said)
    if layers is None:
        raise UnexpressedError(f"offload not modelled: {said[:40]}")
    return int(layers[1])


def check_offload(row: Row, machine: Cluster) -> None:
    """Raise if what a row has in host memory cannot be taken off its plan.

    TransformerEngine copies out and back beside the passes of other layers (2.8
    ``pytorch/cpu_offload.py``). Where an NVLink reaches the host these take longer than the copies,
    and the step no longer than without.

    Raises
    ------
    UnexpressedError
        If anything else is offloaded, the host is reached by PCIe, or the model cut into stages.
    """
    if not offloaded_layers(row):
        return
    if machine.accelerator.name not in BESIDE_HOST:
        raise UnexpressedError("offload of activations over PCIe is not modelled")
    if row.count("pp", 1) > 1:
        raise UnexpressedError("offload of activations from stages of a pipeline is not modelled")


def may_offload(row: Row, scenario: Scenario) -> bool:
    """Return whether a row may have saved tensors in host memory without saying so.

    It says neither that nor what it recomputes, which offloading makes needless.
    """
    silent = not row.text("offload") and not row.text("recompute")
    able = scenario.cluster.accelerator.name in BESIDE_HOST
    return silent and able and re.match(OFFLOADING, row.text("framework")) is not None


def relieved(row: Row, plan: Plan, scenario: Scenario) -> Plan:
    """Return a row's plan without what the row has in host memory, or may have where it must."""
    silent = may_offload(row, scenario)
    away = least_offload(plan, scenario) if silent else offloaded_layers(row)
    return with_offload(plan, away, scenario)


def least_offload(plan: Plan, scenario: Scenario) -> int:
    """Return how many of a model's layers have to leave a plan's device for it to fit.

    That is 0 where it fits, where not even all of them are enough, and for stages of a pipeline.
    """
    if plan.fits or plan.layout.pp > 1:
        return 0
    most = len(scenario.architecture.layers)
    left = with_offload(plan, most, scenario).memory_total_bytes
    excess = plan.memory_total_bytes - plan.capacity_bytes
    share = excess / (plan.memory_total_bytes - left)
    return math.ceil(most * share) if share <= 1.0 else 0


def with_offload(plan: Plan, away: int, scenario: Scenario) -> Plan:
    """Return a plan with what so many of a model's layers save in host memory.

    What the head saves stays.
    """
    if not away:
        return plan
    head = scenario.prepared(LayoutBatch.of([plan.layout])).head.saved_bytes()
    saved = plan.memory_bytes["activations"]
    share = min(away / len(scenario.architecture.layers), 1.0) * (1.0 - float(head[0]) / saved)
    held = {
        line: nbytes * (1.0 - share if line in ("activations", _RESERVE) else 1.0)
        for line, nbytes in plan.memory_bytes.items()
    }
    total = sum(held.values())
    left = total / plan.memory_total_bytes
    low, high = (bound * left for bound in plan.memory_interval_bytes)
    return replace(
        plan,
        memory_bytes=held,
        memory_interval_bytes=(low, high),
        memory_least_bytes=plan.memory_least_bytes * left,
        fits=total <= plan.capacity_bytes,
    )
