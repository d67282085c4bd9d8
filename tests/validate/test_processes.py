"""Jobs of several processes: results of all, or which rank is to blame, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.validate import jobs
from validate import processes
from validate.processes import RankError

ROOT = Path(__file__).parent.parent.parent


def alive(pid):
    """Return whether a process runs, and is not only waiting to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_every_rank_answers_in_its_place():
    heard = []
    found = processes.run(
        3, jobs.add_up, 10, timeout_s=60, progress=lambda *what: heard.append(what)
    )
    assert found == [(0, 33.0), (1, 33.0), (2, 33.0)]
    assert sorted(heard) == [(0, "adding"), (1, "adding"), (2, "adding")]


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (jobs.die, "rank 2 of 3: died of SIGKILL"),
        (jobs.hang, "rank 2 of 3: hangs: silent for 4 s"),
        (jobs.fail, "ZeroDivisionError: by nothing"),
    ],
)
def test_the_rank_to_blame_is_named(job, says):
    started = time.monotonic()
    with pytest.raises(RankError, match=says):
        processes.run(3, job, 2, timeout_s=4)
    assert time.monotonic() - started < 30


def test_ranks_do_not_run_the_main_file_again(monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('run again')")
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert processes.run(2, jobs.add_up, 10, timeout_s=60) == [(0, 21.0), (1, 21.0)]


def test_what_ranks_refuse_is_told_as_they_say_it():
    with pytest.raises(RankError, match="--ulysses = 3: a divisor of the 8 query heads"):
        processes.run(2, jobs.refuse, 3, timeout_s=30)


def test_ranks_of_unequal_length_are_told_before_they_hang():
    assert processes.run(4, jobs.meet_unequal, None, timeout_s=30) == [8] * 4
    with pytest.raises(RankError) as caught:
        processes.run(4, jobs.meet_unequal, 3, timeout_s=30)
    assert "[1, 4, 10, 8] and [1, 2, 10, 8] on rank 3" in str(caught.value)
    assert "[1, 4, 8, 8] and [1, 2, 8, 8] on rank 0" in str(caught.value)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nobody_is_left_behind_when_the_job_is_stopped(end):
    code = (
        "from tests.validate import jobs; from validate import processes\n"
        "if __name__ == '__main__':\n"
        "    processes.run(2, jobs.sleep, 600, timeout_s=600,\n"
        "                  progress=lambda rank, pid: print(pid, flush=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    ranks = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(alive, ranks))
    os.kill(parent.pid, end)
    parent.wait(20)
    parent.stdout.close()
    until = time.monotonic() + 20
    while any(map(alive, ranks)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, ranks))
