"""Interleaved pipelines of unequal chunks, against their order walked pass by pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planner
from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from models.pipeline import PassSeconds, PipelineClock
from models.simulation.pipeline_order import Pass
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled
from models.stages import layer_weights, stage_sizes
from models.uneven_chunks import BACKWARD, waits
from tests.models.cases import machine, prepared, toy

DEVICE, FABRIC = machine()


def interleaved(pp: int, vp: int) -> Layout:
    """Return a pipeline of balanced chunks."""
    return Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED, stage_split=StageSplit.BALANCED)


@given(
    pp=st.sampled_from([2, 3, 4, 8]),
    vp=st.integers(2, 4),
    more=st.integers(0, 31),
    rounds=st.integers(1, 5),
)
def test_pipelines_take_what_their_order_takes(pp: int, vp: int, more: int, rounds: int) -> None:
    """Hops take no time, chunks what their layers weigh; the order is walked by the event clock."""
    layers, layout, micro_batches = pp * vp + more % (pp * vp), interleaved(pp, vp), rounds * pp
    work = prepared(toy(num_hidden_layers=layers), layout, global_batch=micro_batches)
    weights, head = layer_weights(work.architecture, work.workload)
    sizes = stage_sizes(work.architecture, work.workload, layout)
    held = np.array(sizes) * weights[0]
    held[-1] += head
    order = Compiled.of(*ordered(Schedule.INTERLEAVED, pp, micro_batches, vp))
    factor = {Pass.FORWARD: 1.0, Pass.BACKWARD: BACKWARD}
    seconds = np.array([factor[run.kind] * held[run.stage] for (run,) in order.runs])
    clock = PipelineClock(work, DEVICE, FABRIC)
    clock.hop = np.zeros(1)
    ranks = work.stages
    forward = (ranks.layers[0] * weights[0] + ranks.last[0] * head)[:, None]
    none = np.zeros_like(forward)
    passes = PassSeconds(forward=forward, backward=BACKWARD * forward, inputs=none, weights=none)
    walked = order.times(seconds).end.max()
    assert clock.seconds(passes)[0] == pytest.approx(walked, rel=0.02)


def test_nothing_is_added_where_chunks_are_alike() -> None:
    layouts = [Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED), Layout(pp=4), Layout()]
    work = prepared(toy(num_hidden_layers=24), *layouts, global_batch=16)
    assert waits(work).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("model", "cluster", "job"),
    [
        ("deepseek-v3", "h100-dgx:32", {"global_batch": 512, "pp": 8, "vp": 7, "ep": 32}),
        ("llama-3.1-405b", "h100-dgx:64", {"global_batch": 256, "pp": 16, "vp": 7, "tp": 8}),
        ("llama-3.1-70b", "h100-dgx:8", {"global_batch": 32, "pp": 8, "vp": 7, "tp": 4}),
        ("llama-3.1-70b", "h100-dgx:8", {"global_batch": 64, "pp": 8, "vp": 3, "tp": 4}),
    ],
)
def test_both_clocks_agree_on_unequal_chunks(
    model: str, cluster: str, job: dict[str, object]
) -> None:
    job = {"seq_len": "4k", "recompute": "full", "stage_split": "balanced", **job}
    answer = planner.simulate(model, cluster, schedule="interleaved", **job)
    assert len(set(answer.plan.stage_layers[:-1])) == 2
    assert answer.plan.step_time_s == pytest.approx(answer.step.step_s, rel=0.04)
    fullest = max(nbytes.max() for _, nbytes in answer.timeline.memory)
    assert answer.plan.memory_total_bytes == pytest.approx(fullest, rel=0.01)
