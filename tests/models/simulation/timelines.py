"""Timelines for tests: one written by hand, and random ones without overlap within a stream."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from models.simulation.timeline import Call, Stream, Timeline
from topologies.collective import Collective

CALLS = (
    Call(name="core attention", stream=Stream.COMPUTE, phase="forward"),
    Call(
        name='ring "k, v"',
        stream=Stream.CP,
        collective=Collective.SHIFT,
        nbytes=3e6,
        group=4,
        phase="forward",
    ),
    Call(name="gather", stream=Stream.TP, collective=Collective.ALL_GATHER, nbytes=8e6, group=8),
    Call(
        name="scatter", stream=Stream.TP, collective=Collective.REDUCE_SCATTER, nbytes=64, group=8
    ),
    Call(name="heads", stream=Stream.CP, collective=Collective.ALL_TO_ALL, nbytes=48, group=4),
    Call(
        name="gradients", stream=Stream.DP, collective=Collective.ALL_REDUCE, nbytes=4e9, group=64
    ),
    Call(name="weights", stream=Stream.DP, collective=Collective.BROADCAST, nbytes=4e9, group=64),
    Call(name="activations", stream=Stream.SEND, collective=Collective.SHIFT, nbytes=5, group=2),
    Call(name="activations", stream=Stream.RECEIVE, collective=Collective.SHIFT, nbytes=5, group=2),
    Call(name="offload", stream=Stream.COPY),
    Call(name="tokens", stream=Stream.EP, collective=Collective.ALL_TO_ALL, nbytes=6e6, group=8),
    Call(
        name="forwarded",
        stream=Stream.EP_INSIDE,
        collective=Collective.ALL_TO_ALL,
        nbytes=6e6,
        group=8,
    ),
    Call(name="windows", stream=Stream.CP_OUTER, collective=Collective.SHIFT, nbytes=3e6, group=2),
    Call(
        name="dy",
        stream=Stream.RECEIVE_BACK,
        collective=Collective.SHIFT,
        nbytes=5,
        group=2,
    ),
    Call(name="dy", stream=Stream.SEND_BACK, collective=Collective.SHIFT, nbytes=5, group=2),
)


def timeline(spans, ranks=(0, 8), step_s=10.0, **more):
    """Return a timeline of ``(rank, call, start, end[, micro_batch[, chunk]])`` in seconds."""
    rows = [(*span, *(-1, -1)[len(span) - 4 :]) for span in spans]
    rank, call, start, end, micro_batch, chunk = zip(*rows, strict=True) if rows else ((),) * 6
    given = {
        "calls": CALLS,
        "ranks": ranks,
        "world_size": 1024,
        "flows": (),
        "memory": tuple((np.array([0.0]), np.array([0.0])) for _ in ranks),
        "links": (),
    }
    return Timeline(
        **given | more,
        rank=np.array(rank, dtype=np.int64),
        call=np.array(call, dtype=np.int64),
        start_s=np.array(start, dtype=float),
        end_s=np.array(end, dtype=float),
        micro_batch=np.array(micro_batch, dtype=np.int64),
        chunk=np.array(chunk, dtype=np.int64),
        step_s=step_s,
    )


def by_hand():
    """Return two pipeline ranks with one of everything."""
    spans = [
        (0, 0, 0.0, 4.0, 0, 0),
        (0, 1, 1.0, 2.0, 0, 0),
        (0, 2, 3.0, 5.0, 0, 0),
        (0, 7, 5.0, 6.0, 0, 0),
        (1, 8, 2.0, 6.5, 0, 0),
        (1, 0, 6.5, 8.0, 0, 1),
        (1, 5, 7.0, 9.0),
        (1, 9, 9.0, 9.5),
    ]
    return timeline(
        spans,
        flows=((3, 4),),
        memory=(
            (np.array([0.0, 2.5]), np.array([1e9, 3e9])),
            (np.array([0.0]), np.array([2e9])),
        ),
        links=(("nvlink", 0, np.array([1.0, 2.0]), np.array([0.5, 0.0])),),
        groups={(0, 7): (0, 8), (1, 8): (0, 8), (1, 5): range(8, 72)},
    )


@st.composite
def timelines(draw, unit_s=1e-9, shortest=0):
    """Return random spans on every stream, in whole units of time."""
    ranks = draw(st.sampled_from([(0,), (0, 5), (2, 3, 17)]))
    spans = []
    for rank in range(len(ranks)):
        for stream in Stream:
            now = 0
            calls = [at for at, call in enumerate(CALLS) if call.stream is stream]
            gap, length = st.integers(0, 2000), st.integers(shortest, 3000)
            lane = st.tuples(gap, length, st.sampled_from(calls), st.integers(-1, 3))
            for wait, lasts, call, micro_batch in draw(st.lists(lane, max_size=5)):
                now += wait
                spans.append((rank, call, now * unit_s, (now + lasts) * unit_s, micro_batch))
                now += lasts
    order = draw(st.permutations(range(len(spans))))
    last = max((span[3] for span in spans), default=0.0)
    return timeline([spans[at] for at in order], ranks, step_s=last + unit_s)
