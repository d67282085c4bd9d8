"""Both engines against the same written as SimPy processes, and ranks that choose what to run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.named_axes import Schedule
from models.simulation import reference
from models.simulation.pipeline_order import Action, Pass, Way, one_f_one_b
from models.simulation.program import Program
from models.simulation.schedules import fewest_micro_batches, ordered
from models.simulation.static_order import Compiled, ScheduleError
from models.simulation.streams import Player
from models.simulation.timeline import Stream
from tests.models.simulation.programs import programs, task
from topologies.errors import MeshwrightError

SAME = 1e-9


def same(found, expected):
    """Return whether times agree to the precision of the longest."""
    within = SAME * np.max(expected, initial=0.0)
    return np.allclose(found, expected, rtol=SAME, atol=within)


@settings(max_examples=200, deadline=None)
@given(programs(), st.booleans())
def test_every_task_runs_when_the_reference_runs_it(program, contention):
    played = Player(contention=contention).play(program)
    expected = reference.play(program, contention=contention)
    assert same(played.start_s, expected.start_s)
    assert same(played.end_s, expected.end_s)


@st.composite
def schedules(draw):
    """Draw an order of any schedule with the ranks of its stages."""
    schedule = draw(st.sampled_from(Schedule))
    both = schedule is Schedule.DUALPIPE
    pp = 2 * draw(st.integers(1, 2)) if both else draw(st.integers(1, 4))
    vp = 1
    if schedule in (Schedule.ZB_V, Schedule.DUALPIPE_V):
        vp = 2
    elif schedule in (Schedule.INTERLEAVED, Schedule.LOOPED_BFS, Schedule.ZB_H1):
        vp = draw(st.integers(1, 3))
    least = fewest_micro_batches(schedule, pp)
    many = least + draw(st.integers(0, 4))
    if both or vp > 1:
        many += -many % (2 if both else pp)
    return ordered(schedule, pp, many, vp)


@settings(max_examples=200, deadline=None)
@given(schedules(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 3.0]), st.booleans())
def test_every_step_of_a_schedule_runs_when_the_reference_runs_it(order, seed, hop_s, waits):
    compiled = Compiled.of(*order)
    generator = np.random.default_rng(seed)
    many = len(compiled.runs)
    seconds = generator.uniform(0.1, 2.0, many) * (generator.random(many) > 0.1)
    hops_s = hop_s * generator.uniform(0.5, 1.5, many)
    found = compiled.times(seconds, hops_s, waits=waits)
    expected = reference.times(compiled, seconds, hops_s, waits=waits)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_tasks_that_wait_for_each_other_are_an_error_in_both():
    program = Program()
    program.issue(task(Stream.COMPUTE, 1.0), (1,))
    program.issue(task(Stream.TP, 1.0), (0,))
    with pytest.raises(RuntimeError, match="tasks wait for each other"):
        Player(contention=True).play(program)
    with pytest.raises(RuntimeError, match="tasks wait for each other: on compute never ends"):
        reference.play(program, contention=True)


def test_ranks_that_wait_for_each_other_are_an_error_in_both():
    order, way = ordered(Schedule.ONE_F_ONE_B, 2, 2)
    backward_first = [list(reversed(order[0])), order[1]]
    says = "deadlock: rank 0 waits to run B of micro-batch 1 on stage 0"
    with pytest.raises(ScheduleError, match=says):
        Compiled.of(backward_first, way)
    compiled = Compiled.of(order, way)
    first = compiled.runs.index((Action(Pass.FORWARD, 0, 0),))
    needs = list(compiled.needs)
    needs[first] = ((compiled.runs.index((Action(Pass.BACKWARD, 1, 0),)), True),)
    with pytest.raises(ScheduleError, match="deadlock: rank 0 waits to run F of micro-batch 0"):
        reference.times(replace(compiled, needs=tuple(needs)), np.ones(len(needs)))


def test_passes_that_nobody_runs_are_all_named():
    order, way = ordered(Schedule.ONE_F_ONE_B, 2, 2)
    without = [[action for action in order[0] if action.kind is not Pass.FORWARD], order[1]]
    with pytest.raises(ScheduleError) as caught:
        Compiled.of(without, way)
    assert "waits to run F of micro-batch 0 on stage 1 for F of micro-batch 0 on stage 0" in str(
        caught.value
    )
    assert "which no rank runs: add it to the order" in str(caught.value)
    assert isinstance(caught.value, MeshwrightError)


@pytest.mark.parametrize(("pp", "many"), [(1, 3), (4, 2), (4, 9)])
def test_ranks_that_choose_run_1f1b_where_passes_are_alike(pp, many):
    chosen = reference.greedy(range(pp, 0, -1), many, lambda _, action: 1.0)
    assert chosen == one_f_one_b(pp, many)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 8), st.integers(0, 99))
def test_ranks_that_choose_run_all_and_hold_no_more_than_they_may(limits, many, seed):
    generator = np.random.default_rng(seed)
    chosen = reference.greedy(limits, many, lambda *_: generator.uniform(0.1, 2.0), hop_s=0.3)
    whole = dict.fromkeys((Pass.FORWARD, Pass.BACKWARD), many)
    for limit, actions in zip(limits, chosen, strict=True):
        assert Counter(action.kind for action in actions) == whole
        held = np.cumsum([1 if action.kind is Pass.FORWARD else -1 for action in actions])
        assert held.max() <= limit
    assert Compiled.of(chosen, Way.loop(len(limits), 1)).rank.size == 2 * many * len(limits)


def test_a_rank_that_is_late_makes_others_choose_otherwise():
    def seconds(rank, action):
        return 5.0 if (rank, *action) == (2, Pass.FORWARD, 2, 1) else 1.0

    limits = [6, 5, 4, 3]
    chosen = reference.greedy(limits, 8, seconds)
    assert chosen != reference.greedy(limits, 8, lambda *_: 1.0)
