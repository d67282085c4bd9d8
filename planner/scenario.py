"""A question to the planner: model, cluster and workload, ready to be evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from math import exp
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from models.catalogue import load_architecture
from models.compute import Device
from models.framework_choice import runs_in
from models.interval import P90
from models.legality import problems
from models.memory import capacity_bytes, memory_bill
from models.memory_bill import LINES
from models.model_states import ModelStates
from models.precision import precisions
from models.prepared import Prepared
from models.profile import load_profile
from models.profile_file import read_profile
from models.rates import rates
from models.routing import Routing
from models.rules.experts import mixtures
from models.rules.rule import Job
from models.rules.sequence import window_problems
from models.stages import stage_sizes
from models.training import PARTS, step_time
from models.workload import Workload, parse_count
from planner.choices import USUAL_CHANCE, Choices
from planner.placement import Placement
from planner.plans import Plan, Provenances
from planner.step_figures import step_figures
from topologies.catalogue import load_cluster
from topologies.ecmp import Ecmp, parse_ecmp
from topologies.errors import Collected, Problem, raise_if_any
from topologies.fabric import Fabric
from topologies.figure import Provenance

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.layout import Layout, LayoutBatch
    from models.profile import Profile
    from topologies.cluster import Cluster
    from topologies.figure import Figure


@dataclass(frozen=True)
class Scenario:
    """A model on a cluster with a workload.

    Parameters
    ----------
    architecture, cluster, workload
        What to train, on what, how much per step.
    ecmp, ecmp_seed
        How flows meet on equal links.
    profile
        What the accelerator reaches; None for the catalogue's.
    fit_chance
        Least chance with which a layout must fit in memory.
    """

    architecture: Architecture
    cluster: Cluster
    workload: Workload
    ecmp: Ecmp = Ecmp.PERFECT
    ecmp_seed: int = 0
    profile: Profile | None = None
    fit_chance: float = USUAL_CHANCE

    @classmethod
    def load(
        cls,
        model: str,
        cluster: str,
        *,
        seq_len: int,
        global_batch: int,
        gpus: int | None = None,
        **choices: Any,  # noqa: ANN401 - those of Choices
    ) -> Scenario:
        """Return the scenario of names or files, numbers, and the fields of some choices.

        Raises
        ------
        SpecError
            With every problem of all of them together.
        """
        return cls.asked(
            model,
            cluster,
            seq_len=seq_len,
            global_batch=global_batch,
            gpus=gpus,
            choices=Choices(**choices),
        )

    @classmethod
    def asked(
        cls,
        model: str | Architecture,
        cluster: str | Cluster,
        *,
        seq_len: int,
        global_batch: int,
        gpus: int | None,
        choices: Choices,
    ) -> Scenario:
        """Return the scenario of names or files (or what was read of them), numbers and choices.

        Raises
        ------
        SpecError
            With every problem of all of them together.
        """
        found = Collected()
        packed = choices.packed_len
        if packed is not None:
            packed = found.attempt(partial(parse_count, str(packed), "--packed-len"))
        workload = Workload(
            seq_len=seq_len,
            global_batch=global_batch,
            precision=choices.precision,
            states=ModelStates(choices.optimizer, choices.gradients, choices.reduce),
            routing=Routing(choices.expert_skew, choices.expert_capacity),
            software=choices.software,
            packed_len=packed,
        )
        found.attempt(workload.check)
        depth = choices.predict_depth
        architecture = found.attempt(lambda: _architecture(model).predicting(depth))
        if architecture is not None:
            found.problems += window_problems(architecture, seq_len)
            if not mixtures(architecture):
                found.problems += workload.routing.idle_problems(architecture.title)
        loaded = found.attempt(lambda: _cluster(cluster, gpus))
        if loaded is not None and choices.precision in precisions():
            found.attempt(lambda: raise_if_any(workload.recipe.problems(loaded.accelerator)))
        meeting = found.attempt(lambda: parse_ecmp(choices.ecmp, choices.ecmp_seed))
        measured = None
        if (file := choices.profile) is not None:
            device = loaded.accelerator.name if loaded else None
            measured = found.attempt(lambda: read_profile(file, device))
        found.problems += _chance_problems(choices.fit_chance)
        found.raise_if_any()
        return cls(
            architecture,
            loaded,
            workload,
            meeting,
            choices.ecmp_seed,
            measured,
            choices.fit_chance,
        )

    @property
    def job(self) -> Job:
        """What layouts must suit."""
        return Job(
            architecture=self.architecture,
            workload=self.workload,
            gpus=self.cluster.accelerators,
        )

    @cached_property
    def device(self) -> Device:
        """The accelerator with its profile."""
        accelerator = self.cluster.accelerator
        kernel = self.workload.runs_on.attention_on(accelerator.name)
        return Device(accelerator, self.profile or load_profile(accelerator.name), kernel)

    @cached_property
    def fabric(self) -> Fabric:
        """The cluster's links."""
        return Fabric(self.cluster, self.ecmp, self.ecmp_seed)

    @property
    def capacity_bytes(self) -> float:
        """Memory of one device that a job may use."""
        return capacity_bytes(self.device.accelerator, self.device.profile)

    @property
    def limit_bytes(self) -> float:
        """Memory that a layout may be predicted to need for it to fit with the chance asked for.

        Logarithms of errors of memory are taken as normal, as in :attr:`Plan.chance_to_fit`.
        """
        errors = NormalDist(sigma=self.device.profile.memory_spread.value)
        return self.capacity_bytes * exp(-errors.inv_cdf(self.fit_chance))

    def check(self, layout: Layout) -> None:
        """Raise if a layout is impossible here.

        Raises
        ------
        SpecError
            With a sentence for every rule it breaks.
        """
        raise_if_any(problems(layout, self.job))

    def prepared(self, batch: LayoutBatch) -> Prepared:
        """Return layouts with their inventory here."""
        return Prepared.of(
            self.architecture,
            self.workload,
            batch,
            self.cluster.fast_domain,
            expands_kv_gradients=self.workload.runs_on.expands_kv_gradients(
                self.cluster.accelerator.name
            ),
        )

    def evaluate(self, batch: LayoutBatch) -> list[Plan]:
        """Return the full estimate of every layout of a (small) batch."""
        if not len(batch):
            return []
        prepared = self.prepared(batch)
        bill = memory_bill(prepared, self.device.profile, self.capacity_bytes)
        time = step_time(prepared, self.device, self.fabric)
        rate = rates(prepared, time.total, self.device)
        work = self.workload
        runs = runs_in(batch, self.architecture, work.states, work.precision)
        memory_spread = self.device.profile.memory_spread.value * P90
        plans = []
        for i in range(len(batch)):
            total = float(bill.total[i])
            step = float(time.total[i])
            layout = batch.layout(i)
            plans.append(
                Plan(
                    layout=layout,
                    stage_layers=stage_sizes(self.architecture, work, layout),
                    precision=work.precision,
                    states=work.states,
                    routing=work.routing,
                    packed_len=work.packed_len,
                    placement=Placement.of(layout, self.cluster),
                    step_time_s=step,
                    interval_s=(float(time.low[i]), float(time.high[i])),
                    tokens_per_s_per_gpu=float(rate.tokens_per_s_per_gpu[i]),
                    tflops_per_gpu=float(rate.tflops_per_gpu[i]),
                    mfu=float(rate.mfu[i]),
                    mfu_full_attention=float(rate.mfu_full_attention[i]),
                    fits=bool(bill.least[i] <= self.limit_bytes),
                    memory_bytes={line: float(getattr(bill, line)[i]) for line in LINES},
                    memory_interval_bytes=(
                        total * float(np.exp(-memory_spread)),
                        total * float(np.exp(memory_spread)),
                    ),
                    memory_least_bytes=float(bill.least[i]),
                    memory_stage=int(bill.stage[i]),
                    capacity_bytes=self.capacity_bytes,
                    time_s={part: float(getattr(time, part)[i]) for part in PARTS},
                    runs_in=tuple(runs[i]),
                    gpus=self.cluster.accelerators,
                    tokens_per_step=self.workload.tokens_per_step,
                    price_usd_per_hour=self._figure("price_usd_per_hour"),
                    power_W=self._figure("power_W"),
                    provenance=self.provenance,
                )
            )
        return plans

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Every figure that a training step here is computed from, with its name."""
        return step_figures(self.workload, self.device.profile, self.cluster)

    @cached_property
    def provenance(self) -> Provenances:
        """Where the numbers of this scenario come from, and which nothing backs."""
        figures = self.figures.items()
        assumed = tuple(name for name, each in figures if each.kind is Provenance.ASSUMED)
        return Provenances(
            model=self.architecture.source,
            accelerator=self.cluster.accelerator.peaks()[self.workload.recipe.peak].source,
            cluster=self.cluster.name,
            ecmp=str(self.ecmp),
            ecmp_seed=self.ecmp_seed if self.ecmp is Ecmp.SEEDED else None,
            profile=self.device.profile.name,
            software=self.workload.software,
            assumed=assumed,
        )

    def _figure(self, name: str) -> float | None:
        figure = getattr(self.cluster.accelerator, name)
        return None if figure is None else float(figure)


def _chance_problems(chance: float) -> list[Problem]:
    if 0.0 < chance < 1.0:
        return []
    return [Problem("--fit-chance", chance, "over 0 and under 1, such as 0.9")]


def _architecture(model: str | Architecture) -> Architecture:
    return load_architecture(model) if isinstance(model, str) else model


def _cluster(cluster: str | Cluster, gpus: int | None) -> Cluster:
    if isinstance(cluster, str):
        return load_cluster(cluster, gpus)
    return cluster if gpus is None else cluster.take(gpus)
