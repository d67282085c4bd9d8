"""A plan: one layout with its estimate; and the answer to a search: ranked plans."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from models.interval import P90
from models.memory_bill import SUMS
from planner.layout_words import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Layout
    from models.model_states import ModelStates
    from models.routing import Routing
    from planner.placement import Placement

HOUR_S = 3600.0
#: Training costs are quoted per this many tokens.
QUOTED_TOKENS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenances:
    """Where an estimate's numbers come from.

    Parameters
    ----------
    model, accelerator, cluster, profile
        Source of the architecture, of the device's peak, names of cluster and profile.
    ecmp, ecmp_seed
        How flows are taken to meet on equal links, and the seed where one was drawn.
    software
        What runs the job, by name.
    assumed
        Parameters that nothing measured backs.
    """

    model: str
    accelerator: str
    cluster: str
    ecmp: str
    ecmp_seed: int | None
    profile: str
    software: str
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One layout and what it costs.

    Parameters
    ----------
    layout
        How the job is cut.
    stage_layers
        Layers of each pipeline stage, in the order a micro-batch passes them.
    precision
        What the layers' products run in.
    states
        How parameters are kept, reduced and updated.
    routing
        How tokens spread over experts, where there are any.
    packed_len
        Tokens of each of the sequences packed into one; None where each is one.
    placement
        Where its ranks sit.
    step_time_s, interval_s
        One optimizer step, and its 10th and 90th percentile.
    tokens_per_s_per_gpu, tflops_per_gpu, mfu
        Throughput and utilisation of the dense peak of that precision; causal attention counted as
        half, no recomputation.
    mfu_full_attention
        Utilisation with attention counted unmasked.
    fits
        Whether the fullest rank's memory is within the capacity, with the chance asked for.
    memory_bytes, memory_interval_bytes, memory_stage, capacity_bytes
        The bill of the fullest rank by line, the interval of its total, that rank's pipeline
        position, and what a device offers.
    memory_least_bytes
        Its total with no more in reserve than the allocator cannot give back.
    time_s
        The step by what it goes into.
    runs_in
        Frameworks that can run the layout.
    gpus, tokens_per_step
        Accelerators, and tokens of one step.
    price_usd_per_hour, power_W
        Of one accelerator, where known.
    event_step_s
        The step on the event clock, the mean of those drawn; None where it was not asked.
    """

    layout: Layout
    stage_layers: tuple[int, ...]
    precision: str
    states: ModelStates
    routing: Routing
    packed_len: int | None
    placement: Placement
    step_time_s: float
    interval_s: tuple[float, float]
    tokens_per_s_per_gpu: float
    tflops_per_gpu: float
    mfu: float
    mfu_full_attention: float
    fits: bool
    memory_bytes: dict[str, float]
    memory_interval_bytes: tuple[float, float]
    memory_least_bytes: float
    memory_stage: int
    capacity_bytes: float
    time_s: dict[str, float]
    runs_in: tuple[str, ...]
    gpus: int
    tokens_per_step: int
    price_usd_per_hour: float | None
    power_W: float | None
    provenance: Provenances
    event_step_s: float | None = None

    @property
    def label(self) -> str:
        """All of the layout that tells it from others, in words."""
        return label(self.layout)

    @property
    def memory_total_bytes(self) -> float:
        """The fullest rank's memory."""
        return self.memory_sums_bytes["device"]

    @property
    def memory_sums_bytes(self) -> dict[str, float]:
        """What tools report of it: allocated, reserved, and all that is taken of the device."""
        return {
            name: sum(self.memory_bytes[line] for line in lines) for name, lines in SUMS.items()
        }

    @property
    def chance_to_fit(self) -> float:
        """Probability that the fullest rank fits, by how far off predictions of memory are.

        Logarithms of their errors are taken as normal; what fits has at least an even chance, or
        the one asked for.
        """
        spread = math.log(self.memory_interval_bytes[1] / self.memory_total_bytes) / P90
        room = math.log(self.capacity_bytes / self.memory_least_bytes)
        return NormalDist(sigma=spread).cdf(room)

    @property
    def exposed_s(self) -> float:
        """Communication that nothing hides."""
        return sum(self.time_s[axis] for axis in ("tp", "cp", "ep", "pp", "dp"))

    @property
    def bubble_fraction(self) -> float:
        """Share of the step that pipeline ranks wait for each other."""
        return self.time_s["bubble"] / self.step_time_s

    @property
    def cost_usd_per_step(self) -> float | None:
        """Price of one step, where the catalogue has a price."""
        if self.price_usd_per_hour is None:
            return None
        return self.price_usd_per_hour * self.gpus * self.step_time_s / HOUR_S

    @property
    def energy_J_per_step(self) -> float | None:
        """Energy of one step at full board power, where the catalogue has it."""
        return None if self.power_W is None else self.power_W * self.gpus * self.step_time_s

    def per_quoted_tokens(self, per_step: float | None) -> float | None:
        """Return a per-step figure per 10^12 tokens."""
        return None if per_step is None else per_step * QUOTED_TOKENS / self.tokens_per_step

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as documented JSON values; see README, *JSON output*."""
        cost, energy = self.cost_usd_per_step, self.energy_J_per_step
        return {
            "layout": {**self.layout.to_dict(), "cp": self.layout.cp, "gpus": self.gpus},
            "stage_layers": list(self.stage_layers),
            "precision": self.precision,
            "states": asdict(self.states),
            "routing": asdict(self.routing),
            "packed_len": self.packed_len,
            "placement": self.placement.to_dict(),
            "step_time_s": self.step_time_s,
            "event_step_time_s": self.event_step_s,
            "interval_s": list(self.interval_s),
            "tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
            "tflops_per_gpu": self.tflops_per_gpu,
            "mfu": self.mfu,
            "mfu_full_attention": self.mfu_full_attention,
            "fits": self.fits,
            "chance_to_fit": self.chance_to_fit,
            "memory_bytes": {**self.memory_bytes, "total": self.memory_total_bytes},
            "memory_sums_bytes": self.memory_sums_bytes,
            "memory_interval_bytes": list(self.memory_interval_bytes),
            "memory_least_bytes": self.memory_least_bytes,
            "memory_stage": self.memory_stage,
            "capacity_bytes": self.capacity_bytes,
            "time_s": self.time_s,
            "exposed_communication_s": self.exposed_s,
            "bubble_fraction": self.bubble_fraction,
            "runs_in": list(self.runs_in),
            "cost_usd_per_step": cost,
            "cost_usd_per_1e12_tokens": self.per_quoted_tokens(cost),
            "energy_J_per_step": energy,
            "energy_J_per_1e12_tokens": self.per_quoted_tokens(energy),
            "provenance": asdict(self.provenance),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCounts:
    """How much of the space was looked at.

    Parameters
    ----------
    legal
        Layouts that satisfy every rule and that the framework runs.
    fit
        Those whose fullest rank fits in memory.
    costed
        Those for which every figure was computed; the others were pruned by memory.
    seconds
        Wall time of the search.
    """

    legal: int
    fit: int
    costed: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSet:
    """The answer to a search.

    Parameters
    ----------
    plans
        The best layout of each mesh, fastest first.
    search
        How much was looked at.
    notes
        What binds, whether sequence parallelism pays, what would fit: sentences.
    smallest
        When nothing fits: the layout that needs the least memory.
    front
        Of all layouts that fit, those that no other beats in step time without more memory on as
        many accelerators; fastest first.
    """

    plans: tuple[Plan, ...]
    search: SearchCounts
    notes: tuple[str, ...] = field(default=())
    smallest: Plan | None = None
    front: tuple[Plan, ...] = ()

    @property
    def best(self) -> Plan | None:
        """The fastest plan, or None if nothing fits."""
        return self.plans[0] if self.plans else None

    @classmethod
    def merged(cls, answers: Sequence[PlanSet]) -> PlanSet:
        """Return several answers, such as those for several numbers of accelerators, as one.

        Plans are sorted by step time, counts are summed, notes say which answer they belong to.
        """
        if len(answers) == 1:
            return answers[0]
        plans = sorted((p for a in answers for p in a.plans), key=lambda plan: plan.step_time_s)
        totals = {
            name: sum(getattr(a.search, name) for a in answers) for name in SearchCounts.__slots__
        }
        notes = (
            f"On {(answer.best or answer.smallest or plans[0]).gpus} accelerators: {note}"
            for answer in answers
            for note in answer.notes
        )
        return cls(
            plans=tuple(plans),
            search=SearchCounts(**totals),
            notes=tuple(notes),
            front=tuple(plan for answer in answers for plan in answer.front),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as documented JSON values."""
        return {
            "plans": [plan.to_dict() for plan in self.plans],
            "search": asdict(self.search),
            "notes": list(self.notes),
            "smallest": self.smallest.to_dict() if self.smallest else None,
        }
