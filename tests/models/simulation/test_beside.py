"""Runs beside others: what one leaves over, the next goes on with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.simulation.beside import Beside
from models.simulation.program import Program
from models.simulation.streams import Player
from models.simulation.timeline import Stream
from tests.models.simulation.programs import SHARES, chain, task, tasks

OWN = (Stream.COMPUTE, Stream.TP, Stream.CP)


def long(stream):
    """Draw a task that goes on for several layers and loads links as others do."""
    load = st.tuples(SHARES, SHARES)
    return st.builds(task, st.just(stream), st.floats(1.0, 40.0), st.floats(0.0, 0.4), load)


QUEUES = st.tuples(long(Stream.SEND), long(Stream.DP), tasks(2, Stream.COPY))


@settings(max_examples=100, deadline=None)
@given(st.lists(tasks(2, *OWN), min_size=1, max_size=4), QUEUES, st.booleans())
def test_layers_one_by_one_take_as_long_as_all_in_one(written, queue, contention):
    player = Player(contention=contention)
    layer, beside, left, took = chain(written), Beside(player), queue, 0.0
    for _ in range(3):
        run = beside.run(layer, left)
        took, left = took + run.seconds, run.left
    whole = Program()
    for _ in range(3):
        whole.append(layer)
    numbers = [whole.issue(each, ()) for each in queue]
    played = player.play(whole, until=whole.front)
    assert took == pytest.approx(played.end_of(whole.front), rel=1e-9, abs=1e-9)
    rest = {each.call: each.seconds for each in left}
    for number, each in zip(numbers, queue, strict=True):
        assert rest.get(each.call, 0.0) == pytest.approx(played.left_s[number], rel=1e-9, abs=1e-9)


def test_what_shares_a_link_is_no_longer_for_having_been_stopped():
    layer = chain([task(Stream.COMPUTE, 1.0)])
    queue = [task(stream, 2.0, load=(1.0,)) for stream in (Stream.SEND, Stream.DP)]
    beside = Beside(Player(contention=True))
    first = beside.run(layer, queue)
    assert [each.seconds for each in first.left] == [1.5, 1.5]
    assert [each.seconds for each in beside.run(layer, first.left).left] == [1.0, 1.0]


def test_a_long_backlog_of_one_kind_runs_out_as_any_other():
    player = Player(contention=True)
    layer = chain([task(Stream.COMPUTE, 0.5), task(Stream.TP, 0.5, 0.0, (1.0,))])
    backlog = [task(Stream.DP, 40.0, 0.2, (1.0,))]
    run = Beside(player).run(layer, backlog)
    assert run.seconds == pytest.approx(0.5 / 0.8 + 1.0)
    assert run.left[0].seconds == pytest.approx(40.0 - 0.5 / 0.8 - 0.5)
