from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.simulation.intervals import Intervals
from models.simulation.timeline import COMMUNICATION, Call, Stream, Timeline
from tests.models.simulation.timelines import CALLS, by_hand, timeline, timelines
from topologies.collective import Collective

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=8)


def covered(spans):
    """Return the unit cells that intervals cover: an oracle that knows nothing of edges."""
    return {cell for start, length in spans for cell in range(start, start + length)}


def union(spans):
    start, length = np.array(spans, dtype=float).reshape(-1, 2).T
    return Intervals.union(start, start + length)


@given(SPANS, SPANS)
def test_unions_measure_what_their_cells_count(one, other):
    mine, theirs = covered(one), covered(other)
    assert union(one).length_s == len(mine)
    assert union(one).under_s(union(other)) == len(mine & theirs)
    assert union(one).alone_s(union(other)) == len(mine - theirs)


@given(SPANS)
def test_unions_are_in_order_and_apart(spans):
    found = union(spans)
    assert (found.end_s >= found.start_s).all()
    assert (found.start_s[1:] > found.end_s[:-1]).all()


def test_streams_have_labels_for_people():
    labels = ["compute", "tp", "cp", "pp send", "pp receive", "dp", "copy"]
    labels += ["cp between windows", "pp receive gradients", "pp send gradients"]
    labels += ["ep", "ep inside domains"]
    assert [stream.label for stream in Stream] == labels


def test_figures_of_a_step_worked_by_hand():
    step = by_hand()
    # Rank 0 communicates in [1, 2], [3, 5] and [5, 6], and computes in [0, 4].
    assert step.busy_s(0, [Stream.COMPUTE]) == 4
    assert step.busy_s(0, COMMUNICATION) == 4
    assert (step.overlap_s(0), step.exposed_s(0), step.overlap_fraction(0)) == (2, 2, 0.5)
    assert (step.busy_s(0), step.idle_s(0)) == (6, 4)
    # The copy of rank 1 keeps it busy and is no communication.
    assert (step.overlap_s(1), step.exposed_s(1)) == (1, 5.5)
    assert (step.busy_s(1), step.idle_s(1)) == (7.5, 2.5)


def test_a_rank_that_never_communicates_has_no_overlap_to_speak_of():
    alone = timeline([(0, 0, 0.0, 1.0)], ranks=(0,))
    assert np.isnan(alone.overlap_fraction(0))
    assert (alone.overlap_s(0), alone.exposed_s(0), alone.idle_s(0)) == (0, 0, 9)


def test_a_step_without_spans_is_idle():
    assert timeline([], ranks=(0,)).idle_s(0) == 10


@given(timelines())
def test_figures_of_any_step_add_up(step):
    for rank in range(len(step.ranks)):
        communication = step.busy_s(rank, COMMUNICATION)
        assert step.overlap_s(rank) + step.exposed_s(rank) == pytest.approx(communication)
        assert step.idle_s(rank) + step.busy_s(rank) == pytest.approx(step.step_s)
        alone = [step.busy_s(rank, [stream]) for stream in Stream]
        assert max(alone) <= step.busy_s(rank) * (1 + 1e-12) <= sum(alone) * (1 + 1e-9)


@given(timelines(shortest=1), st.data())
def test_spans_of_a_stream_that_overlap_are_a_bug(step, data):
    if not len(step.rank):
        return
    at = data.draw(st.integers(0, len(step.rank) - 1))
    arrays = ("rank", "call", "start_s", "end_s", "micro_batch", "chunk")
    twice = {name: np.append(getattr(step, name), getattr(step, name)[at]) for name in arrays}
    twice["start_s"][-1] = (twice["start_s"][at] + twice["end_s"][at]) / 2
    with pytest.raises(ValueError, match="on the same stream"):
        replace(step, **twice)


def test_spans_may_touch_and_last_nothing():
    touching = [(0, 0, 0.0, 1.0), (0, 0, 1.0, 1.0), (0, 0, 1.0, 2.0), (0, 1, 0.5, 1.5)]
    assert timeline(touching).busy_s(0, [Stream.COMPUTE]) == 2


WRONG = [
    ([(0, 0, 2.0, 1.0)], {}, "core attention of rank 0 .* is not within"),
    ([(0, 0, -1.0, 1.0)], {}, "is not within"),
    ([(0, 0, 1.0, 11.0)], {}, "is not within the 10.0 s"),
    ([(0, 0, 1.0, float("nan"))], {}, "is not within"),
    ([(2, 0, 0.0, 1.0)], {}, "rank is 2 to 2 of 2"),
    ([(0, len(CALLS), 0.0, 1.0)], {}, "call is"),
    ([(0, 7, 0.0, 1.0)], {"flows": ((0, 1),)}, "at no span"),
    ([(0, 7, 2.0, 3.0), (1, 8, 0.0, 1.0)], {"flows": ((0, 1),)}, "rank 8 .* before .* rank 0"),
    ([], {"memory": ()}, "2 ranks have 0"),
    ([], {"links": (("x", 2, np.zeros(1), np.zeros(1)),)}, "link x belongs to rank 2 of 2"),
    ([], {"links": (("x", 0, np.zeros(2), np.zeros(1)),)}, "1 values at 2 times"),
    ([], {"links": (("x", 0, np.array([1.0, 0.0]), np.zeros(2)),)}, "do not go forward"),
    ([], {"links": (("x", 0, np.array([0.0, np.nan]), np.zeros(2)),)}, "do not go forward"),
    ([], {"links": (("x", 0, np.zeros(1), np.array([np.nan])),)}, "no numbers"),
]


@pytest.mark.parametrize(("spans", "more", "message"), WRONG)
def test_records_that_cannot_be_are_named(spans, more, message):
    with pytest.raises(ValueError, match=message):
        timeline(spans, **more)


def test_columns_of_different_lengths_are_a_bug():
    with pytest.raises(ValueError, match="8 spans have 1 chunk"):
        replace(by_hand(), chunk=np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize(
    ("stream", "collective"), [(Stream.COMPUTE, Collective.SHIFT), (Stream.SEND, None)]
)
def test_only_communication_has_a_collective(stream, collective):
    with pytest.raises(ValueError, match="odd on stream"):
        Call(name="odd", stream=stream, collective=collective)


def test_timelines_are_built_by_keyword_only():
    with pytest.raises(TypeError):
        Timeline(CALLS)
