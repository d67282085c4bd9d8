"""What happened in one simulated training step: spans on the streams of every simulated rank.

The record knows nothing of what made it. Overlap is defined as Holistic Trace Analysis defines it
(github.com/facebookresearch/HolisticTraceAnalysis, analyzers/communication_analysis.py): time of
communication that lies under compute over all time of communication, both as unions of intervals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import inf, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from models.simulation.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from topologies.collective import Collective

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]


class Stream(IntEnum):
    """Where a rank runs one thing at a time."""

    COMPUTE, TP, CP, SEND, RECEIVE, DP, COPY, CP_OUTER, RECEIVE_BACK, SEND_BACK, EP, EP_INSIDE = (
        range(12)
    )

    @property
    def label(self) -> str:
        """Its name for people."""
        return _LABELS[self]


_LABELS = (
    "compute",
    "tp",
    "cp",
    "pp send",
    "pp receive",
    "dp",
    "copy",
    "cp between windows",
    "pp receive gradients",
    "pp send gradients",
    "ep",
    "ep inside domains",
)
#: Activations and gradients leave and arrive side by side: to and from other neighbours.
SENDING = (Stream.SEND, Stream.SEND_BACK)
RECEIVING = (Stream.RECEIVE, Stream.RECEIVE_BACK)
#: Copies between device and host are neither: they load no link between ranks.
COMMUNICATION = (
    Stream.TP,
    Stream.CP,
    Stream.CP_OUTER,
    Stream.EP,
    Stream.EP_INSIDE,
    *SENDING,
    *RECEIVING,
    Stream.DP,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a span is; many spans share one.

    Parameters
    ----------
    name
        For people: ``core attention``, ``ring k, v``, ``reduce gradients``.
    stream
        Where it runs.
    collective
        What a group does together; None for compute and copies.
    nbytes
        Of one call, counted as the collective counts them.
    group
        Ranks that take part.
    phase
        ``forward``, ``backward``; empty for none.

    Raises
    ------
    ValueError
        If it communicates without a collective, or computes with one.
    """

    name: str
    stream: Stream
    collective: Collective | None = None
    nbytes: float = 0.0
    group: int = 1
    phase: str = ""

    def __post_init__(self) -> None:
        if (self.collective is not None) != (self.stream in COMMUNICATION):
            raise ValueError(f"{self.name} on stream {self.stream.label} is a {self.collective}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One training step as it was simulated.

    Parameters
    ----------
    calls
        Everything that spans are.
    ranks
        Global number of every simulated rank; each may stand for many.
    world_size
        Ranks of the job.
    rank, call
        Shape ``[spans]``, places in `ranks` and `calls`.
    start_s, end_s
        Shape ``[spans]``, from the start of the step.
    micro_batch, chunk
        Shape ``[spans]``, micro-batch and model chunk of the rank; -1 for none.
    flows
        Pairs of a sending and a receiving span.
    memory
        For each of `ranks` times and the bytes in use from each on.
    links
        Name of a class of links, place in `ranks`, times, and the share of its rate in use from
        each on.
    step_s
        How long the step takes.
    groups
        Global numbers of the ranks in the group of a call, by places in `ranks` and `calls`; only
        traces tell them, and leave out what is not given.

    Raises
    ------
    ValueError
        If spans of a stream overlap, or a figure points to nothing: a bug of what made them.
    """

    calls: tuple[Call, ...]
    ranks: tuple[int, ...]
    world_size: int
    rank: Ints
    call: Ints
    start_s: Array
    end_s: Array
    micro_batch: Ints
    chunk: Ints
    flows: tuple[tuple[int, int], ...]
    memory: tuple[tuple[Array, Array], ...]
    links: tuple[tuple[str, int, Array, Array], ...]
    step_s: float
    groups: Mapping[tuple[int, int], Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_places(self)
        _check_times(self)
        _check_lanes(self)
        _check_flows(self)
        _check_counters(self)

    @property
    def stream(self) -> Ints:
        """Stream of every span."""
        return np.array([call.stream for call in self.calls], dtype=np.int64)[self.call]

    def busy(self, rank: int, streams: Collection[Stream] = tuple(Stream)) -> Intervals:
        """Return when any of some streams of a rank, by its place in `ranks`, is at work."""
        chosen = (self.rank == rank) & np.isin(self.stream, [int(each) for each in streams])
        return Intervals.union(self.start_s[chosen], self.end_s[chosen])

    def busy_s(self, rank: int, streams: Collection[Stream] = tuple(Stream)) -> float:
        """Return how long any of some streams is at work."""
        return self.busy(rank, streams).length_s

    def overlap_s(self, rank: int) -> float:
        """Return how long a rank communicates while it computes."""
        return self.busy(rank, COMMUNICATION).under_s(self.busy(rank, (Stream.COMPUTE,)))

    def exposed_s(self, rank: int) -> float:
        """Return how long a rank communicates and does not compute."""
        return self.busy(rank, COMMUNICATION).alone_s(self.busy(rank, (Stream.COMPUTE,)))

    def overlap_fraction(self, rank: int) -> float:
        """Return the share of communication that lies under compute; NaN where there is none."""
        communication = self.busy_s(rank, COMMUNICATION)
        return self.overlap_s(rank) / communication if communication else nan

    def idle_s(self, rank: int) -> float:
        """Return how long no stream of a rank is at work until the step ends."""
        step = Intervals(np.array([0.0]), np.array([self.step_s]))
        return step.alone_s(self.busy(rank))


def _check_places(timeline: Timeline) -> None:
    spans = len(timeline.rank)
    for name in ("call", "start_s", "end_s", "micro_batch", "chunk"):
        if len(getattr(timeline, name)) != spans:
            raise ValueError(f"{spans} spans have {len(getattr(timeline, name))} {name}")
    for name, many in (("rank", len(timeline.ranks)), ("call", len(timeline.calls))):
        places = getattr(timeline, name)
        if spans and not 0 <= places.min() <= places.max() < many:
            raise ValueError(f"{name} is {places.min()} to {places.max()} of {many}")


def _check_times(timeline: Timeline) -> None:
    start, end = timeline.start_s, timeline.end_s
    sound = (start >= 0) & (end >= start) & (end <= timeline.step_s) & (end < inf)
    if not sound.all():  # NaN is not sound either
        at = int(np.argmin(sound))
        raise ValueError(f"{_span(timeline, at)} is not within the {timeline.step_s} s of the step")


def _check_lanes(timeline: Timeline) -> None:
    start, end = timeline.start_s, timeline.end_s
    lane = timeline.rank * len(Stream) + timeline.stream
    order = np.lexsort((end, start, lane))
    before, after = order[:-1], order[1:]
    clash = (lane[before] == lane[after]) & (start[after] < end[before])
    if clash.any():
        at = int(np.argmax(clash))
        one, other = (_span(timeline, int(span[at])) for span in (before, after))
        raise ValueError(f"{one} overlaps {other} on the same stream")


def _check_flows(timeline: Timeline) -> None:
    flows = np.array(timeline.flows, dtype=np.int64).reshape(-1, 2)
    if not ((flows >= 0) & (flows < len(timeline.rank))).all():
        raise ValueError("a flow starts or ends at no span")
    sent, received = flows.T
    early = timeline.end_s[received] < timeline.start_s[sent]
    if early.any():
        one, other = (_span(timeline, int(each[np.argmax(early)])) for each in (received, sent))
        raise ValueError(f"{one} has received before {other} sends")


def _check_counters(timeline: Timeline) -> None:
    many = len(timeline.ranks)
    if len(timeline.memory) != many:
        raise ValueError(f"{many} ranks have {len(timeline.memory)} records of memory")
    for name, rank, times, shares in timeline.links:
        if not 0 <= rank < many:
            raise ValueError(f"link {name} belongs to rank {rank} of {many}")
        _check_counter(f"link {name}", times, shares)
    for times, nbytes in timeline.memory:
        _check_counter("memory", times, nbytes)


def _check_counter(name: str, times: Array, values: Array) -> None:
    if len(times) != len(values):
        raise ValueError(f"{name} has {len(values)} values at {len(times)} times")
    if not (np.diff(times) >= 0).all() or not np.isfinite((*times[:1], *times[-1:])).all():
        raise ValueError(f"{name} has times that do not go forward")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are no numbers")


def _span(timeline: Timeline, at: int) -> str:
    """Return a span as errors name it."""
    call, rank = timeline.calls[timeline.call[at]], timeline.ranks[timeline.rank[at]]
    return f"{call.name} of rank {rank} ({timeline.start_s[at]} to {timeline.end_s[at]} s)"
