"""The record of a step: who sends what to whom and when, and what memory does meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.layout import Layout, Schedule
from models.simulation.record import record
from models.simulation.stages import held_by
from models.simulation.step import StepSimulation
from models.simulation.timeline import Stream
from tests.models.cases import machine, prepared

DEVICE, FABRIC = machine("h100-dgx:8")
INTERLEAVED = Layout(tp=2, pp=4, vp=2, dp=4, schedule=Schedule.INTERLEAVED)
PIPELINE = Layout(tp=2, pp=4, dp=4, tp_sp=True)


def step(layout, **more):
    work = prepared(load_architecture("llama-3.1-8b"), layout, seq_len=8192, global_batch=64)
    return StepSimulation(work, DEVICE, FABRIC, **more)


def named(timeline, name):
    """Return which spans have a name that begins so."""
    names = np.array([call.name for call in timeline.calls])
    return np.char.startswith(names, name)[timeline.call]


@pytest.mark.parametrize(
    "layout",
    [
        INTERLEAVED,
        Layout(pp=4, dp=4, schedule=Schedule.DUALPIPE),
        Layout(pp=4, dp=4, vp=2, schedule=Schedule.DUALPIPE_V, zero=0),
    ],
    ids=str,
)
def test_every_stage_of_a_rank_is_gathered_and_reduced_once(layout):
    """As long as it takes alone, where nothing contends."""
    simulation = step(layout, contention=False)
    timeline = record(simulation)
    lasts = timeline.end_s - timeline.start_s
    for rank, own in enumerate(simulation.pipeline):
        stages = [simulation.stages[at] for at in held_by(rank, simulation.way)]
        reduced = [
            task.seconds
            for stage in stages
            for bucket in own.gradients.reductions(stage)
            for task in bucket
        ]
        gathered = [task.seconds for stage in stages for task in own.gradients.gathers(stage)]
        mine = timeline.rank == rank
        assert lasts[mine & named(timeline, "reduce")].sum() == pytest.approx(sum(reduced))
        assert lasts[mine & named(timeline, "gather")].sum() == pytest.approx(
            sum(gathered) if layout.zero else 0.0
        )


def test_ranks_that_wait_for_a_micro_batch_gather_meanwhile():
    timeline = record(step(PIPELINE))
    for rank in range(1, 4):
        mine = timeline.rank == rank
        computed = timeline.start_s[mine & (timeline.stream == Stream.COMPUTE)].min()
        gathered = timeline.end_s[mine & named(timeline, "gather parameters")]
        assert gathered.max() <= computed


def test_activations_go_forward_and_gradients_back():
    simulation = step(PIPELINE)
    timeline, each = record(simulation), simulation.micro_batches * 3
    for name in ("activations", "gradients"):
        for verb in ("send", "receive"):
            assert named(timeline, f"{verb} {name}").sum() == each
    ranks = {
        timeline.calls[timeline.call[at]].name: timeline.rank[to] - timeline.rank[at]
        for at, to in timeline.flows
    }
    assert ranks == {"send activations": 1, "send gradients": -1}


@pytest.mark.parametrize(
    "layout",
    [
        PIPELINE,
        Layout(ulysses=4, ring=2, dp=4, zero=3),
        Layout(ring=4, tp=2, dp=8, zero=2, dp_replicate=2),
    ],
    ids=str,
)
def test_groups_have_as_many_ranks_as_their_calls_say(layout):
    timeline = record(step(layout))
    for (place, call), ranks in timeline.groups.items():
        assert len(set(ranks)) == timeline.calls[call].group
        assert timeline.ranks[place] in ranks


def test_replicas_lie_as_far_apart_as_their_shards_reach():
    timeline = record(step(Layout(ring=4, tp=2, dp=8, zero=2, dp_replicate=2)))
    names = [call.name for call in timeline.calls]
    assert timeline.groups[0, names.index("reduce gradients")] == list(range(0, 32, 2))
    assert timeline.groups[0, names.index("reduce gradients across replicas")] == [0, 32]


def test_memory_is_taken_by_forward_passes_and_free_once_weights_have_gradients():
    simulation = step(Layout(tp=2, pp=4, dp=4, schedule=Schedule.ZB_H1))
    times, last_s = simulation.times(), simulation.step().last_s
    for rank, (when, nbytes) in enumerate(record(simulation).memory):
        own = simulation.compiled.rank == rank
        assert when[1] == times.start[own].min()
        assert when[-1] == last_s[rank]
        assert nbytes[1] > nbytes[0]
        assert nbytes[-2] > nbytes[-1] == pytest.approx(nbytes[0])
