"""The search, against evaluating every layout of the space one way and taking the minimum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import planner.space
from models.layout import LayoutBatch
from models.memory import memory_bill
from models.named_axes import Recompute
from models.prepared import Prepared
from models.training import step_time
from planner.bounds import Bounds
from planner.options import FEWEST, MESH_AXES
from planner.scenario import Scenario
from planner.search import Found, first_fit, search
from planner.space import Space
from topologies.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.layout import Array, Layout


def scenario(
    model: str = "llama-3.1-8b",
    cluster: str = "h100-dgx:1",
    *,
    seq_len: int = 32768,
    global_batch: int = 8,
    gpus: int | None = None,
) -> Scenario:
    return Scenario.load(model, cluster, seq_len=seq_len, global_batch=global_batch, gpus=gpus)


#: Fits with room to spare, fits only with recomputation, windows, several nodes, nothing fits.
JOBS: dict[str, tuple[Scenario, dict[str, object]]] = {
    "roomy": (scenario("llama-3.2-1b", gpus=4, seq_len=4096), {}),
    "tight": (scenario(gpus=4, seq_len=131072, global_batch=4), {"kernels": "fused"}),
    "windowed": (scenario("gemma-3-1b", gpus=4, seq_len=32768, global_batch=4), {}),
    "nodes": (scenario("llama-3.1-8b", "h100-dgx:2"), {"kernels": "fused", "zero": "1,3"}),
    "recomputing": (scenario(gpus=8, seq_len=65536), {"recompute": "full", "tp": 1}),
    "hopeless": (scenario("llama-3.1-70b", gpus=8), {"zero": 1, "kernels": "fused"}),
}


@dataclass(frozen=True)
class Every:
    """What every layout of a space needs and takes, each number of recomputed layers apart."""

    layouts: LayoutBatch
    step_s: Array
    fits: Array
    nbytes: Array


def written_out(batch: LayoutBatch, layers: int) -> Iterator[LayoutBatch]:
    """Yield a batch with every number of recomputed layers in place of the fewest that fit."""
    still_open = batch.recompute_layers == FEWEST
    yield batch.take(~still_open)
    for many in range(1, layers):
        some = batch.take(still_open)
        yield some.with_columns(recompute_layers=np.full(len(some), many, dtype=np.int32))


def every(work: Scenario, space: Space) -> Every:
    layers = len(work.architecture.layers)
    batches = [
        part for batch in space.batches() for part in written_out(batch, layers) if len(part)
    ]
    layouts = LayoutBatch.concatenate(batches)
    prepared = Prepared.of(work.architecture, work.workload, layouts)
    nbytes = memory_bill(prepared, work.device.profile, work.capacity_bytes).total
    step_s = step_time(prepared, work.device, work.fabric).total
    return Every(layouts, step_s, nbytes <= work.capacity_bytes, nbytes)


def space_of(name: str, framework: str = "any", **more: object) -> tuple[Scenario, Space]:
    work, bounds = JOBS[name]
    return work, Space(work.job, Bounds.parse({**bounds, **more}), framework)


def found_in(name: str, framework: str = "any", **more: object) -> Found:
    return search(*space_of(name, framework, **more))


def as_layouts(batch: LayoutBatch | None) -> list[Layout]:
    return [] if batch is None else [batch.layout(i) for i in range(len(batch))]


def mesh_of(layouts: LayoutBatch) -> list[tuple[int, ...]]:
    return list(zip(*(getattr(layouts, axis).tolist() for axis in MESH_AXES), strict=True))


@pytest.mark.parametrize("name", JOBS)
def test_the_first_plan_is_the_fastest_of_all_that_fit(name: str) -> None:
    found, truth = found_in(name), every(*space_of(name))
    if not truth.fits.any():
        assert len(found.best) == found.counts.fit == 0
        return
    assert found.step_s[0] == pytest.approx(truth.step_s[truth.fits].min(), rel=1e-9)
    assert (np.diff(found.step_s) >= 0).all()


@pytest.mark.parametrize("name", JOBS)
def test_every_mesh_is_represented_by_its_fastest_layout(name: str) -> None:
    found, truth = found_in(name), every(*space_of(name))
    fastest: dict[tuple[int, ...], float] = {}
    for mesh, step_s, fits in zip(mesh_of(truth.layouts), truth.step_s, truth.fits, strict=True):
        if fits:
            fastest[mesh] = min(fastest.get(mesh, np.inf), step_s)
    answered = dict(zip(mesh_of(found.best), found.step_s, strict=True))
    assert len(answered) == len(found.best)
    assert answered == pytest.approx(fastest, rel=1e-9)


def test_every_rank_order_is_searched_and_the_best_of_each_mesh_kept() -> None:
    """Two nodes, all six orders: where context ranks leave the node depends on the order."""
    pins: dict[str, object] = {"recompute": "none", "vp": 1, "micro_batch": 1, "tp_sp": 1}
    found = found_in("nodes", "unrestricted", **pins)
    truth = every(*space_of("nodes", "unrestricted", **pins))
    assert set(truth.layouts.rank_order.tolist()) == set(range(6))
    fastest: dict[tuple[int, ...], float] = {}
    for mesh, step_s, fits in zip(mesh_of(truth.layouts), truth.step_s, truth.fits, strict=True):
        if fits:
            fastest[mesh] = min(fastest.get(mesh, np.inf), step_s)
    answered = dict(zip(mesh_of(found.best), found.step_s, strict=True))
    assert answered == pytest.approx(fastest, rel=1e-9)
    assert found.counts.legal == len(truth.layouts)


def test_of_equally_fast_layouts_the_smallest_is_shown() -> None:
    several = 0
    for name in ("roomy", "nodes"):
        found, truth = found_in(name), every(*space_of(name))
        plans = JOBS[name][0].evaluate(found.best)
        meshes = np.array(mesh_of(truth.layouts))
        for mesh, plan in zip(mesh_of(found.best), plans, strict=True):
            rivals = truth.fits & (meshes == mesh).all(axis=1)
            rivals &= truth.step_s <= plan.step_time_s * (1 + 1e-9)
            several += int(rivals.sum() > 1)
            assert plan.memory_total_bytes <= truth.nbytes[rivals].min() * (1 + 1e-9)
    assert several


@pytest.mark.parametrize("name", JOBS)
def test_the_smallest_layout_needs_the_least_memory_of_all(name: str) -> None:
    found, truth = found_in(name), every(*space_of(name))
    work = JOBS[name][0]
    assert found.smallest is not None
    prepared = Prepared.of(work.architecture, work.workload, found.smallest)
    (needs,) = memory_bill(prepared, work.device.profile, work.capacity_bytes).total
    assert needs == pytest.approx(truth.nbytes.min(), rel=1e-9)


@pytest.mark.parametrize("name", JOBS)
def test_counts_are_those_of_the_layouts_looked_at(name: str) -> None:
    """With the number of recomputed layers filled in, at most one layout for each open one."""
    found, truth = found_in(name), every(*space_of(name))
    whole = truth.layouts.recompute_layers == 0
    sets = JOBS[name][1]
    counts = found.counts
    partial = {
        replace(layout, recompute_layers=0)
        for layout in as_layouts(truth.layouts.take(~whole & truth.fits))
    }
    least = int((whole & truth.fits).sum())
    assert counts.costed == counts.fit <= counts.legal
    assert least <= counts.fit <= least + len(partial), sets
    assert counts.legal >= int(whole.sum())


@pytest.mark.parametrize("name", JOBS)
def test_everything_found_fits_and_is_what_it_says(name: str) -> None:
    """The certificate: evaluated afresh, one by one, through the scenario."""
    work, _ = JOBS[name]
    found = found_in(name)
    plans = work.evaluate(found.best) if len(found.best) else []
    for plan, step_s in zip(plans, found.step_s, strict=True):
        work.check(plan.layout)
        assert plan.fits
        assert plan.step_time_s == pytest.approx(step_s, rel=1e-12)
        assert plan.runs_in, plan.layout


@pytest.mark.parametrize("name", ["roomy", "tight", "recomputing"])
@pytest.mark.parametrize("size", [1, 777])
def test_the_size_of_batches_changes_nothing(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = found_in(name)
    monkeypatch.setattr(planner.space, "BATCH", size)
    seen: list[int] = []
    other = search(*space_of(name), seen.append)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert as_layouts(other.best) == as_layouts(usual.best)
    assert other.step_s == pytest.approx(usual.step_s, rel=1e-12)
    assert as_layouts(other.smallest) == as_layouts(usual.smallest)
    assert replace(other.counts, seconds=0) == replace(usual.counts, seconds=0)


def test_the_same_question_has_the_same_answer() -> None:
    first, second = found_in("tight"), found_in("tight")
    assert as_layouts(first.best) == as_layouts(second.best)
    assert first.step_s.tolist() == second.step_s.tolist()


def test_pins_never_speed_up_and_frameworks_never_widen() -> None:
    free = found_in("tight")
    for bounds in ({"tp": 2}, {"zero": 1}, {"recompute": "none,selective"}, {"micro_batch": 2}):
        pinned = found_in("tight", **bounds)
        assert not len(pinned.best) or pinned.step_s[0] >= free.step_s[0] * (1 - 1e-12)
    anything = found_in("roomy", "unrestricted")
    for framework in ("any", "megatron", "torchtitan", "deepspeed"):
        some = found_in("roomy", framework)
        assert some.counts.legal < anything.counts.legal
        assert some.step_s[0] >= anything.step_s[0] * (1 - 1e-12)


@pytest.mark.parametrize("framework", ["megatron", "torchtitan", "deepspeed", "accelerate"])
def test_what_is_found_for_a_framework_runs_in_it(framework: str) -> None:
    work = scenario(gpus=8, seq_len=131072)
    found = search(work, Space(work.job, Bounds.parse({}), framework))
    assert len(found.best)
    for plan in work.evaluate(found.best):
        assert framework in plan.runs_in, plan.layout


def test_partial_recomputation_is_used_where_it_pays() -> None:
    """Between none, which does not fit, and all layers, which is slower."""
    work, bounds = JOBS["tight"]
    free = found_in("tight")
    whole = search(work, Space(work.job, Bounds.parse({**bounds, "recompute_layers": 0}), "any"))
    partial = [
        x for x in as_layouts(free.best) if x.recompute is Recompute.FULL and x.recompute_layers
    ]
    assert partial
    assert free.step_s.min() <= whole.step_s.min()


@pytest.mark.parametrize("name", JOBS)
def test_the_first_fit_exists_exactly_when_something_fits(name: str) -> None:
    assert first_fit(*space_of(name)) == (found_in(name).counts.fit > 0)


def test_an_empty_space_has_no_answer() -> None:
    found = found_in("roomy", tp=3)
    assert len(found.best) == 0
    assert found.smallest is None
    assert (found.counts.legal, found.counts.fit, found.counts.costed) == (0, 0, 0)


def test_pins_that_leave_too_many_data_parallel_ranks_say_so() -> None:
    with pytest.raises(SpecError) as caught:
        planner.plan("llama-3.2-1b", "h100-dgx:2", seq_len=4096, global_batch=8, tp=1, cp=1, pp=1)
    assert len(caught.value.problems) == 3
    for problem in caught.value.problems:
        assert "dp x micro-batch = 16 must divide --global-batch 8" in problem.mend
