"""Pipelines whose ranks hold unequal stages, against their order walked pass by pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from models.held_stages import most_held_of_two
from models.layer_cuts import stage_weights
from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from models.pipeline import PassSeconds, PipelineClock
from models.simulation.pipeline_order import Action, Pair, Pass
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled
from models.stages import StageTable, stage_sizes
from models.turns import most_held
from models.uneven_chunks import passes_of, waits
from tests.models.cases import machine, prepared, toy

DEVICE, FABRIC = machine()
SEVERAL = {Schedule.ZB_V: 2, Schedule.DUALPIPE_V: 2, Schedule.DUALPIPE: 1}


def interleaved(pp: int, vp: int) -> Layout:
    """Return a pipeline of balanced chunks."""
    return Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED, stage_split=StageSplit.BALANCED)


@given(
    pp=st.sampled_from([2, 3, 4, 8]),
    vp=st.integers(2, 4),
    more=st.integers(0, 31),
    rounds=st.sampled_from([1, 2, 3, 5, 16]),
    windows=st.booleans(),
)
def test_pipelines_take_what_their_order_takes(
    pp: int, vp: int, more: int, rounds: int, windows: bool
) -> None:
    """Hops take no time, chunks what their layers do; the order is walked by the event clock."""
    layers, layout, micro_batches = pp * vp + more % (pp * vp), interleaved(pp, vp), rounds * pp
    kinds = {"model_type": "gemma3_text", "sliding_window": 512} if windows else {}
    model = toy(num_hidden_layers=layers, **kinds)
    work = prepared(model, layout, global_batch=micro_batches)
    sizes = stage_sizes(work.architecture, work.workload, layout)
    alone = replace(work.workload, global_batch=1)
    ahead, back = (
        np.array(stage_weights(sizes, each.layers, each.head))
        for each in passes_of(work.architecture, alone, DEVICE, FABRIC)
    )
    order = Compiled.of(*ordered(Schedule.INTERLEAVED, pp, micro_batches, vp))
    lengths = {Pass.FORWARD: ahead, Pass.BACKWARD: back}
    seconds = np.array([lengths[run.kind][run.stage] for (run,) in order.runs])
    clock = PipelineClock(work, DEVICE, FABRIC)
    clock.hop = np.zeros(1)
    # Every rank as a kind of its own.
    clock.prepared = replace(
        work, stages=StageTable.one_by_one(work.architecture, work.batch, work.workload)
    )
    forward, backward = (
        np.array([[held[rank::pp].sum()] for rank in range(pp)]) for held in (ahead, back)
    )
    none = np.zeros_like(forward)
    found = clock.seconds(
        PassSeconds(forward=forward, backward=backward, inputs=none, weights=none)
    )[0]
    assert found == pytest.approx(order.times(seconds).end.max(), rel=0.03)
    assert found >= micro_batches * (forward + backward).max() * (1 - 1e-9)


def test_nothing_is_added_where_chunks_are_alike() -> None:
    layouts = [Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED), Layout(pp=4), Layout()]
    work = prepared(toy(num_hidden_layers=24), *layouts, global_batch=16)
    assert waits(work, DEVICE, FABRIC).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("model", "cluster", "job"),
    [
        ("deepseek-v3", "h100-dgx:32", {"global_batch": 512, "pp": 8, "vp": 7, "ep": 32}),
        ("llama-3.1-405b", "h100-dgx:64", {"global_batch": 256, "pp": 16, "vp": 7, "tp": 8}),
        ("llama-3.1-70b", "h100-dgx:8", {"global_batch": 32, "pp": 8, "vp": 7, "tp": 4}),
        ("llama-3.1-70b", "h100-dgx:8", {"global_batch": 64, "pp": 8, "vp": 3, "tp": 4}),
        ("gemma-3-27b", "h100-dgx:8", {"global_batch": 32, "pp": 4, "vp": 10, "tp": 8}),
        ("gemma-3-1b", "h100-dgx:1", {"global_batch": 16, "pp": 4, "vp": 3, "recompute": "none"}),
        ("qwen3-0.6b", "h100-dgx:1", {"global_batch": 64, "pp": 4, "vp": 3, "recompute": "none"}),
        ("nemotron-h-8b", "h100-dgx:4", {"global_batch": 64, "pp": 2, "vp": 8}),
        ("llama-4-maverick", "h100-dgx:32", {"global_batch": 256, "pp": 8, "vp": 4, "ep": 32}),
        ("qwen3-next-80b-a3b", "h100-dgx:8", {"global_batch": 64, "pp": 4, "vp": 5, "ep": 8}),
    ],
)
def test_both_clocks_agree_on_unequal_chunks(
    model: str, cluster: str, job: dict[str, object]
) -> None:
    job = {"seq_len": "4k", "recompute": "full", "stage_split": "balanced", **job}
    answer = planner.simulate(model, cluster, schedule="interleaved", **job)
    assert len(set(answer.plan.stage_layers[:-1])) > 1
    assert answer.plan.step_time_s == pytest.approx(answer.step.step_s, rel=0.045)
    fullest = max(nbytes.max() for _, nbytes in answer.timeline.memory)
    assert answer.plan.memory_total_bytes == pytest.approx(fullest, rel=0.01)


@pytest.mark.parametrize(
    ("model", "job"),
    [
        ("gemma-3-27b", {"global_batch": 128, "tp": 2, "pp": 8, "schedule": "zb-v"}),
        ("gemma-3-27b", {"global_batch": 128, "tp": 2, "pp": 8, "schedule": "dualpipe-v"}),
        ("llama-3.1-70b", {"global_batch": 64, "tp": 4, "pp": 8, "schedule": "zb-v"}),
        ("gemma-3-1b", {"global_batch": 256, "pp": 4, "schedule": "zb-v"}),
        ("gemma-3-1b", {"global_batch": 256, "pp": 4, "schedule": "dualpipe"}),
        ("qwen3-0.6b", {"global_batch": 64, "pp": 4, "schedule": "interleaved"}),
        ("qwen3-0.6b", {"global_batch": 128, "pp": 4, "schedule": "interleaved"}),
    ],
)
def test_both_clocks_hold_as_much_of_unequal_stages(model: str, job: dict[str, object]) -> None:
    """Ranks of two stages; interleaved ones with one round of micro-batches and with several."""
    if job["schedule"] != "dualpipe":
        job = {"vp": 2, **job}
    answer = planner.simulate(
        model, "h100-dgx:8", seq_len="8k", stage_split="balanced", zero=1, **job
    )
    assert len(set(answer.plan.stage_layers)) > 1
    fullest = max(nbytes.max() for _, nbytes in answer.timeline.memory)
    assert answer.plan.memory_total_bytes == pytest.approx(fullest, rel=1e-3)


def test_no_step_is_shorter_than_its_slowest_rank() -> None:
    """Where a third round is shorter than the second, further ones are not."""
    plan = planner.estimate(
        "qwen3-4b",
        "h100-dgx:1",
        seq_len="4k",
        global_batch=2048,
        pp=2,
        vp=3,
        schedule="interleaved",
        stage_split="balanced",
    )
    assert 0.0 < plan.bubble_fraction < 0.01


@given(
    layers=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    pp=st.integers(2, 6),
    data=st.data(),
)
def test_ranks_hold_what_their_order_holds_at_most(
    layers: list[int], pp: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, pp - 1))
    order, _ = ordered(Schedule.INTERLEAVED, pp, 4 * pp, len(layers))
    held, most = [0] * len(layers), 0
    for step in order[rank]:
        assert isinstance(step, Action)
        chunk = step.stage // pp
        held[chunk] += 1 if step.kind is Pass.FORWARD else -1
        last = rank == pp - 1 and (step.kind, chunk) != (Pass.FORWARD, len(layers) - 1)
        if not last:  # the loss is there beside
            most = max(most, sum(many * each for many, each in zip(held, layers, strict=True)))
    found = most_held(layers, pp, rank)
    assert sum(many * each for many, each in zip(found, layers, strict=True)) == most


@given(
    schedule=st.sampled_from([Schedule.ZB_V, Schedule.DUALPIPE_V, Schedule.DUALPIPE]),
    pp=st.sampled_from([2, 4, 6, 8]),
    layers=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
)
def test_ranks_of_two_stages_hold_what_their_order_holds_at_most(
    schedule: Schedule, pp: int, layers: tuple[int, int], data: st.DataObject
) -> None:
    """However long the step; what is held goes with the last of a micro-batch's passes."""
    rank = data.draw(st.integers(0, pp - 1))
    order, way = ordered(schedule, pp, 8 * pp, SEVERAL[schedule])
    last = len(way.ranks) - 1
    mine = sorted({act.stage for step in order[rank] for act in _actions(step)})
    weights = dict(zip(mine, layers, strict=True))
    held, most, passes = dict.fromkeys(mine, 0), 0, 0
    for step in order[rank]:
        for act in _actions(step):
            held[act.stage] += act.kind is Pass.FORWARD
        passes = max(passes, sum(held.values()))
        if last not in mine or held[last]:
            most = max(most, sum(many * weights[stage] for stage, many in held.items()))
        for act in _actions(step):
            held[act.stage] -= act.kind in (Pass.BACKWARD, Pass.WEIGHT_GRADIENT)
    often, together = most_held_of_two(schedule, pp, rank, weights, last)
    assert together == passes
    assert sum(many * weights[stage] for stage, many in often.items()) == most


def _actions(step: Action | Pair) -> list[Action]:
    return [step] if isinstance(step, Action) else [*step]
