"""Jobs that run beside the page: each in a process of its own, watched, and ended when unwanted.

A page asks a :class:`Run` how it is doing; one that nobody has asked for a while has lost its
visitor and is ended. So are those that take too long. Processes start ahead of their job, so that
none waits for its imports.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ui.worker import receive, send

#: Seconds after which a run that no page asks about is ended.
FORGOTTEN_S = 20.0
#: Seconds that a run may take.
LONGEST_S = 900.0
#: Answers that are kept, and how large they may be, for those who ask the same again.
MOST_KEPT, LARGEST_KEPT = 64, 4_000_000
#: Runs at once; the others wait for their turn.
AT_ONCE = max(2, os.cpu_count() or 2)
_HOME = str(Path(__file__).parent.parent)


@dataclass(frozen=True, slots=True)
class Status:
    """How a run is doing.

    Parameters
    ----------
    phase
        ``waiting``, ``running``, ``done``, ``refused``, ``failed`` or ``stopped``.
    progress
        What the job told last.
    result
        The answer, of a run that is done.
    problems
        Sentences, of one that is refused, failed or stopped.
    seconds
        Since it was asked for.
    """

    phase: str
    progress: Any
    result: Any
    problems: tuple[str, ...]
    seconds: float

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase not in ("waiting", "running")


class Run:
    """One job, from being asked for to its answer."""

    def __init__(self, office: Office, job: str, arguments: tuple[Any, ...], key: bytes) -> None:
        self._office, self._job, self._arguments, self.key = office, job, arguments, key
        self._phase = "waiting"
        self._progress: Any = None
        self._result: Any = None
        self._problems: tuple[str, ...] = ()
        self._asked = self._touched = time.monotonic()
        self._ended: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def status(self) -> Status:
        """Return how it is doing; asking keeps it alive."""
        with self._lock:
            self._touched = time.monotonic()
            until = self._ended or self._touched
            return Status(
                self._phase, self._progress, self._result, self._problems, until - self._asked
            )

    def stop(self, why: str = "Stopped.") -> None:
        """End it now."""
        self._end("stopped", problems=(why,))
        self._kill()

    def check(self) -> None:
        """End it if nobody asks for it any more, or if it takes too long."""
        now = time.monotonic()
        if now - self._touched > FORGOTTEN_S:
            self.stop("Stopped: the page was closed.")
        elif now - self._asked > LONGEST_S:
            self.stop(f"Stopped after {LONGEST_S / 60:.0f} minutes: pin axes to ask for less.")

    def work(self) -> None:
        """Wait for a turn, have a process do the job, and take its answer."""
        while not self._office.turns.acquire(timeout=0.2):
            if self.over:
                return
        try:
            if not self.over:
                self._converse()
        finally:
            self._kill()
            self._office.turns.release()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._ended is not None

    def answered(self, result: object) -> None:
        """Take an answer that is known already."""
        self._end("done", result=result)

    def _converse(self) -> None:
        process = self._office.process()
        with self._lock:
            self._process = process
            self._phase = "running" if self._ended is None else self._phase
        if process.stdin is None or process.stdout is None or self.over:
            return
        try:
            limited = self._job != "calibrate"  # torch maps more than it takes
            send(process.stdin, (self._job, self._arguments, limited))  # type: ignore[arg-type]
            while not self.over:
                kind, value = receive(process.stdout)  # type: ignore[arg-type]
                if kind == "progress":
                    with self._lock:
                        self._progress = value
                elif kind == "done":
                    self._end("done", result=value)
                    self._office.keep(self.key, value)
                else:
                    self._end(kind, problems=value if kind == "refused" else (value,))
        except (OSError, EOFError, pickle.UnpicklingError):
            self._end("failed", problems=("The computing process ended without an answer.",))

    def _end(self, phase: str, result: object = None, problems: tuple[str, ...] = ()) -> None:
        with self._lock:
            if self._ended is None:
                self._phase, self._result, self._problems = phase, result, problems
                self._ended = time.monotonic()

    def _kill(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            end(process)


class Office:
    """Hands out runs and watches over them; one for all visitors of a server."""

    def __init__(self) -> None:
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._spare: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self, job: str, *arguments: Any) -> Run:  # noqa: ANN401 - the job's
        """Return a run of a job of :mod:`ui.jobs`; one that was answered before is done at once."""
        key = pickle.dumps((job, arguments))
        run = Run(self, job, arguments, key)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None:
            run.answered(pickle.loads(kept))
            return run
        with self._lock:
            self._runs.append(run)
        threading.Thread(target=run.work, daemon=True).start()
        return run

    def keep(self, key: bytes, result: object) -> None:
        """Keep an answer, packed: nobody shares a value that could change."""
        packed = pickle.dumps(result)
        if len(packed) <= LARGEST_KEPT:
            with self._lock:
                self._kept[key] = packed
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)

    def process(self) -> subprocess.Popen[bytes]:
        """Return a process that waits for a job, and start the next one."""
        with self._lock:
            ready, self._spare = self._spare, None
        if ready is None or ready.poll() is not None:
            ready = _process()
        threading.Thread(target=self.prepare, daemon=True).start()
        return ready

    def prepare(self) -> None:
        """Have a process wait for the next job."""
        with self._lock:
            if self._spare is None or self._spare.poll() is not None:
                self._spare = _process()

    def _watch(self) -> None:
        while True:
            time.sleep(1.0)
            with self._lock:
                self._runs = [run for run in self._runs if not run.over]
                runs = list(self._runs)
            for run in runs:
                run.check()


@cache
def office() -> Office:
    """Return the server's office."""
    return Office()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()


def _process() -> subprocess.Popen[bytes]:
    paths = [_HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "ui.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | one_thread,
    )
