"""Figures as data: what they show is what the planner said."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from models.simulation.timeline import Call, Stream
from planner.bounds import Bounds
from planner.disturbances import Disturbances
from planner.pareto import unbeaten_plans
from planner.ranking import plan_scenario
from planner.simulated import simulate_layout
from planner.sweeps import Grid, run_sweep
from topologies.units import GIB
from ui import tables
from ui.estimates import estimate
from ui.figures.accuracy import MOST_SOURCES, scatter
from ui.figures.gantt import COLUMNS, MOST_BARS, _kind, bars, gantt, memory_over_time
from ui.figures.memory import memory
from ui.figures.pareto import pareto
from ui.figures.roofline import roofline
from ui.figures.sweep import crossovers, longest, sweep
from ui.figures.topology import link_heat, mean_use, rank_map
from ui.figures.waterfall import beside, waterfall
from ui.jobs import longest as longest_job
from ui.measured import Point
from ui.question import Question
from ui.scenarios import bounds_of, read_layout, scenarios

SMALL = Question(
    model="llama-3.2-1b", gpus="4,8", seq_len="8k", global_batch="8", pins="kernels=fused"
)
LAYERED = Question(model="llama-3.1-8b", gpus="32", seq_len="8k", global_batch="64")


@pytest.fixture(scope="module")
def plans():
    found = [plan_scenario(each, bounds_of(SMALL), top=20) for each in scenarios(SMALL)]
    return [plan for each in found for plan in each.plans]


@pytest.fixture(scope="module")
def played():
    scenario, layout = read_layout(LAYERED, "pp=4,tp=2,dp=4")
    return simulate_layout(scenario, layout, Disturbances())


def test_pareto_has_every_plan_once_and_a_line_through_those_nothing_beats(plans):
    best = unbeaten_plans(plans)
    figure = pareto(plans, best, plans[3])
    points = [trace for trace in figure.data if trace.customdata is not None]
    assert sorted(int(place) for trace in points for place in trace.customdata) == list(
        range(len(plans))
    )
    for trace in points:
        for place, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            assert x == plans[place].step_time_s
            assert y == plans[place].memory_total_bytes / GIB
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert sum(len(line.x) for line in lines) == len(best)
    assert [trace.x[0] for trace in figure.data if trace.name == "chosen"] == [plans[3].step_time_s]


def test_waterfall_ends_where_the_step_does():
    plan = estimate(LAYERED, "pp=4,tp=2,dp=4").plan
    figure = waterfall(plan)
    *parts, total = figure.data
    assert parts[-1].base[0] + parts[-1].x[0] == pytest.approx(plan.step_time_s)
    assert total.x[0] == plan.step_time_s
    assert total.error_x.array[0] == plan.interval_s[1] - plan.step_time_s
    for before, after in pairwise(parts):
        assert after.base[0] == pytest.approx(before.base[0] + before.x[0])


def test_two_steps_add_up_to_theirs():
    one, other = estimate(LAYERED, "dp=32").plan, estimate(LAYERED, "pp=4,tp=2,dp=4").plan
    sums = np.sum([trace.x for trace in beside(one, other, ("a", "b")).data], axis=0)
    np.testing.assert_allclose(sums, [one.step_time_s, other.step_time_s], rtol=1e-6)


def test_memory_stacks_to_every_stage_and_marks_the_fullest():
    found = estimate(LAYERED, "pp=4,tp=2,dp=4")
    figure = memory(found.stages, found.plan.capacity_bytes)
    sums = np.sum([trace.y for trace in figure.data], axis=0)
    np.testing.assert_allclose(sums, [stage.total_bytes / GIB for stage in found.stages])
    assert len(found.stages) == 4
    (fullest,) = [each for each in figure.layout.annotations if "fullest" in each.text]
    assert fullest.x.startswith(f"<b>{found.plan.memory_stage}</b><br>")
    assert figure.layout.shapes[0].y0 == found.plan.capacity_bytes / GIB


def test_no_operation_is_above_the_roof():
    found = estimate(LAYERED, "pp=4,tp=2,dp=4")
    accelerator = found.scenario.cluster.accelerator
    figure = roofline(found.operations, accelerator)
    roof, *bounds = figure.data
    assert max(roof.y) == accelerator.bf16_flops.value / 1e12
    assert sum(len(trace.x) for trace in bounds) == sum(
        each.intensity is not None for each in found.operations
    )
    for trace in bounds:
        assert max(trace.y) <= max(roof.y)


def test_gantt_covers_what_streams_do(played):
    line = played.timeline
    window = (0.0, line.step_s)
    for rank in range(len(line.ranks)):
        drawn = bars(line, window, [rank])
        computed = [b for b in drawn if "compute" in b.name or b.name == "optimizer"]
        covered = sum(
            end - start
            for each in computed
            for start, end in zip(each.start_s, each.end_s, strict=True)
        )
        assert covered >= line.busy_s(rank, (Stream.COMPUTE,)) * (1 - 1e-6)
        for each in drawn:
            assert all(0.0 < share <= 1.0 for share in each.busy)
        running = sum(
            (end - start) * share
            for each in computed
            for start, end, share in zip(each.start_s, each.end_s, each.busy, strict=True)
        )
        assert running == pytest.approx(line.busy_s(rank, (Stream.COMPUTE,)))
        for each in drawn:
            lanes = zip(each.lane, each.start_s, each.end_s, strict=True)
            for (lane, _, end), (after, start, _) in pairwise(sorted(lanes)):
                assert lane != after or start >= end - line.step_s / COLUMNS


def test_a_narrow_window_shows_single_kernels(played):
    line = played.timeline
    middle = line.step_s / 2
    drawn = bars(line, (middle, middle + line.step_s / 2000), [0])
    texts = [text for each in drawn for text in each.text]
    assert any("spans" not in text for text in texts)
    assert sum(len(each.lane) for each in drawn) <= MOST_BARS * len(drawn)
    inside = (line.end_s > middle) & (line.start_s < middle + line.step_s / 2000)
    assert len(texts) <= int((inside & (line.rank == 0)).sum())


def test_merged_bars_are_the_paler_the_less_runs(played):
    window = (0.0, played.timeline.step_s)
    drawn = {each.name: each for each in bars(played.timeline, window, [0])}
    chart = {trace.name: trace.marker.opacity for trace in gantt(played.timeline, window, [0]).data}
    shares = [share for each in drawn.values() for share in each.busy]
    assert min(shares) < 0.9 < max(shares)
    for name, opacity in chart.items():
        busy = np.array(drawn[name].busy)
        assert (np.array(opacity) == 1.0).tolist() == (busy == 1.0).tolist()
        assert np.array_equal(np.argsort(opacity, kind="stable"), np.argsort(busy, kind="stable"))


def test_gantt_of_nothing_says_so(played):
    assert "Nothing" in gantt(played.timeline, (0.0, 1.0), []).layout.annotations[0].text


def test_memory_over_time_keeps_its_peak(played):
    line = played.timeline
    figure = memory_over_time(line, [0, 3], 80 * GIB, (0.0, line.step_s))
    for trace, place in zip(figure.data, (0, 3), strict=True):
        assert max(trace.y) == pytest.approx(line.memory[place][1].max() / GIB)


def test_every_accelerator_has_its_place_on_the_axis():
    plan = estimate(LAYERED, "pp=4,tp=2,dp=4").plan
    heat = rank_map(plan.placement, "dp").data[0]
    assert np.array(heat.z).ravel().tolist() == plan.placement.ranks()["dp"].tolist()
    assert np.array(heat.z).shape == (4, 8)


def test_heat_is_the_mean_use_of_links(played):
    heat = link_heat(played.timeline).data[0]
    rows = mean_use(played.timeline)
    assert len(heat.y) == len(rows)
    means = sorted(float(row["mean use over the step, %"]) for row in rows)
    np.testing.assert_allclose(sorted(np.mean(heat.z, axis=1)), means, rtol=0.02, atol=0.2)
    assert np.max(heat.z) <= 100.0 + 1e-6


def test_a_sweep_has_each_way_at_every_point_and_says_where_they_cross():
    question = Question(
        model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused pp=1"
    )
    base = scenarios(question)[0]
    grid = Grid(seq_lens=[8192, 131072], gpus=[8], global_batches=[8])
    points = run_sweep(base, grid, bounds_of(question))
    figure = sweep(points, "seq_len")
    assert [trace.name for trace in figure.data][:1] == ["not cut"]
    rows = tables.swept(points, "seq_len")
    rates, behind = figure.data[::2], figure.data[1::2]
    for drawn in (rates, behind):
        assert sum(value is not None for trace in drawn for value in trace.y) == len(rows)
    for at, point in enumerate(points):
        longer = {trace.name: trace.y[at] for trace in behind if trace.y[at] is not None}
        assert min(longer.values()) == 0.0
        slowest = max(plan.step_time_s for plan in point.by_method.values())
        assert max(longer.values()) == pytest.approx(
            100.0 * (slowest / point.best.step_time_s - 1.0)
        )
    words = crossovers(points, "seq_len")
    assert words[0].startswith("From 8k on")
    assert sum(row["best"] for row in rows) == len(points)


def test_longest_sequences_are_bars():
    question = Question(
        model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused pp=1"
    )
    told = []
    found = longest_job(question, (4, 8), told.append)
    figure = longest(found)
    assert list(figure.data[0].y) == [each.seq_len for each in found]
    assert told == [(1, 2), (2, 2)]


def test_accuracy_shows_every_run_and_escapes_names():
    points = [
        Point(f"<b>{at}", f"source {at % 9}", "run", "time", 1.0 + at, 1.1 + at, 1.0, 2.0 + at, 0.1)
        for at in range(40)
    ]
    figure = scatter(points, "s")
    runs = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in runs) == 40
    assert len(runs) == MOST_SOURCES + 1
    assert all("&lt;b&gt;" in text for trace in runs for text in trace.text)
    assert not any("<b><b>" in text for trace in runs for text in trace.text)


def test_bounds_of_nothing_are_free():
    assert bounds_of(Question()) == Bounds({})


def test_phases_have_names_and_colours_of_their_own():
    phases = {
        "forward": "forward compute",
        "backward": "backward compute",
        "input gradient": "backward compute",
        "weight gradient": "backward compute",
        "recomputation": "recomputation",
        "selective recomputation": "recomputation",
        "optimizer": "optimizer",
    }
    calls = tuple(Call(name=each, stream=Stream.COMPUTE, phase=each) for each in phases)
    found = [_kind(SimpleNamespace(calls=calls), number) for number in range(len(calls))]
    assert [name for name, _ in found] == list(phases.values())
    assert len({colour for _, colour in found}) == len(set(phases.values()))
