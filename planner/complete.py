"""One layout out of the few axes a user gives: the others at what most runs have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.layout import Layout, LayoutBatch
from models.named_axes import Recompute, Schedule, StageSplit
from models.schedule import VEE, VEE_CHUNKS
from planner.bounds import Bounds, flag
from topologies.errors import Problem, SpecError, raise_if_any

if TYPE_CHECKING:
    from planner.scenario import Scenario


def complete_layout(scenario: Scenario, axes: dict[str, object]) -> Layout:
    """Return the layout of the axes given, the others at their usual values.

    Raises
    ------
    SpecError
        With every axis that has more than one value, or one that cannot be.
    """
    bounds = Bounds.parse(axes)
    several = [
        Problem(flag(axis), axes[axis], "one value: this is about one layout")
        for axis, bound in bounds.axes.items()
        if bound.low != bound.high
    ]
    raise_if_any(several)
    values = {axis: bound.low for axis, bound in bounds.axes.items()}
    cp = values.pop("cp", None)
    if cp is not None:
        values.setdefault("ring", max(cp // values.get("ulysses", 1), 1))
        if values.get("ulysses", 1) * values["ring"] != cp:
            raise SpecError([Problem("--cp", cp, "must equal ulysses x ring")])
    if "recompute_modules" in values:
        values.setdefault("recompute", Recompute.SELECTIVE)
    rest = Layout(**{**_named(values), "dp": 1}).gpus
    values.setdefault("dp", max(scenario.cluster.accelerators // rest, 1))
    values.setdefault("tp_sp", int(values.get("tp", 1) > 1))
    several_chunks = values.get("vp", 1) > 1
    values.setdefault("schedule", Schedule.INTERLEAVED if several_chunks else Schedule.ONE_F_ONE_B)
    if VEE[values["schedule"]]:
        values.setdefault("vp", VEE_CHUNKS)
    stages = values.get("pp", 1) * values.get("vp", 1)
    even = len(scenario.architecture.layers) % stages == 0
    values.setdefault("stage_split", StageSplit.EVEN if even else StageSplit.BALANCED)
    return Layout(**_named(values))


def legal_layout(scenario: Scenario, axes: dict[str, object]) -> Layout:
    """Return the layout of the axes given, the others at their usual values, once it is legal.

    Raises
    ------
    SpecError
        With a sentence for every rule it breaks.
    """
    layout = complete_layout(scenario, axes)
    scenario.check(layout)
    return layout


def _named(values: dict[str, int]) -> dict[str, Any]:
    """Return axis values as a layout has them: names where axes have names."""
    batch = LayoutBatch.of([Layout()])
    plain = {axis: getattr(batch, axis) for axis in values}
    columns = {axis: plain[axis] * 0 + value for axis, value in values.items()}
    layout = batch.with_columns(**columns).layout(0)
    return {axis: getattr(layout, axis) for axis in values}
