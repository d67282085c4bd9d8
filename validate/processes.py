"""A job of several processes on this machine, or this process' part of one that a launcher started.

Whatever becomes of a process, the job ends: with results of all ranks, or with an error that names
the rank, and with no process left behind.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import wait
from types import ModuleType
from typing import TYPE_CHECKING, Any

from topologies.errors import MeshwrightError, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

#: How long after a rank's failure the others may still say why theirs was.
GRACE_S = 2.0
#: Loaded once by the server that processes are forked from.
PRELOADED = ["torch", "torch.distributed.fsdp", "validate.exactness"]


class RankError(MeshwrightError):
    """A rank of a job that died, hung or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A place in a job.

    Parameters
    ----------
    rank, world
        Which of how many.
    report
        Tells whoever started the job how far it is.
    """

    rank: int
    world: int
    report: Callable[[object], None]


def launched() -> bool:
    """Return whether a launcher such as torchrun started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def first() -> bool:
    """Return whether this process is the one to tell: the first of a launcher's, or alone."""
    return not launched() or os.environ["RANK"] == "0"


@contextmanager
def launched_rank(
    device: str, timeout_s: float, report: Callable[[object], None]
) -> Iterator[Rank]:
    """Give this process' place in a launcher's job, with the default process group up.

    Parameters
    ----------
    device, timeout_s
        As of :func:`group`.
    report
        Of the place.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with group(rank, world, "env://", timeout_s, device):
        yield Rank(rank=rank, world=world, report=report)


def run(
    world: int,
    job: Callable[[Rank, Any], Any],
    told: object,
    *,
    timeout_s: float,
    progress: Callable[[int, object], None] | None = None,
) -> list[Any]:
    """Run a job on CPU processes of this machine, over gloo, and return every rank's result.

    Parameters
    ----------
    world
        How many.
    job
        A function of a module; called with its :class:`Rank` and `told`, with the default process
        group of ``torch.distributed`` up.
    told
        Anything that pickles.
    timeout_s
        How long no rank may be silent.
    progress
        Called with a rank and what it reports.

    Raises
    ------
    RankError
        If a rank dies, fails or hangs; it says which.
    """
    return _Running(world, job, told, timeout_s, progress).results()


@dataclass(slots=True)
class _Running:
    world: int
    job: Callable[[Rank, Any], Any]
    told: object
    timeout_s: float
    progress: Callable[[int, object], None] | None
    found: dict[int, Any] = field(default_factory=dict)
    processes: list[Any] = field(default_factory=list)
    #: What became of ranks without a result: how, and in words.
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)

    def results(self) -> list[Any]:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meshwright-"))
            context = mp.get_context("forkserver")
            context.set_forkserver_preload(PRELOADED)
            _start_server()
            ends: dict[Connection, int] = {}
            for rank in range(self.world):
                ours, theirs = context.Pipe()
                stack.callback(ours.close)
                process = context.Process(
                    target=_process,
                    args=(rank, self.world, f"{folder}/store", self.timeout_s, theirs),
                    kwargs={"job": self.job, "told": self.told},
                    daemon=True,
                )
                with _uninterrupted(), _main_left_out():  # or it runs on, unknown to anyone
                    process.start()
                    stack.callback(_end, process)
                theirs.close()
                ends[ours] = rank
                self.processes.append(process)
            self._listen(ends)
        if self.failed:
            raise RankError(self._why())
        return [self.found[rank] for rank in range(self.world)]

    def _listen(self, ends: dict[Connection, int]) -> None:
        """Take reports until all ranks are done, or one has failed and others said why too."""
        patience = self.timeout_s + GRACE_S  # a collective of theirs gives up a little earlier
        until = time.monotonic() + patience
        while ends:
            ready = wait(list(ends), max(until - time.monotonic(), 0.0))
            if not ready:
                break
            for end in [each for each in ends if each in ready]:
                if self._heard(end, ends[end]):
                    del ends[end]
            now = time.monotonic()
            until = min(until, now + GRACE_S) if self.failed else now + patience
        for rank in ends.values():
            self.failed[rank] = "hangs", f"hangs: silent for {self.timeout_s:g} s"

    def _heard(self, end: Connection, rank: int) -> bool:
        """Take one report, and return whether it was the rank's last."""
        try:
            kind, value = end.recv()
        except EOFError:
            kind, value = "died", self._died(rank)
        if kind == "ready":  # silence counts from here, however long the start took
            return False
        if kind == "reports":
            if self.progress is not None:
                self.progress(rank, value)
            return False
        if kind == "found":
            self.found[rank] = value
        else:
            self.failed[rank] = kind, str(value)
        return True

    def _died(self, rank: int) -> str:
        process = self.processes[rank]
        process.join(GRACE_S)
        code = process.exitcode
        if code is not None and code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"died without a word, with exit code {code}"

    def _why(self) -> str:
        """Return what became of the rank to blame: others that lost it fail because of it."""
        kinds = "failed", "died", "hangs", "lost"
        first = min(self.failed, key=lambda rank: (kinds.index(self.failed[rank][0]), rank))
        return f"rank {first} of {self.world}: {self.failed[first][1]}"


def _start_server() -> None:
    """Start the server deaf to Ctrl-C: it loads for seconds before it makes itself so.

    Ranks are deaf too; they end once nobody listens to them.
    """
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the end of what is in between."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Have processes start without running this one's main file again: jobs are of modules."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end(process: Any) -> None:  # noqa: ANN401 - processes of contexts have no common type
    if process.is_alive():
        process.kill()
    process.join()


def _process(
    rank: int,
    world: int,
    store: str,
    timeout_s: float,
    end: Connection,
    *,
    job: Callable[[Rank, Any], Any],
    told: object,
) -> None:
    """Run in a process of its own."""
    threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    place = Rank(rank=rank, world=world, report=lambda what: end.send(("reports", what)))
    try:
        with group(rank, world, f"file://{store}", timeout_s):
            end.send(("ready", None))
            # Told before the group is left: the others fail only then.
            end.send(_outcome(job, place, told))
    except KeyboardInterrupt:
        pass
    except SpecError as error:
        end.send(("lost", str(error)))


def _outcome(job: Callable[[Rank, Any], Any], place: Rank, told: object) -> tuple[str, object]:
    try:
        return "found", job(place, told)
    except MeshwrightError as error:
        return "failed", str(error)
    except Exception as error:
        lost = any(word in str(error).lower() for word in ("gloo", "nccl", "timed out"))
        return ("lost" if lost else "failed"), traceback.format_exc().strip()


def _end_with_parent(end: Connection) -> None:
    """End the process once nobody listens to it, whatever it waits for."""
    try:
        end.recv()
    except (EOFError, OSError):
        os._exit(1)


@contextmanager
def group(
    rank: int, world: int, where: str, timeout_s: float, device: str = "cpu"
) -> Iterator[None]:
    """Have the default process group up.

    Parameters
    ----------
    rank, world
        Which of how many.
    where
        As ``init_method`` of ``torch.distributed``: ``file://`` or ``env://``.
    timeout_s
        How long a collective may wait.
    device
        ``cpu``, which gloo works on, or ``cuda``, which NCCL does.

    Raises
    ------
    SpecError
        If the ranks cannot meet there.
    """
    import torch
    import torch.distributed as dist

    if sys.platform == "linux" and where.startswith("file:"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=where,
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout_s),
        )
    except (RuntimeError, ValueError) as error:  # of the store, the network or the backend
        meant = os.environ.get("MASTER_PORT", where)
        reason = str(error).splitlines()[0]
        raise SpecError([Problem("MASTER_PORT", meant, f"ranks cannot meet: {reason}")]) from error
    try:
        yield
    finally:
        dist.destroy_process_group()
