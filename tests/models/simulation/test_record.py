"""The record of a step: who sends what to whom and when, and what memory does meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.layout import Layout
from models.memory import capacity_bytes, memory_bill
from models.named_axes import Schedule
from models.simulation.pipeline_order import Pass
from models.simulation.record import record
from models.simulation.stages import held_by
from models.simulation.step import StepSimulation
from models.simulation.timeline import Stream
from tests.models.cases import machine, prepared
from topologies.catalogue import load_cluster
from topologies.fabric import Fabric

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


@pytest.mark.parametrize(("seq_len", "short"), [(32768, False), (131072, True)])
def test_memory_rises_to_what_the_bill_says(seq_len, short):
    """A device that is short of memory gives back what its allocator caches."""
    layout = Layout(dp=4, tp=2, tp_sp=True, pp=4, ulysses=2)
    work = prepared(load_architecture("llama-3.1-8b"), layout, seq_len=seq_len)
    capacity = capacity_bytes(DEVICE.accelerator, DEVICE.profile)
    bill = memory_bill(work, DEVICE.profile, capacity)
    peak = max(nbytes.max() for _, nbytes in record(StepSimulation(work, DEVICE, FABRIC)).memory)
    assert (bill.total[0] > capacity) == short
    assert peak == pytest.approx(bill.total[0], rel=0.01)


@pytest.mark.parametrize(
    ("layout", "stages"),
    [
        (Layout(pp=4, dp=4, schedule=Schedule.DUALPIPE), 4),
        (Layout(pp=4, dp=4, vp=2, schedule=Schedule.DUALPIPE_V), 8),
        (INTERLEAVED, 8),
        (Layout(pp=4, dp=4), 4),
    ],
    ids=str,
)
def test_as_many_gradients_come_back_as_activations_go_on(layout, stages):
    """Every micro-batch crosses every border between ranks once each way."""
    simulation = step(layout)
    timeline = record(simulation)
    borders = stages - 1 - (layout.schedule is Schedule.DUALPIPE_V)  # a V turns round in a rank
    for what in ("activations", "gradients"):
        for verb in ("send", "receive"):
            mine = named(timeline, f"{verb} {what}")
            assert mine.sum() == simulation.micro_batches * borders
    assert len(timeline.flows) == 2 * simulation.micro_batches * borders


def test_sends_and_receipts_of_slow_links_are_in_order():
    """Also of passes that begin with a head start of their parameters."""
    architecture = load_architecture("llama-3.2-1b")
    layout = Layout(pp=4, vp=2, dp=4, schedule=Schedule.INTERLEAVED, zero=1)
    work = prepared(architecture, layout, seq_len=512, global_batch=32)
    slow = Fabric(load_cluster("h100-dgx:2").scale_network(0.02))
    timeline = record(StepSimulation(work, DEVICE, FABRIC, slower={0: slow, 2: slow}))
    assert named(timeline, "send").sum() == 2 * 8 * 7


def test_every_stage_of_a_rank_gathers_behind_all_that_start_before_it():
    """Stages that are alike are gathered one by one too."""
    layout = Layout(pp=4, vp=4, dp=4, schedule=Schedule.INTERLEAVED, zero=1)
    simulation = step(layout)
    gathered = sum(
        task.seconds for task in simulation.pipeline[1].gradients.gathers(simulation.stages[1])
    )
    leads = {}
    for at, (runs, actions) in enumerate(
        zip(simulation.runs, simulation.compiled.runs, strict=True)
    ):
        if simulation.ranks[at] == 1 and actions[0].kind is Pass.FORWARD:
            leads.setdefault(actions[0].stage, (at, runs[0].early[1]))
    starts = simulation.times().start
    first, *others = [leads[stage] for stage in sorted(leads)]
    for number, (at, lead_s) in enumerate(others, 1):
        later = starts[at] - starts[first[0]]
        assert lead_s == pytest.approx(first[1] + later - number * gathered, rel=0.02)


def test_hops_between_windows_that_share_links_with_those_inside_are_of_their_own_group():
    timeline = record(step(Layout(ring=8, inner_ring=4, dp=2)))
    groups = {
        call.name: group
        for (_, number), group in timeline.groups.items()
        if (call := timeline.calls[number]).stream is Stream.CP
    }
    assert groups["inner ring k, v"] == [0, 1, 2, 3]
    assert groups["ring k, v"] == [0, 4]
