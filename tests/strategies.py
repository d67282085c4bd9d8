"""Hypothesis strategies that several test modules share: jobs, and layouts that are legal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch
from models.legality import legal
from models.named_axes import (
    CpMethod,
    CpPlacement,
    Kernels,
    RankOrder,
    Recompute,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.prepared import Prepared
from models.recompute_modules import RecomputeModules
from models.rules.rule import Job
from models.workload import Workload
from planner.schedules import chunks

#: Grouped heads, whole heads, windows in five of six layers, and more heads than widths divide.
MODELS = ("llama-3.2-1b", "llama-2-7b", "llama-3.1-8b", "gemma-3-1b", "qwen3-32b", "gpt2-xl")

#: Every set of the modules that dense layers have: core attention 1, norms 2, MLP 4.
DENSE_SETS = tuple(RecomputeModules(number) for number in range(1, 8))

AXES_OF_DEGREES = ("tp", "ulysses", "ring", "pp", "dp")


@dataclass(frozen=True)
class Drawn:
    """A job and layouts that are legal for it; a failing example reads in one line."""

    job: Job
    layouts: tuple[Layout, ...]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        job = self.job
        size = f"{job.workload.seq_len} tokens x {job.workload.global_batch} on {job.gpus}"
        printer.text(f"{job.architecture.name}, {size}: {[x.to_dict() for x in self.layouts]}")

    @property
    def batch(self) -> LayoutBatch:
        """The layouts as arrays."""
        return LayoutBatch.of(self.layouts)

    def prepared(self, *layouts: Layout) -> Prepared:
        """Return the inventory of the layouts drawn, or of others for the same job."""
        batch = LayoutBatch.of(layouts or self.layouts)
        return Prepared.of(self.job.architecture, self.job.workload, batch)


@st.composite
def jobs(draw: st.DrawFn, *, largest_power: int = 6) -> Job:
    """Draw a model, a workload and a number of accelerators that is a power of two."""
    power = draw(st.integers(0, largest_power))
    return Job(
        architecture=load_architecture(draw(st.sampled_from(MODELS))),
        workload=Workload(
            seq_len=2 ** draw(st.integers(10, 18)),
            global_batch=2 ** draw(st.integers(power, power + 4)),
        ),
        gpus=2**power,
    )


@st.composite
def layouts(draw: st.DrawFn, job: Job, **fixed: Any) -> Layout:
    """Draw a layout that is legal for a job; `fixed` holds axes that are not to be drawn."""
    degrees = draw(_degrees(job.gpus, fixed))
    windowed = any(getattr(kind.mixer, "window", None) for kind in job.architecture.kinds)
    gathers = degrees["ulysses"] == 1 and (windowed or draw(st.booleans()))
    full = draw(st.sampled_from(list(Recompute)))
    schedules = [schedule for schedule in Schedule if degrees["pp"] > 1 or schedule <= 1]
    schedule = fixed.get("schedule", draw(st.sampled_from(schedules)))
    zero = draw(st.integers(0, 3))
    drawn: dict[str, Any] = {
        **degrees,
        "micro_batch": draw(st.sampled_from([1, 1, 2, 4])),
        "zero": zero,
        "dp_replicate": draw(st.sampled_from([1, degrees["dp"]])) if zero else 1,
        "tp_sp": degrees["tp"] > 1 and draw(st.booleans()),
        "recompute": full,
        "recompute_layers": draw(st.integers(0, 6)) if full is Recompute.FULL else 0,
        "schedule": schedule,
        "vp": draw(st.sampled_from(chunks(schedule, [1, 2, 3, 4]))),
        "inner_ring": (1 if gathers else draw(st.sampled_from(_windows(degrees["ring"])))),
        "cp_method": CpMethod.ALL_GATHER if gathers else CpMethod.P2P,
        "sequence_order": draw(st.sampled_from(list(SequenceOrder))),
        "cp_placement": draw(st.sampled_from(list(CpPlacement))),
        "kernels": draw(st.sampled_from(list(Kernels))),
        "rank_order": draw(st.sampled_from(list(RankOrder))),
        "stage_split": draw(st.sampled_from([StageSplit.BALANCED, StageSplit.EVEN])),
    }
    layout = Layout(**{**drawn, **fixed})
    assume(bool(legal(LayoutBatch.of([layout]), job)[0]))
    return layout


@st.composite
def jobs_with_layouts(draw: st.DrawFn, *, least: int = 1, most: int = 1, **fixed: Any) -> Drawn:
    """Draw a job and some layouts that are legal for it."""
    job = draw(jobs())
    drawn = draw(st.lists(layouts(job, **fixed), min_size=least, max_size=most))
    return Drawn(job, tuple(drawn))


def _windows(ring: int) -> list[int]:
    """Return the windows a ring can have; a flat ring's is one rank."""
    return [size for size in range(1, max(ring, 2)) if size == 1 or ring % size == 0]


@st.composite
def _degrees(draw: st.DrawFn, gpus: int, fixed: dict[str, Any]) -> dict[str, int]:
    """Draw degrees whose product is `gpus`: each factor of two goes to one axis."""
    degrees = {axis: fixed.get(axis, 1) for axis in AXES_OF_DEGREES}
    left = gpus
    for axis in AXES_OF_DEGREES:
        left //= degrees[axis]
    free = [axis for axis in AXES_OF_DEGREES if axis not in fixed]
    for _ in range(max(left, 1).bit_length() - 1):
        degrees[draw(st.sampled_from(free))] *= 2
    return degrees
