from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from itertools import pairwise
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.simulation import trace
from models.simulation.timeline import Call, Stream
from models.simulation.trace import write_trace
from models.simulation.trace_events import FIRST_THREAD, TraceEvents, kernel_name
from tests.models.simulation.timelines import CALLS, by_hand, timeline, timelines
from topologies.collective import Collective
from topologies.errors import SpecError

DEVICE = "H100 80GB"
NUMBER = (int, float)
PLACED = {"ph": str, "name": str, "pid": int, "tid": int, "ts": float}
KERNEL_ARGS = {"correlation": int, "External id": int, "stream": int, "device": int}
COLLECTIVE_ARGS = {
    "Collective name": str,
    "In msg nelems": int,
    "Out msg nelems": int,
    "Group size": int,
    "dtype": str,
    "Process Group Name": str,
    "Process Group Description": str,
    "Process Group Ranks": str,
}
OPTIONAL_ARGS = {"phase": str, "micro_batch": int, "chunk": int}


def read(path):
    data = Path(path).read_bytes()
    return json.loads(gzip.decompress(data) if str(path).endswith(".gz") else data)


def written(step, name="step.json"):
    with TemporaryDirectory() as folder:
        write_trace(step, Path(folder) / name, device=DEVICE)
        return read(Path(folder) / name)


def of(content, phase, category=None):
    events = [event for event in content["traceEvents"] if event["ph"] == phase]
    return [event for event in events if category in (None, event.get("cat"))]


def spans_of(content):
    return of(content, "X", "kernel") + of(content, "X", "gpu_memcpy")


def has(record, required, optional=()):
    """Check that a record has exactly such fields of such types."""
    types = required | dict(optional)
    assert required.keys() <= record.keys() <= types.keys(), record
    for key, value in record.items():
        assert isinstance(value, types[key]), (key, value)
        assert not isinstance(value, bool)


def stream_of(event):
    """Return the stream of a thread; its number is that of no rank's process."""
    assert event["tid"] > 100_000
    return Stream(event["tid"] - FIRST_THREAD)


def check_kernel(event):
    has(event, PLACED | {"cat": str, "dur": float, "args": dict})
    communicates = event["name"].startswith("nccl")
    has(event["args"], KERNEL_ARGS | (COLLECTIVE_ARGS if communicates else {}), OPTIONAL_ARGS)
    assert event["args"]["stream"] == stream_of(event)
    assert event["args"]["device"] == 0
    assert event["dur"] >= 0
    assert (event["cat"] == "gpu_memcpy") == event["name"].startswith("Memcpy: ")
    # What Holistic Trace Analysis and Kineto's own tools go by.
    assert communicates == (re.match("^nccl.*Kernel", event["name"]) is not None)
    assert communicates == (stream_of(event) not in (Stream.COMPUTE, Stream.COPY))


def check_other(event):
    match event["ph"]:
        case "M":
            has(event, PLACED | {"args": dict})
            key, kind = ("name", str) if event["name"].endswith("_name") else ("sort_index", int)
            names = ["process_name", "process_sort_index", "thread_name", "thread_sort_index"]
            assert event["name"] in names
            has(event["args"], {key: kind})
        case "C":
            has(event, {"ph": str, "name": str, "pid": int, "ts": float, "args": dict})
            has(event["args"], {"bytes" if event["name"] == "memory" else "share": NUMBER})
        case "s":
            has(event, PLACED | {"cat": str, "id": int})
        case "f":
            has(event, PLACED | {"cat": str, "id": int, "bp": str})
            assert event["bp"] == "e"
        case "X":
            has(event, PLACED | {"cat": str, "dur": float, "args": dict})
            assert (event["cat"], event["name"]) == ("user_annotation", "ProfilerStep#0")
        case _:
            pytest.fail(f"no such event: {event}")


def check(content, step):
    assert list(content) == [
        "schemaVersion",
        "distributedInfo",
        "deviceProperties",
        "traceEvents",
    ]
    assert content["schemaVersion"] == 1
    assert content["deviceProperties"] == [{"id": 0, "name": DEVICE}]
    info = content["distributedInfo"]
    assert (info["backend"], info["world_size"]) == ("nccl", step.world_size)
    kernels = spans_of(content)
    for event in kernels:
        check_kernel(event)
    numbers = [event["args"]["correlation"] for event in kernels]
    assert len(set(numbers)) == len(numbers)
    rest = [event for event in content["traceEvents"] if event not in kernels]
    for event in rest:
        check_other(event)
    named = {(e["pid"], e["tid"]) for e in rest if e["name"] == "thread_name"}
    assert named >= {(event["pid"], event["tid"]) for event in kernels}


def test_every_event_is_what_kineto_writes():
    step = by_hand()
    content = written(step)
    check(content, step)
    kinds = {(event["ph"], event.get("cat")) for event in content["traceEvents"]}
    assert kinds == {
        ("M", None),
        ("X", "user_annotation"),
        ("X", "kernel"),
        ("X", "gpu_memcpy"),
        ("s", "p2p"),
        ("f", "p2p"),
        ("C", None),
    }
    assert content["distributedInfo"]["rank"] == 0


def test_processes_and_threads_are_named_in_order():
    content = written(by_hand())
    threads = {
        (event["pid"], event["tid"] - FIRST_THREAD): event["args"]["name"]
        for event in of(content, "M")
        if event["name"] == "thread_name"
    }
    first = {len(Stream): "step", 0: "compute", 1: "tp", 2: "cp", 3: "pp send"}
    second = {len(Stream): "step", 0: "compute", 4: "pp receive", 5: "dp", 6: "copy"}
    assert threads == {
        **{(0, tid): label for tid, label in first.items()},
        **{(8, tid): label for tid, label in second.items()},
    }
    names = [e["args"]["name"] for e in of(content, "M") if e["name"] == "process_name"]
    assert names == ["rank 0", "rank 8"]


def test_the_step_spans_every_rank():
    steps = of(written(by_hand()), "X", "user_annotation")
    assert [(event["pid"], event["ts"], event["dur"]) for event in steps] == [
        (0, 0.0, 10e6),
        (8, 0.0, 10e6),
    ]


COLLECTIVES = {
    "ncclDevKernel_AllGather: gather": ("_allgather_base", 1_000_000, 8_000_000, 8),
    "ncclDevKernel_ReduceScatter: scatter": ("_reduce_scatter_base", 64, 8, 8),
    "ncclDevKernel_AllReduce: gradients": ("allreduce", 4_000_000_000, 4_000_000_000, 64),
    "ncclDevKernel_Broadcast: weights": ("broadcast", 4_000_000_000, 4_000_000_000, 64),
    "ncclDevKernel_SendRecv: heads": ("all_to_all", 48, 48, 4),
    'ncclDevKernel_SendRecv: ring "k, v"': ("send", 3_000_000, 3_000_000, 4),
}


def test_collectives_say_what_pytorch_records_of_them():
    spans = [(0, call, float(call), call + 1.0) for call in range(len(CALLS))]
    events = spans_of(written(timeline(spans, step_s=float(len(CALLS)))))
    keys = ("Collective name", "In msg nelems", "Out msg nelems", "Group size")
    found = {event["name"]: tuple(event["args"].get(key) for key in keys) for event in events}
    assert found.items() >= COLLECTIVES.items()
    at = {stream_of(event): event["args"] for event in events}
    assert at[Stream.SEND]["Collective name"] == "send"
    assert at[Stream.RECEIVE]["Collective name"] == "recv"
    assert at[Stream.RECEIVE_BACK]["Collective name"] == "recv"
    assert at[Stream.TP]["Process Group Ranks"] == "[]"


def test_groups_list_their_ranks_as_pytorch_does():
    args = {event["name"]: event["args"] for event in spans_of(written(by_hand()))}
    sends = args["ncclDevKernel_SendRecv: activations"]
    assert (sends["Process Group Description"], sends["Process Group Ranks"]) == ("pp", "[0, 8]")
    listed = args["ncclDevKernel_AllReduce: gradients"]["Process Group Ranks"]
    assert listed == f"[{', '.join(map(str, range(8, 37)))}, ..., 71]"
    groups = {
        (a["Process Group Description"], a["Group size"], a["Process Group Ranks"]): a
        for a in args.values()
        if "Process Group Name" in a
    }
    assert len({a["Process Group Name"] for a in groups.values()}) == len(groups)


@given(timelines())
def test_spans_of_the_file_are_those_of_the_timeline(step):
    content = written(step)
    check(content, step)
    found = sorted(
        (
            event["pid"],
            stream_of(event),
            event["name"],
            round(event["ts"] * 1e3),
            round(event["dur"] * 1e3),
            event["args"].get("micro_batch", -1),
            event["args"].get("chunk", -1),
        )
        for event in spans_of(content)
    )
    wanted = sorted(
        (
            step.ranks[step.rank[at]],
            int(step.calls[step.call[at]].stream),
            kernel_name(step.calls[step.call[at]]),
            round(step.start_s[at] * 1e9),
            round(step.end_s[at] * 1e9) - round(step.start_s[at] * 1e9),
            step.micro_batch[at],
            step.chunk[at],
        )
        for at in range(len(step.rank))
    )
    assert found == wanted


def test_spans_that_touch_do_not_overlap_once_rounded():
    edges = np.cumsum(np.random.default_rng(0).uniform(0, 3e-9, 400))
    step = timeline([(0, 0, *pair) for pair in pairwise(edges)], ranks=(0,))
    events = spans_of(written(step))
    at = [(round(e["ts"] * 1e3), round((e["ts"] + e["dur"]) * 1e3)) for e in events]
    assert all(one[1] == other[0] for one, other in pairwise(at))


def test_arrows_go_from_sends_to_receives_and_forward():
    # The first receive waits before its send starts; the second is served late.
    spans = [(0, 7, 1.0, 2.0), (1, 8, 0.0, 2.0), (0, 7, 2.0, 3.0), (1, 8, 4.0, 5.0)]
    content = written(timeline(spans, flows=((2, 3), (0, 1))))
    starts = [(e["id"], e["pid"], stream_of(e), e["ts"]) for e in of(content, "s")]
    ends = [(e["id"], e["pid"], stream_of(e), e["ts"]) for e in of(content, "f")]
    assert starts == [(1, 0, 3, 1e6), (2, 0, 3, 2e6)]
    assert ends == [(1, 8, 4, 1e6), (2, 8, 4, 4e6)]


def test_counters_follow_memory_and_links():
    counters = [
        (event["pid"], event["name"], event["ts"], event["args"])
        for event in of(written(by_hand()), "C")
    ]
    assert counters == [
        (0, "memory", 0.0, {"bytes": 1_000_000_000}),
        (0, "memory", 2.5e6, {"bytes": 3_000_000_000}),
        (0, "link nvlink", 1e6, {"share": 0.5}),
        (0, "link nvlink", 2e6, {"share": 0.0}),
        (8, "memory", 0.0, {"bytes": 2_000_000_000}),
    ]


def swept_overlap(events):
    """Return the share of communication under compute, one nanosecond edge after another."""
    edges = []
    for event in events:
        kind = "nccl" if event["name"].startswith("nccl") else event["cat"]
        start = round(event["ts"] * 1e3)
        edges += [(start, 1, kind), (start + round(event["dur"] * 1e3), -1, kind)]
    open_, last, under, total = {"nccl": 0, "kernel": 0, "gpu_memcpy": 0}, 0, 0, 0
    for at, change, kind in sorted(edges):
        if open_["nccl"]:
            total += at - last
            under += (at - last) * (open_["kernel"] > 0)
        open_[kind] += change
        last = at
    return under / total if total else None


@given(timelines())
def test_overlap_swept_from_the_file_is_the_timelines_own(step):
    events = spans_of(written(step))
    for rank, number in enumerate(step.ranks):
        swept = swept_overlap([event for event in events if event["pid"] == number])
        own = step.overlap_fraction(rank)
        assert isnan(own) if swept is None else own == pytest.approx(swept, rel=1e-6, abs=1e-9)


@given(timelines(), st.randoms())
def test_the_same_step_is_the_same_bytes_in_whatever_order_it_came(step, random):
    order = list(range(len(step.rank)))
    random.shuffle(order)
    names = ("rank", "call", "start_s", "end_s", "micro_batch", "chunk")
    shuffled = replace(step, **{name: getattr(step, name)[order] for name in names})
    with TemporaryDirectory() as folder:
        one, other = Path(folder) / "one.json.gz", Path(folder) / "other.json.gz"
        write_trace(step, one, device=DEVICE)
        write_trace(shuffled, other, device=DEVICE)
        assert one.read_bytes() == other.read_bytes()


def test_the_header_of_a_compressed_file_has_neither_name_nor_time(tmp_path):
    write_trace(by_hand(), tmp_path / "step.json.gz", device=DEVICE)
    header = (tmp_path / "step.json.gz").read_bytes()[:8]
    assert header == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert read(tmp_path / "step.json.gz") == written(by_hand())


def test_one_file_per_rank_has_the_same_events(tmp_path):
    step = by_hand()
    write_trace(step, f"{tmp_path}/ranks/", device=DEVICE)
    files = {path.name: read(path) for path in (tmp_path / "ranks").iterdir()}
    assert sorted(files) == ["rank-0.json.gz", "rank-8.json.gz"]
    together = written(step)["traceEvents"]
    for number in (0, 8):
        content = files[f"rank-{number}.json.gz"]
        assert content["distributedInfo"]["rank"] == number
        assert content["traceEvents"] == [e for e in together if e["pid"] == number]
    write_trace(step, f"{tmp_path}/ranks/", device=DEVICE)


def test_one_file_is_open_at_a_time_however_many_ranks_there_are(tmp_path, monkeypatch):
    streams, write = [], trace._write

    def watched(stream, *arguments, **more):
        assert all(each.closed for each in streams)
        streams.append(stream)
        write(stream, *arguments, **more)

    monkeypatch.setattr(trace, "_write", watched)
    write_trace(timeline([], ranks=tuple(range(5))), f"{tmp_path}/ranks/", device=DEVICE)
    assert len(streams) == 5


@pytest.fixture(params=[KeyboardInterrupt, RuntimeError])
def interrupted(request, monkeypatch):
    """Stop the writing at the second rank."""
    blocks = TraceEvents.blocks

    def stopping(self, rank):
        if rank == 1:
            raise request.param
        return blocks(self, rank)

    monkeypatch.setattr(TraceEvents, "blocks", stopping)
    return request.param


@pytest.mark.parametrize("name", ["step.json", "step.json.gz"])
def test_an_interruption_leaves_nothing_and_keeps_an_older_file(tmp_path, interrupted, name):
    for older in ([], [name]):
        for each in older:
            (tmp_path / each).write_text("old")
        with pytest.raises(interrupted):
            write_trace(by_hand(), tmp_path / name, device=DEVICE)
        assert [path.name for path in tmp_path.iterdir()] == older
    assert (tmp_path / name).read_text() == "old"


def test_an_interruption_of_several_files_leaves_none(tmp_path, interrupted):
    with pytest.raises(interrupted):
        write_trace(by_hand(), f"{tmp_path}/ranks/", device=DEVICE)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "rank-0.json.gz").write_text("old")
    with pytest.raises(interrupted):
        write_trace(by_hand(), f"{tmp_path}/", device=DEVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["rank-0.json.gz"]
    assert (tmp_path / "rank-0.json.gz").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("missing/step.json", "no folder"),
        ("folder.json", "cannot be written: Is a directory"),
        ("step.pb", "end the name in .json or .json.gz"),
        ("step\0.json", "cannot be written: "),
    ],
)
def test_a_trace_that_cannot_be_written_is_refused(tmp_path, name, mend):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SpecError) as caught:
        write_trace(by_hand(), f"{tmp_path}/{name}", device=DEVICE)
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == ("--trace", f"{tmp_path}/{name}")
    assert mend in problem.mend
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "missing/folder", "a\0b"):
        with pytest.raises(SpecError, match=r"--trace = .*: (cannot be made|no folder)"):
            write_trace(by_hand(), f"{tmp_path}/{name}/", device=DEVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_traces_of_another_step_are_not_mixed_with(tmp_path):
    (tmp_path / "rank-9.json.gz").write_text("old")
    with pytest.raises(SpecError, match=r"has rank-9\.json\.gz of another step"):
        write_trace(by_hand(), f"{tmp_path}/", device=DEVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["rank-9.json.gz"]


@pytest.mark.parametrize("name", ["nccl test", "a Memcpy", "Memset", "cudaDeviceSync", "dma in"])
def test_compute_that_readers_would_misread_is_a_bug(tmp_path, name):
    calls = (Call(name=name, stream=Stream.COMPUTE),)
    with pytest.raises(ValueError, match="would not take"):
        write_trace(
            timeline([(0, 0, 0.0, 1.0)], calls=calls), tmp_path / "step.json", device=DEVICE
        )
    assert list(tmp_path.iterdir()) == []
    ring = Call(name=name, stream=Stream.CP, collective=Collective.SHIFT)
    assert kernel_name(ring).endswith(name)


def test_blocks_of_events_are_joined_to_one_list(monkeypatch):
    whole = written(by_hand())
    monkeypatch.setattr("models.simulation.trace_events.BLOCK", 2)
    assert written(by_hand()) == whole
