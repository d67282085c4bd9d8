"""Pipelines of equal and of unequal stages, against schedules run pass by pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.layout import Layout
from models.named_axes import Schedule
from models.pipeline import PassSeconds, PipelineClock
from models.rank_parts import RankParts
from models.schedule import APART, PATHS, SEVERAL_CHUNKS, Path
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled
from tests.models.cases import machine, prepared, toy
from tests.models.schedules import Row, one_f_one_b_makespan, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICE, FABRIC = machine()


def pipeline_of(layout: Layout, micro_batches: int, layers: int = 64) -> PipelineClock:
    """Return the clock of one pipeline whose hops take no time."""
    work = prepared(toy(num_hidden_layers=layers), layout, global_batch=micro_batches)
    clock = PipelineClock(work, DEVICE, FABRIC)
    clock.hop = np.zeros(1)
    return clock


def passes(forward: Any, inputs: Any, weights: Any) -> PassSeconds:
    """Return the passes of kinds of rank."""
    columns = [np.reshape(np.asarray(each, float), (-1, 1)) for each in (forward, inputs, weights)]
    forward, inputs, weights = np.broadcast_arrays(*columns)
    return PassSeconds(forward=forward, backward=inputs + weights, inputs=inputs, weights=weights)


@pytest.mark.parametrize("row", rows(), ids=str)
def test_equal_stages_take_what_the_published_generators_take(row: Row) -> None:
    """The closed forms themselves on unit passes: the published makespan, to the digit."""
    layout = Layout(pp=row.pp, vp=row.vp, schedule=row.schedule)
    clock = pipeline_of(layout, row.micro_batches)
    one = np.ones(clock.prepared.stages.width)
    assert clock.seconds(passes(one, one, one)) == pytest.approx(row.makespan, abs=0.01)
    if not APART[row.schedule]:
        turns = row.micro_batches + (row.pp - 1) / row.vp
        assert row.makespan == pytest.approx(turns * 3.0, abs=0.01)


def off(ranks: Sequence[float], micro_batches: int) -> float:
    """Return how far the closed form is off a schedule of four unequal ranks run pass by pass."""
    first, middle, last = ranks
    (closed,) = pipeline_of(Layout(pp=4), micro_batches, layers=4).seconds(
        passes(ranks, ranks, ranks)
    )
    every = [first, middle, middle, last]
    run = one_f_one_b_makespan(every, [2 * f for f in every], micro_batches)
    return float(closed / run - 1.0)


@given(
    ranks=st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3),
    micro_batches=st.integers(1, 24),
)
def test_one_f_one_b_with_unequal_stages_against_a_schedule_run_pass_by_pass(
    ranks: list[float], micro_batches: int
) -> None:
    """Exact where the last stage is the slowest (the head's)."""
    found = off(ranks, micro_batches)
    assert -0.05 < found < 0.15
    if ranks[-1] == max(ranks):
        assert found == pytest.approx(0.0, abs=1e-12)


def test_nine_of_ten_one_f_one_b_pipelines_take_what_their_passes_take() -> None:
    """Ranks up to four times apart, one to 24 micro-batches."""
    draw = np.random.default_rng(0)
    found = [abs(off(draw.uniform(0.5, 2.0, 3), int(draw.integers(1, 25)))) for _ in range(300)]
    assert np.quantile(found, [0.5, 0.9]) == pytest.approx([0.0, 0.0], abs=0.01)


@pytest.mark.parametrize("schedule", [s for s in Schedule if s > Schedule.INTERLEAVED])
@pytest.mark.parametrize("heavier", [1.05, 1.2, 1.5])
def test_a_slower_rank_sets_the_pace(schedule: Schedule, heavier: float) -> None:
    """Ranks with the head take longer: within 2% of the schedule run pass by pass."""
    vp = 2 if SEVERAL_CHUNKS[schedule] else 1
    clock = pipeline_of(Layout(pp=4, vp=vp, schedule=schedule), 32)
    slow = np.where(clock.prepared.stages.last[0] > 0, heavier, 1.0)
    (closed,) = clock.seconds(passes(slow, 1.5 * slow, 0.5 * slow))
    compiled = Compiled.of(*ordered(schedule, 4, 32, vp))
    spent = {"F": 1.0, "B": 2.0, "I": 1.5, "W": 0.5}
    held = {Path.LOOP: [3], Path.VEE: [0], Path.BOTH_WAYS: [0, 3]}
    seconds = np.array([sum(spent[action.kind] for action in runs) for runs in compiled.runs])
    seconds *= np.where(np.isin(compiled.rank, held[Path(PATHS[schedule])]), heavier, 1.0) / vp
    assert closed == pytest.approx(compiled.times(seconds).end.max(), rel=0.02)


def test_sends_hide_beside_other_passes_but_where_ranks_wait_for_them() -> None:
    """A hop of half a pass: waited for by 1F1B, beside the next pass of ZB-H1, at no end twice."""
    layouts = [Layout(pp=4), Layout(pp=4, schedule=Schedule.ZB_H1)]
    work = prepared(toy(num_hidden_layers=64), *layouts)
    clock = PipelineClock(work, DEVICE, FABRIC)
    busy = 2.0 * clock.hop
    parts = [RankParts.of(work, kind) for kind in range(work.stages.width)]
    first, last = parts[0], next(each for each in parts if each.last.all())
    waits = clock.sending(first, busy, busy)[0] - busy
    assert waits == pytest.approx(clock.hop * [1.0, clock.steal[1]])
    assert clock.sending(last, busy, busy)[0] == pytest.approx(busy)
    assert clock.sending(first, busy, busy)[1] == pytest.approx(busy)
