"""Timelines as files for trace viewers: Perfetto, chrome://tracing, Holistic Trace Analysis.

Perfetto and chrome://tracing show all ranks of one file below each other. Holistic Trace Analysis
wants a folder with one file per rank::

    from hta.trace_analysis import TraceAnalysis

    TraceAnalysis(trace_dir="folder").get_comm_comp_overlap(visualize=False)
"""

from __future__ import annotations

import gzip
import json
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from models.simulation.trace_events import DEVICE, TraceEvents
from topologies.errors import Problem, SpecError, raise_if_any
from topologies.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.simulation.timeline import Timeline

#: The flag that asks for traces.
FIELD = "--trace"
#: Repetitive lines gain little from more effort.
COMPRESSION = 3


def write_trace(timeline: Timeline, path: str | os.PathLike[str], *, device: str) -> None:
    """Write all simulated ranks to one file, or each to its own, all whole or not at all.

    The same timeline always makes the same bytes.

    Parameters
    ----------
    timeline
        What happened.
    path
        Ends in ``.json``, or in ``.json.gz`` for a compressed file; or in ``/`` for a folder, made
        if it is not there, with one file for each rank: ``rank-<global number>.json.gz``.
    device
        Name of the accelerator.

    Raises
    ------
    SpecError
        If a file cannot be written, or its name ends otherwise; or a folder has traces of other
        ranks, which readers would take for ranks of this step.
    """
    check_name(path)
    name = os.fspath(path)
    if name.endswith("/"):
        _write_folder(timeline, Path(name), device)
        return
    events = TraceEvents(timeline)
    with whole_file(name, FIELD) as stream:
        _write(stream, events, range(len(timeline.ranks)), device, zipped=name.endswith(".gz"))


def check_name(path: str | os.PathLike[str]) -> None:
    """Check the name of a trace before there is anything to write.

    Raises
    ------
    SpecError
        If it does not say how to write it, or its folder is not there.
    """
    name, folder = os.fspath(path), Path(path).parent
    found = []
    if not name.endswith((".json", ".json.gz", "/")):
        mend = "end the name in .json or .json.gz, or in / for a folder with a file for each rank"
        found.append(Problem(FIELD, name, mend))
    if not folder.is_dir():
        found.append(Problem(FIELD, name, f"no folder {folder}: make it first"))
    raise_if_any(found)


def _write_folder(timeline: Timeline, folder: Path, device: str) -> None:
    """Write one file per simulated rank, all of them or none."""
    events = TraceEvents(timeline)
    names = [f"rank-{rank}.json.gz" for rank in timeline.ranks]
    with _made(folder) as home, ExitStack() as files:
        others = sorted({path.name for path in home.glob("rank-*.json.gz")} - set(names))
        if others:
            mend = f"has {others[0]} of another step: give a new folder"
            raise SpecError([Problem(FIELD, folder, mend)])
        for rank, name in enumerate(names):
            stream = files.enter_context(whole_file(home / name, FIELD))
            _write(stream, events, [rank], device, zipped=True)
            # Closed here, in place only when all are: no limit on open files.
            stream.close()


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """Make a folder, and take it away again if nothing comes of it."""
    try:
        new = not folder.exists()
        folder.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([Problem(FIELD, folder, f"cannot be made: {reason}")]) from error
    try:
        yield folder
    except BaseException:
        if new:
            folder.rmdir()
        raise


def _write(
    stream: BinaryIO, events: TraceEvents, ranks: Sequence[int], device: str, *, zipped: bool
) -> None:
    if not zipped:
        _write_json(stream, events, ranks, device)
        return
    # Neither name nor time in the header: the same events are the same bytes.
    with gzip.GzipFile(
        filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=COMPRESSION
    ) as packed:
        _write_json(packed, events, ranks, device)


def _write_json(
    stream: BinaryIO | gzip.GzipFile, events: TraceEvents, ranks: Sequence[int], device: str
) -> None:
    timeline = events.timeline
    whose = {
        "backend": "nccl",
        "rank": timeline.ranks[ranks[0]],
        "world_size": timeline.world_size,
    }
    devices = [{"id": DEVICE, "name": device}]
    head = (
        f'{{\n"schemaVersion": 1,\n"distributedInfo": {json.dumps(whose)},\n'
        f'"deviceProperties": {json.dumps(devices)},\n"traceEvents": [\n'
    )
    stream.write(head.encode())
    blocks = (block for rank in ranks for block in events.blocks(rank))
    for number, block in enumerate(blocks):
        stream.write((",\n" if number else "").encode() + block.encode())
    stream.write(b"\n]\n}\n")
