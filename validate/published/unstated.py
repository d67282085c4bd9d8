"""What a run does not state of its layout: the fastest that fits, as those who tune runs choose."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from planner.complete import legal_layout
from topologies.divisors import divisors
from topologies.errors import SpecError
from validate.published.offloaded import least_offload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.layout import Layout
    from planner.plans import Plan
    from planner.scenario import Scenario

#: What some of a layer's work is repeated for, from the cheapest on: Megatron-Core's modules.
MODULES = (
    "core_attn",
    "core_attn,layernorm",
    "layernorm,moe_act",
    "layernorm,mla_up_proj",
    "layernorm,moe_act,mla_up_proj",
    "layernorm,mlp",
    "core_attn,layernorm,mlp",
)
#: Shares of every stage's layers that are recomputed in full.
SHARES = (0.25, 0.5, 0.75)
#: Sequences of a micro-batch to choose among.
MICRO_BATCHES = (1, 2, 4, 8, 16)
#: Axes that are chosen where a run does not state them.
CHOSEN = ("micro_batch", "recompute", "vp")


def completed(
    scenario: Scenario,
    axes: Mapping[str, object],
    unstated: Sequence[str],
    *,
    offloads: bool = False,
) -> Layout:
    """Return the layout of some axes, with unstated ones at their fastest values that fit.

    Where nothing fits, though it ran, it is the fastest with the smallest micro-batch.

    Parameters
    ----------
    scenario
        Model, machine and workload.
    axes
        What the run states.
    unstated
        Axes of :data:`CHOSEN` that it does not.
    offloads
        Whether what some layers save may be in host memory.

    Raises
    ------
    SpecError
        If no layout of these axes is legal.
    """
    if not unstated:
        return legal_layout(scenario, dict(axes))
    layouts = list(_legal(scenario, axes, unstated))
    plans = scenario.evaluate(LayoutBatch.of(layouts))

    def preferred(plan: Plan) -> tuple[bool, int, float]:
        fits = plan.fits or (offloads and least_offload(plan, scenario) > 0)
        return (not fits, 0 if fits else plan.layout.micro_batch, plan.step_time_s)

    return min(plans, key=preferred).layout


def _legal(
    scenario: Scenario, axes: Mapping[str, object], unstated: Sequence[str]
) -> Iterator[Layout]:
    refused, found = None, False
    candidates = _candidates(scenario, axes)
    for values in product(*(candidates[axis] for axis in unstated)):
        chosen = {**axes, **dict(zip(unstated, values, strict=True))}
        if "recompute" in unstated:
            chosen |= _recomputation(scenario, chosen)
        try:
            yield legal_layout(scenario, chosen)
            found = True
        except SpecError as error:
            refused = refused or error
    if not found and refused is not None:
        raise refused


def _candidates(scenario: Scenario, axes: Mapping[str, object]) -> dict[str, Sequence[object]]:
    """Return the values to choose among for each axis.

    Chunks per pipeline rank are of as many layers each, as frameworks cut them unless they are told
    otherwise; where ranks cannot hold as many, there is one chunk.
    """
    layers, pp = len(scenario.architecture.layers), int(str(axes.get("pp", 1)))
    return {
        "micro_batch": MICRO_BATCHES,
        "recompute": ("none", *MODULES, *SHARES, "full"),
        "vp": divisors(layers // pp) if layers % pp == 0 else [1],
    }


def _recomputation(scenario: Scenario, axes: Mapping[str, object]) -> dict[str, object]:
    """Return the axes that one of the candidates for recomputation stands for."""
    value = axes["recompute"]
    if value in MODULES:
        return {"recompute": "selective", "recompute_modules": value}
    if isinstance(value, float):
        layers = len(scenario.architecture.layers) / int(str(axes.get("pp", 1)))
        return {"recompute": "full", "recompute_layers": max(round(value * layers), 1)}
    return {"recompute": value}
