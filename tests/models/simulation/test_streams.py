"""Playing programs: bounds that no sharing of links can leave, and proofs of its rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.simulation.program import Program
from models.simulation.streams import Player
from models.simulation.timeline import Stream
from tests.models.simulation.programs import chain, programs, task, tasks
from tests.oracles.max_min import certificate

ROUNDED = 1 + 1e-9


class Watched(Player):
    """Keeps every set of rates that it finds."""

    def __init__(self):
        super().__init__(contention=True)
        self.seen = []

    def rates(self, kinds):
        found, known = super().rates(kinds), list(self.kinds)
        self.seen.append(([known[kind] for kind in kinds], found))
        return found


def longest_chain(program):
    """Return the seconds of the longest chain, each task alone."""
    end, last = [], {}
    for each, after in zip(program.tasks, program.after, strict=True):
        before = [end[number] for number in after]
        begin = max([*before, last.get(each.call.stream, 0.0)])
        end.append(begin + each.seconds)
        last[each.call.stream] = end[-1]
    return max(end)


def busiest_link(program):
    """Return the seconds that the busiest class of links needs for all that crosses it."""
    carried = [np.array(each.load) * each.seconds for each in program.tasks if each.load]
    return float(np.sum(carried, axis=0).max()) if carried else 0.0


@settings(max_examples=200, deadline=None)
@given(programs())
def test_no_program_beats_its_chains_and_links_or_is_worse_than_one_task_at_a_time(program):
    took = Player(contention=True).play(program).end_s.max()
    assert took * ROUNDED >= longest_chain(program)
    assert took * ROUNDED >= busiest_link(program)
    # Some link is full or some task at full speed at any moment, so no stretch is needed.
    assert took <= ROUNDED * sum(each.seconds for each in program.tasks)


@settings(max_examples=100, deadline=None)
@given(programs())
def test_links_that_contend_are_never_over_full_and_compute_gets_what_is_left(program):
    player = Watched()
    player.play(program)
    for running, rates in player.seen:
        stolen = sum(steal for _, steal, _ in running)
        sharing = [(load, rate) for (_, _, load), rate in zip(running, rates, strict=True)]
        loads = [load for load, _ in sharing if load]
        if loads:
            # A task is no faster than alone: a link of its own, as fast as that.
            load = np.hstack([np.array(loads), np.eye(len(loads))])
            found = np.array([rate for load, rate in sharing if load])
            assert certificate(load, np.ones(load.shape[1]), found)
        for (computes, _, load), rate in zip(running, rates, strict=True):
            if computes:
                assert rate == pytest.approx(max(1.0 - stolen, 0.0))
            elif not load:
                assert rate == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(tasks(2, *Stream), min_size=1, max_size=8), st.data(), st.booleans())
def test_slower_links_never_help_a_chain(written, data, contention):
    factor = st.floats(1.0, 4.0)
    slower = [
        task(each.call.stream, each.seconds * data.draw(factor), each.steal, each.load)
        for each in written
    ]
    ends = [Player(contention=contention).play(chain(one)).end_s for one in (written, slower)]
    assert ends[0].tolist() == pytest.approx(np.cumsum([each.seconds for each in written]))
    assert np.all(ends[1] * ROUNDED >= ends[0])


@settings(max_examples=50, deadline=None)
@given(programs(), programs(), st.booleans())
def test_a_program_runs_the_same_whatever_was_played_before(program, other, contention):
    player = Player(contention=contention)
    player.play(other)
    again, fresh = player.play(program), Player(contention=contention).play(program)
    assert again.start_s.tolist() == fresh.start_s.tolist()
    assert again.end_s.tolist() == fresh.end_s.tolist()


def test_what_shares_a_link_takes_twice_as_long_and_compute_what_is_left():
    program = Program()
    program.issue(task(Stream.COMPUTE, 0.75), ())
    program.issue(task(Stream.TP, 1.0, 0.25, (1.0,)), ())
    program.issue(task(Stream.DP, 1.0, 0.25, (1.0,)), ())
    assert Player(contention=True).play(program).end_s.tolist() == [1.5, 2.0, 2.0]
    assert Player(contention=False).play(program).end_s.tolist() == [1.25, 1.0, 1.0]


def test_compute_that_takes_no_time_waits_for_nobody():
    program = Program()
    program.issue(task(Stream.COMPUTE, 0.0), ())
    program.issue(task(Stream.TP, 1.0, steal=1.0), ())
    assert Player(contention=False).play(program).end_s.tolist() == [0.0, 1.0]


def test_what_is_left_when_a_program_stops_is_work_and_not_time():
    program = Program()
    program.issue(task(Stream.COMPUTE, 1.0), ())
    for stream in (Stream.SEND, Stream.DP, Stream.DP):
        program.issue(task(stream, 2.0, load=(1.0,)), ())
    played = Player(contention=True).play(program, until=(0,))
    assert played.left_s.tolist() == [0.0, 1.5, 1.5, 2.0]
    assert played.start_s.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert played.end_s.tolist() == [1.0, 1.0, 1.0, 1.0]
