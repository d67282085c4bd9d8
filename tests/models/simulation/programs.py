"""Random programs: streams, what tasks wait for, what they take of compute and of links."""

from __future__ import annotations

from hypothesis import strategies as st

from models.simulation.program import Program, Task
from models.simulation.timeline import COMMUNICATION, Call, Stream
from topologies.collective import Collective

SECONDS = st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-6, 10.0))
SHARES = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.01, 1.0))


def task(stream, seconds, steal=0.0, load=()):
    """Return a task of that much work on a stream."""
    collective = Collective.SHIFT if stream in COMMUNICATION else None
    call = Call(name=f"on {stream.label}", stream=stream, collective=collective)
    return Task(call, seconds, steal, load)


def tasks(links, *streams):
    """Draw a task on one of some streams, loading so many classes of links or none."""
    return st.sampled_from(streams).flatmap(lambda stream: _on(stream, links))


def _on(stream, links):
    if stream not in COMMUNICATION:
        return st.builds(task, st.just(stream), SECONDS)
    share = st.tuples(*[SHARES] * links)
    load = st.one_of(share, share, share, st.just(()))
    return st.builds(task, st.just(stream), SECONDS, st.floats(0.0, 0.6), load)


@st.composite
def programs(draw, most=10):
    """Draw tasks that each wait for some of those before."""
    links = draw(st.integers(1, 3))
    program = Program()
    for number in range(draw(st.integers(1, most))):
        after = st.lists(st.integers(0, number - 1), max_size=3) if number else st.just([])
        program.issue(draw(tasks(links, *Stream)), tuple(draw(after)))
    return program


def chain(written):
    """Return tasks one after the other."""
    program = Program()
    for each in written:
        program.together([each])
    return program
