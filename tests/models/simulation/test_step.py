"""The event clock's step against the closed form, bounds, and itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch
from models.legality import legal
from models.memory import memory_bill
from models.named_axes import Kernels, Recompute, Schedule, StageSplit
from models.recompute_modules import RecomputeModules
from models.rules.rule import Job
from models.simulation.record import record
from models.simulation.stages import held_by
from models.simulation.step import StepSimulation
from models.simulation.step_runs import StepRuns
from models.simulation.timeline import COMMUNICATION, Stream
from models.simulation.trace import write_trace
from models.training import step_time
from models.workload import Workload
from planner.schedules import chunks
from tests import strategies
from tests.models.cases import machine, prepared, toy
from topologies.catalogue import load_cluster
from topologies.fabric import Fabric

DEVICE, FABRIC = machine("h100-dgx:8")


def both(work):
    """Return the closed form's step and the event clock's, where nothing contends."""
    closed = float(step_time(work, DEVICE, FABRIC).total[0])
    return closed, StepSimulation(work, DEVICE, FABRIC, contention=False).step().step_s


@settings(max_examples=200)
@given(strategies.jobs_with_layouts())
def test_both_clocks_agree_where_nothing_contends(drawn):
    """GPipe and 1F1B whatever the stages; gradients reduced once a step where there are several.

    The closed form spreads what a few layers compute again over all of them: where each layer waits
    for messages of its own that is 2 to 3% off.
    """
    layout = drawn.layouts[0]
    assume(layout.schedule in (Schedule.GPIPE, Schedule.ONE_F_ONE_B))
    assume(not layout.recompute_layers or layout.zero < 3)
    closed, played = both(drawn.prepared())
    assert played == pytest.approx(closed, rel=0.015)


@st.composite
def even_stages(draw):
    """Draw a layout of any schedule but GPipe and 1F1B, and as many layers on every stage."""
    schedule = draw(st.sampled_from([each for each in Schedule if each > Schedule.ONE_F_ONE_B]))
    pp, vp = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(chunks(schedule, [1, 2, 4])))
    model = toy(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=pp * vp * draw(st.integers(1, 3)),
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    layout = Layout(
        pp=pp,
        vp=vp,
        schedule=schedule,
        dp=draw(st.sampled_from([1, 2])),
        tp=draw(st.sampled_from([1, 2, 4])),
        ring=draw(st.sampled_from([1, 2])),
        kernels=draw(st.sampled_from(list(Kernels))),
        recompute=draw(st.sampled_from(list(Recompute))),
        zero=draw(st.sampled_from([0, 1])),
    )
    many = pp * draw(st.integers(2, 6))
    workload = Workload(seq_len=2 ** draw(st.integers(14, 17)), global_batch=many * layout.dp)
    job = Job(architecture=model, workload=workload, gpus=layout.gpus)
    assume(bool(legal(LayoutBatch.of([layout]), job)[0]))
    return strategies.Drawn(job, (layout,))


@settings(max_examples=200)
@given(even_stages())
def test_both_clocks_agree_on_every_other_schedule_of_stages_that_are_alike(drawn):
    """Alike they are without what only the first and the last stage do.

    From 16k tokens: in shorter passes than that reductions do not end before the next stage's, and
    what they take of its passes is lost in waiting there, which the closed form counts (1.4% of a
    step at 8k).
    """
    work = drawn.prepared()
    ends = {
        end: replace(getattr(work, end), forward=(), backward=()) for end in ("embedding", "head")
    }
    closed, played = both(replace(work, **ends))
    assert played == pytest.approx(closed, rel=0.01)


@settings(max_examples=60)
@given(strategies.jobs_with_layouts())
def test_contention_only_slows_and_never_below_one_thing_after_the_other(drawn):
    work = drawn.prepared()
    free = StepSimulation(work, DEVICE, FABRIC, contention=False)
    shared = StepSimulation(work, DEVICE, FABRIC)
    assert shared.step().step_s >= free.step().step_s * (1 - 1e-9)
    pace = np.array([_one_by_one(runs) for runs in shared.runs])
    own = np.array([sum(run.seconds for run in runs) for runs in shared.runs])
    assert np.all(own <= pace * (1 + 1e-9))


def _one_by_one(runs):
    """Return the seconds of some passes if nothing overlapped and compute were always stolen."""
    return sum(
        sum(task.seconds for task in part.program.tasks)
        + sum(task.steal * task.seconds for task in part.program.tasks) * 4
        for run in runs
        for _, part in run.runs
    )


EXAMPLES = [
    Layout(tp=2, pp=4, vp=2, dp=4, schedule=Schedule.INTERLEAVED),
    Layout(tp=2, pp=4, dp=4, tp_sp=True),
    Layout(ulysses=4, ring=2, dp=4, zero=3),
    Layout(ring=8, inner_ring=4, dp=4, zero=2, dp_replicate=2),
    Layout(pp=4, ring=2, dp=4, schedule=Schedule.GPIPE, recompute=Recompute.FULL),
    Layout(tp=2, dp=4, recompute=Recompute.SELECTIVE, recompute_modules=RecomputeModules.MLP),
]


@pytest.mark.parametrize("modules", strategies.DENSE_SETS, ids=lambda modules: modules.label)
def test_both_clocks_agree_on_every_set_of_modules(modules):
    architecture = load_architecture("llama-3.1-8b")
    for degrees in ({"tp": 4, "tp_sp": True, "ring": 2}, {"ulysses": 4, "pp": 2}, {"tp": 2}):
        layout = Layout(**degrees, recompute=Recompute.SELECTIVE, recompute_modules=modules)
        work = prepared(architecture, layout, seq_len=32768, global_batch=8)
        closed, played = both(work)
        assert played == pytest.approx(closed, rel=0.01)


def example(layout, **more):
    work = prepared(load_architecture("llama-3.1-8b"), layout, seq_len=8192, global_batch=64)
    return StepSimulation(work, DEVICE, FABRIC, **more)


@pytest.mark.parametrize("layout", EXAMPLES, ids=str)
def test_the_record_is_the_step(layout, tmp_path):
    """Compute, communication, sends with their receipts; the same bytes every time."""
    simulation = example(layout)
    step, timeline = simulation.step(), record(simulation)
    assert timeline.step_s == pytest.approx(step.step_s)
    assert len(timeline.ranks) == layout.pp
    assert timeline.world_size == layout.gpus
    for rank in range(layout.pp):
        computed = timeline.busy_s(rank, [Stream.COMPUTE])
        assert computed + timeline.idle_s(rank) <= timeline.step_s * (1 + 1e-9)
        sent = timeline.busy_s(rank, COMMUNICATION)
        assert timeline.overlap_s(rank) + timeline.exposed_s(rank) == pytest.approx(sent)
    many = simulation.micro_batches
    assert len(timeline.flows) == 2 * many * (layout.pp * layout.vp - 1) * (layout.pp > 1)
    files = [tmp_path / f"{name}.json.gz" for name in "ab"]
    for file in files:
        write_trace(record(example(layout)), str(file), device="H100")
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("layout", EXAMPLES, ids=str)
def test_memory_in_use_peaks_where_the_bill_says(layout):
    """The fullest rank of the bill, within what its formula for all ranks rounds."""
    simulation = example(layout)
    peaks = [float(nbytes.max()) for _, nbytes in record(simulation).memory]
    bill = memory_bill(simulation.prepared, DEVICE.profile)
    assert max(peaks) == pytest.approx(float(bill.total[0]), rel=0.03)
    for _, nbytes in record(simulation).memory:
        assert nbytes[-1] == pytest.approx(nbytes[0])


@pytest.mark.parametrize("layout", EXAMPLES, ids=str)
def test_no_class_of_links_is_used_beyond_its_rate(layout):
    links = record(example(layout)).links
    assert links
    for name, _, when, share in links:
        assert np.all(share <= 1 + 1e-6), name
        assert share[-1] == pytest.approx(0.0, abs=1e-9)
        assert np.all(np.diff(when) > 0)


def test_every_layer_of_every_micro_batch_is_in_the_record():
    simulation = example(EXAMPLES[1])
    timeline = record(simulation)
    names = np.array([call.name for call in timeline.calls])
    many = simulation.micro_batches
    for name, times in (("core attention", 32 * 2), ("qkv", 32), ("qkv wgrad", 32), ("head", 1)):
        assert (names[timeline.call] == name).sum() == times * many, name


def test_bubbles_are_what_ranks_wait_between_their_passes():
    step = example(EXAMPLES[1]).step()
    assert np.all(step.bubble_s <= step.idle_s + 1e-12)
    assert step.idle_s[0] < step.idle_s[1:3].max() * 2
    assert step.step_s == pytest.approx(step.reduced_s + step.optimizer_s + step.overhead_s)


def test_slower_links_of_one_pipeline_rank_slow_the_step():
    slow = Fabric(load_cluster("h100-dgx:8").scale_network(0.25))
    for layout in EXAMPLES[:2]:
        even, crippled = example(layout).step(), example(layout, slower={2: slow}).step()
        assert crippled.step_s > even.step_s


def test_asynchronous_ulysses_hides_two_of_three_exchanges_at_most():
    layout = Layout(ulysses=8, dp=4)
    plain, ahead = example(layout), example(layout, async_ulysses=True)
    assert ahead.step().step_s < plain.step().step_s

    def exchanged(simulation):
        timeline = record(simulation)
        names = np.array([call.name for call in timeline.calls])[timeline.call]
        mine = names == "ulysses q, k, v"
        return float((timeline.end_s - timeline.start_s)[mine].sum())

    assert exchanged(ahead) == pytest.approx(exchanged(plain), rel=0.05)
    spared = plain.step().step_s - ahead.step().step_s
    assert spared <= exchanged(plain) * 2 / 3
    alone = Layout(ring=8, dp=4)  # nothing to exchange
    assert example(alone, async_ulysses=True).step().step_s == example(alone).step().step_s


def test_repeated_layers_are_spread_over_the_chunks_of_a_rank():
    layout = replace(
        EXAMPLES[0], recompute=Recompute.FULL, recompute_layers=3, stage_split=StageSplit.EVEN
    )
    stages = example(layout).stages
    assert [sum(stage.repeated) for stage in stages] == [1] * 4 + [2] * 4


def test_bubbles_are_idle_time_less_what_comes_before_and_after_the_ranks_passes():
    simulation = example(EXAMPLES[1])
    step, start = simulation.step(), simulation.times().start
    first = [start[simulation.compiled.rank == rank].min() for rank in range(4)]
    outside = np.array(first) + step.pipeline_s - step.last_s
    assert step.idle_s - step.bubble_s == pytest.approx(outside)


def test_gradients_of_a_rank_are_reduced_from_its_last_pass_on_and_one_after_the_other():
    layout = Layout(tp=8, pp=4, vp=2, dp=2, schedule=Schedule.INTERLEAVED)
    work = prepared(load_architecture("llama-3.1-8b"), layout, seq_len=512, global_batch=8)
    simulation = StepSimulation(work, DEVICE, FABRIC)
    step, end = simulation.step(), simulation.times().end
    assert np.all(step.tail_s >= 0)
    assert step.reduced_s == pytest.approx((step.last_s + step.tail_s).max())
    for rank in range(layout.pp):
        tails = [
            (end[at], run.tail_s)
            for at, runs in enumerate(simulation.runs)
            for run in runs
            if simulation.ranks[at] == rank and run.tail_s
        ]
        assert len(tails) == layout.vp
        one_by_one = min(tails)[0] + sum(tail_s for _, tail_s in tails)
        assert step.last_s[rank] + step.tail_s[rank] >= one_by_one * (1 - 1e-12)


def test_slower_links_of_one_pipeline_rank_slow_its_own_passes_only():
    slow = Fabric(load_cluster("h100-dgx:8").scale_network(0.25))
    layout = Layout(ring=16, pp=4)
    even, crippled = example(layout), example(layout, slower={2: slow})
    slowed = crippled.seconds > even.seconds * (1.0 + 1e-9)
    # Forward passes so small take the host's time, whatever their links.
    assert set(np.array(even.ranks)[slowed]) == {2}
    assert slowed.sum() == (np.array(even.ranks) == 2).sum() / 2


@pytest.mark.parametrize(
    ("layout", "more"),
    [
        (EXAMPLES[2], {"contention": False}),
        (Layout(ulysses=8, dp=4), {"async_ulysses": True}),
        (
            Layout(ring=16, pp=4),
            {"slower": {2: Fabric(load_cluster("h100-dgx:8").scale_network(0.25))}},
        ),
    ],
    ids=["contention", "async_ulysses", "slower"],
)
def test_a_step_with_all_of_its_attention_is_the_step_itself(layout, more):
    simulation = example(layout, **more)
    assert simulation.seconds.tolist() != example(layout).seconds.tolist()
    assert simulation.with_attention(1.0).seconds.tolist() == simulation.seconds.tolist()


def test_a_rank_gathers_its_stages_one_after_the_other():
    """The second has what is left of the time until it starts; the ends of the model differ."""
    simulation = example(EXAMPLES[0])
    parts = ("prepared", "compiled", "stages", "pipeline", "waits")
    runs = StepRuns(**{part: getattr(simulation, part) for part in parts})
    for rank in (0, 3):
        first, second = (simulation.stages[at] for at in held_by(rank, simulation.way))
        gathers = simulation.pipeline[rank].gradients.gathers(first)
        at = next(
            at
            for at, (action, *_) in enumerate(simulation.compiled.runs)
            if simulation.stages[action.stage] is second
        )
        _, lead_s = simulation.runs[at][0].early
        assert lead_s == pytest.approx(runs._starts[at] - sum(task.seconds for task in gathers))


@pytest.mark.parametrize("schedule", [Schedule.DUALPIPE, Schedule.DUALPIPE_V])
def test_what_a_rank_has_made_is_sent_beside_the_first_pass_of_a_pair_only(schedule):
    vp = 2 if schedule is Schedule.DUALPIPE_V else 1
    simulation = example(Layout(pp=4, dp=4, vp=vp, schedule=schedule))
    pairs = [runs for runs in simulation.runs if len(runs) == 2]
    assert any(first.send_s > 0 for first, _ in pairs)
    assert {second.send_s for _, second in pairs} == {0.0}


#: Layouts of short passes whose gradients cross the network, and how near the clocks are there.
EXPOSED = [
    (Layout(tp=8, pp=4, dp=4, zero=2), 1, 1, 2048, 0.03),
    (Layout(tp=8, pp=4, dp=4, vp=2, zero=0, schedule=Schedule.ZB_V), 3, 2, 2048, 0.01),
    (Layout(tp=8, pp=4, dp=4, vp=4, zero=1, schedule=Schedule.INTERLEAVED), 3, 1, 2048, 0.04),
    (Layout(tp=8, pp=4, dp=4, zero=0, schedule=Schedule.DUALPIPE), 1, 2, 8192, 0.01),
]


@pytest.mark.parametrize(("layout", "layers", "many", "seq_len", "near"), EXPOSED, ids=str)
def test_both_clocks_agree_on_gradients_that_passes_do_not_hide(
    layout, layers, many, seq_len, near
):
    model = toy(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=layout.pp * layout.vp * layers,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    work = prepared(model, layout, seq_len=seq_len, global_batch=layout.pp * many * layout.dp)
    ends = {
        end: replace(getattr(work, end), forward=(), backward=()) for end in ("embedding", "head")
    }
    work = replace(work, **ends)
    device, fabric = machine("h100-dgx:32")
    closed = step_time(work, device, fabric)
    assert closed.dp / closed.total > 0.05
    played = StepSimulation(work, device, fabric, contention=False).step().step_s
    assert float(closed.total[0]) == pytest.approx(played, rel=near)


def test_reductions_that_go_on_take_of_the_passes_behind_them():
    layout = Layout(tp=8, pp=4, dp=4, vp=4, zero=1, schedule=Schedule.INTERLEAVED)
    model = toy(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=48,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    work = prepared(model, layout, seq_len=2048, global_batch=16)
    for share in (0.05, 0.3):
        device, fabric = machine("h100-dgx:32", steal_data_parallel=share)
        simulation = StepSimulation(work, device, fabric, contention=False)
        own = np.array([sum(run.seconds for run in runs) for runs in simulation.runs])
        taken = simulation.seconds - own
        tails = sum(runs[-1].tail_s for runs in simulation.runs)
        assert 0.1 * share * tails < taken.sum() <= share * tails * (1 + 1e-9)
        assert (taken <= share * own * (1 + 1e-9)).all()
