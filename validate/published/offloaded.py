"""Runs that keep what some layers save in host memory until their backward passes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from models.layout import Layout
    from planner.plans import Plan
    from planner.scenario import Scenario
    from validate.published.row import Row

#: How tables say that what some layers save is offloaded.
_LAYERS = r"(?i)CPU offload of activations, (\d+) layers"
#: Accelerators whose host is at the other end of an NVLink, not of PCIe.
BESIDE_HOST = ("gb200", "gb300", "gh200")
#: Lines of the memory bill that grow with what layers save.
_SAVED = ("activations", "fragmentation")


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


def check_offload(row: Row, scenario: Scenario, layout: Layout) -> None:
    """Raise if what a row has in host memory cannot be taken off its plan.

    TransformerEngine copies out and back beside the passes of other layers (2.8
    ``pytorch/cpu_offload.py``). Where an NVLink reaches the host these take longer than the copies,
    and the step no longer than without.

    Raises
    ------
    UnexpressedError
        If the host is reached by PCIe, or the model is cut into stages.
    """
    if not offloaded_layers(row):
        return
    if scenario.cluster.accelerator.name not in BESIDE_HOST:
        raise UnexpressedError("offload of activations over PCIe is not modelled")
    if layout.pp > 1:
        raise UnexpressedError("offload of activations from stages of a pipeline is not modelled")


def with_offload(row: Row, plan: Plan, layers: int) -> Plan:
    """Return a plan without what its row has in host memory, of a model of so many layers."""
    away = offloaded_layers(row)
    if not away:
        return plan
    left = 1.0 - min(away / layers, 1.0)
    held = {
        line: nbytes * (left if line in _SAVED else 1.0)
        for line, nbytes in plan.memory_bytes.items()
    }
    total = sum(held.values())
    low, high = (bound * total / plan.memory_total_bytes for bound in plan.memory_interval_bytes)
    return replace(
        plan,
        memory_bytes=held,
        memory_interval_bytes=(low, high),
        fits=total <= plan.capacity_bytes,
    )
