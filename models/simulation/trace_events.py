"""The events of a timeline as PyTorch's profiler writes them: one line of JSON each.

The dialect is that of Kineto (github.com/pytorch/kineto, libkineto/src/output_json.cpp): kernels as
complete events whose process is the rank and whose thread is the stream, collectives with the
arguments that PyTorch records (torch/csrc/profiler/util.cpp). What a kernel is, readers tell by its
name: ``nccl...Kernel`` communicates, ``Memcpy`` copies, the rest computes (Holistic Trace Analysis,
utils/utils.py).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from models.simulation.timeline import RECEIVING, SENDING, Stream
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.simulation.timeline import Array, Call, Ints, Timeline

#: Number of the first stream's thread. Viewers take a thread for the main one of the process of its
#: number, whichever it belongs to, so threads are numbered beyond all ranks.
FIRST_THREAD = 1_000_000
#: Thread of the annotation that spans the step, beside the streams.
STEP_THREAD = FIRST_THREAD + len(Stream)
#: Events formatted at once: enough to be quick, few enough to stay small.
BLOCK = 1 << 15
#: Ranks of a group that PyTorch lists in full.
LISTED_RANKS = 30
#: Each rank has one device, as in a job where every process sees its own.
DEVICE = 0

#: The kernel of NCCL that carries a collective, and the name that PyTorch gives the collective.
_KERNELS = {
    Collective.ALL_GATHER: ("AllGather", "_allgather_base"),
    Collective.REDUCE_SCATTER: ("ReduceScatter", "_reduce_scatter_base"),
    Collective.ALL_REDUCE: ("AllReduce", "allreduce"),
    Collective.BROADCAST: ("Broadcast", "broadcast"),
    Collective.ALL_TO_ALL: ("SendRecv", "all_to_all"),
    Collective.SHIFT: ("SendRecv", "send"),
}
#: What would make readers take a kernel that computes for one that does not.
_MISREAD = re.compile("nccl|Memcpy|Memset|Sync|^dma")


def kernel_name(call: Call) -> str:
    """Return the name that tells readers what a kernel is.

    Raises
    ------
    ValueError
        If it computes, and its name says otherwise: a bug of what named it.
    """
    if call.collective is not None:
        return f"ncclDevKernel_{_KERNELS[call.collective][0]}: {call.name}"
    if call.stream is Stream.COPY:
        return f"Memcpy: {call.name}"
    if _MISREAD.search(call.name):
        raise ValueError(f"traces would not take {call.name!r} for compute")
    return call.name


class TraceEvents:
    """Lines of events, rank by rank; an event is the same whatever others are asked for.

    Parameters
    ----------
    timeline
        What happened.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.stream = timeline.stream
        self.start_ns, self.end_ns = _ns(timeline.start_s), _ns(timeline.end_s)
        # Spans are numbered in this order, whatever order they came in.
        which = timeline.chunk, timeline.micro_batch, timeline.call
        when = timeline.end_s, self.stream, timeline.start_s
        self.order = np.lexsort((*which, *when, timeline.rank))
        self.number = np.empty_like(self.order)
        self.number[self.order] = np.arange(1, len(self.order) + 1)
        places = np.arange(len(timeline.ranks) + 1)
        self.first = np.searchsorted(timeline.rank[self.order], places)
        self.flows = self._sorted_flows()
        self.process_groups: dict[tuple[Any, ...], int] = {}
        self.arguments = [
            [self._arguments(rank, call) for call in range(len(timeline.calls))]
            for rank in range(len(timeline.ranks))
        ]

    def blocks(self, rank: int) -> Iterator[str]:
        """Yield the events of a rank, by its place among the timeline's, joined by commas."""
        spans = self.order[self.first[rank] : self.first[rank + 1]]
        yield ",\n".join(self._names(rank, spans))
        for first in range(0, len(spans), BLOCK):
            yield ",\n".join(self._kernels(rank, spans[first : first + BLOCK]))
        for lines in (self._flow_ends(rank), self._counters(rank)):
            yield from _joined(lines)

    def _sorted_flows(self) -> Ints:
        """Return senders and receivers, shape ``[flows, 2]``, in the order of the spans."""
        flows: Ints = np.array(self.timeline.flows, dtype=np.int64).reshape(-1, 2)
        numbers = self.number[flows]
        return flows[np.lexsort((numbers[:, 1], numbers[:, 0]))]

    def _names(self, rank: int, spans: Ints) -> Iterator[str]:
        """Yield what the process and its threads are called, and the step itself."""
        pid, step_us = self.timeline.ranks[rank], _ns(np.array(self.timeline.step_s)) / 1e3
        used = np.unique(self.stream[spans]).tolist()
        streams = [(FIRST_THREAD + each, each, Stream(each).label) for each in used]
        threads = [(STEP_THREAD, -1, "step"), *streams]
        yield _metadata(pid, STEP_THREAD, "process_name", {"name": f"rank {pid}"})
        yield _metadata(pid, STEP_THREAD, "process_sort_index", {"sort_index": pid})
        for tid, sort_index, label in threads:
            yield _metadata(pid, tid, "thread_name", {"name": label})
            yield _metadata(pid, tid, "thread_sort_index", {"sort_index": sort_index})
        yield (
            f'{{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#0", "pid": {pid}, '
            f'"tid": {STEP_THREAD}, "ts": 0.000, "dur": {step_us:.3f}, '
            f'"args": {{}}}}'
        )

    def _kernels(self, rank: int, spans: Ints) -> list[str]:
        """Return one line for each span: what all spans of a call share is formatted once."""
        timeline, calls = self.timeline, self.timeline.call[spans].tolist()
        heads = [_head(timeline.ranks[rank], call) for call in timeline.calls]
        tails = self.arguments[rank]
        micro_batch = _labels("micro_batch", timeline.micro_batch[spans])
        chunk = _labels("chunk", timeline.chunk[spans])
        start, end = self.start_ns[spans], self.end_ns[spans]
        columns = zip(
            calls,
            (start / 1e3).tolist(),
            ((end - start) / 1e3).tolist(),
            self.number[spans].tolist(),
            micro_batch,
            chunk,
            strict=True,
        )
        return [
            f'{heads[call]}{ts:.3f}, "dur": {dur:.3f}, "args": {{"correlation": {number}, '
            f'"External id": {number}, {tails[call]}{which}{part}}}}}'
            for call, ts, dur, number, which, part in columns
        ]

    def _arguments(self, rank: int, place: int) -> str:
        """Return what every span of a call says of itself on a rank."""
        call = self.timeline.calls[place]
        found: dict[str, Any] = {"stream": int(call.stream), "device": DEVICE}
        if call.collective is not None:
            ranks = self.timeline.groups.get((rank, place), ())
            found |= _collective(call) | self._process_group(call, tuple(ranks))
        if call.phase:
            found["phase"] = call.phase
        return json.dumps(found)[1:-1]

    def _process_group(self, call: Call, ranks: tuple[int, ...]) -> dict[str, str]:
        """Return the names of a group: PyTorch numbers them, and describes what they are for."""
        axis = "pp" if call.stream in (*SENDING, *RECEIVING) else call.stream.label
        number = self.process_groups.setdefault((axis, call.group, ranks), len(self.process_groups))
        listed = [str(each) for each in ranks]
        if len(listed) > LISTED_RANKS:
            listed[LISTED_RANKS - 1 : -1] = ["..."]
        return {
            "Process Group Name": str(number),
            "Process Group Description": axis,
            "Process Group Ranks": f"[{', '.join(listed)}]",
        }

    def _flow_ends(self, rank: int) -> Iterator[str]:
        """Yield where arrows leave and reach spans of a rank."""
        pid, start = self.timeline.ranks[rank], self.start_ns
        ends = self.timeline.rank[self.flows] == rank
        for at in np.flatnonzero(ends.any(axis=1)).tolist():
            sent, received = self.flows[at]
            if ends[at, 0]:
                yield _flow("s", at + 1, pid, FIRST_THREAD + self.stream[sent], start[sent] / 1e3)
            if ends[at, 1]:
                # A receive may wait before anything is sent: the arrow never points back in time.
                ts = max(start[sent], start[received]) / 1e3
                yield _flow("f", at + 1, pid, FIRST_THREAD + self.stream[received], ts)

    def _counters(self, rank: int) -> Iterator[str]:
        """Yield memory and the use of links over time."""
        timeline, pid = self.timeline, self.timeline.ranks[rank]
        yield from _counter(pid, "memory", "bytes", *timeline.memory[rank], ".0f")
        mine = [link for link in timeline.links if link[1] == rank]
        for name, _, times, shares in sorted(mine, key=lambda link: link[0]):
            yield from _counter(pid, f"link {name}", "share", times, shares, ".6f")


def _ns(seconds: Array) -> Ints:
    """Return whole nanoseconds: spans that touch still do when rounded."""
    whole: Ints = np.rint(seconds * 1e9).astype(np.int64)
    return whole


def _joined(lines: Iterable[str]) -> Iterator[str]:
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == BLOCK:
            yield ",\n".join(block)
            block = []
    if block:
        yield ",\n".join(block)


def _head(pid: int, call: Call) -> str:
    category = "gpu_memcpy" if call.stream is Stream.COPY else "kernel"
    return (
        f'{{"ph": "X", "cat": "{category}", "name": {json.dumps(kernel_name(call))}, '
        f'"pid": {pid}, "tid": {FIRST_THREAD + call.stream}, "ts": '
    )


def _collective(call: Call) -> dict[str, Any]:
    """Return what PyTorch records of a collective; calls count bytes, so elements are bytes."""
    if call.collective is None:
        return {}
    whole, shard = round(call.nbytes), round(call.nbytes / call.group)
    name = "recv" if call.stream in RECEIVING else _KERNELS[call.collective][1]
    return {
        "Collective name": name,
        "In msg nelems": shard if call.collective is Collective.ALL_GATHER else whole,
        "Out msg nelems": shard if call.collective is Collective.REDUCE_SCATTER else whole,
        "Group size": call.group,
        "dtype": "Byte",
    }


def _labels(name: str, values: Ints) -> list[str]:
    """Return the argument of every span; nothing where it has none."""
    known = {each: f', "{name}": {each}' if each >= 0 else "" for each in np.unique(values)}
    return [known[each] for each in values.tolist()]


def _metadata(pid: int, tid: int, name: str, args: dict[str, Any]) -> str:
    return (
        f'{{"ph": "M", "name": "{name}", "pid": {pid}, "tid": {tid}, "ts": 0.000, '
        f'"args": {json.dumps(args)}}}'
    )


def _flow(end: str, number: int, pid: int, tid: int, ts: float) -> str:
    """Return one end of an arrow; its head binds to the span around it, not to the next."""
    bound = ', "bp": "e"' if end == "f" else ""
    return (
        f'{{"ph": "{end}", "id": {number}, "cat": "p2p", "name": "p2p", "pid": {pid}, '
        f'"tid": {tid}, "ts": {ts:.3f}{bound}}}'
    )


def _counter(
    pid: int, name: str, unit: str, times: Array, values: Array, digits: str
) -> Iterator[str]:
    head = f'{{"ph": "C", "name": {json.dumps(name)}, "pid": {pid}, "ts": '
    for ts, value in zip((_ns(times) / 1e3).tolist(), values.tolist(), strict=True):
        yield f'{head}{ts:.3f}, "args": {{"{unit}": {format(value, digits)}}}}}'
