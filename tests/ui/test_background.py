"""Runs answer, refuse, stop, and leave no process behind."""

import os
import subprocess
import time

import pytest

from ui import background
from ui.background import Office, end
from ui.question import Question

SMALL = Question(
    model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused"
)
MONSTER = Question(model="deepseek-v3", gpus="2048", seq_len="4k", global_batch="15360")


def wait(run, phases=("done", "refused", "failed", "stopped"), seconds=60.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = run.status()
        if status.phase in phases:
            return status
        time.sleep(0.05)
    raise AssertionError(f"still {run.status()}")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def office():
    found = Office()
    yield found
    if found._spare is not None:
        end(found._spare)


def test_a_search_is_answered_with_its_counts_and_kept(office):
    status = wait(office.start("search", SMALL))
    assert status.phase == "done"
    assert status.result.search.legal >= status.result.search.fit > 0
    assert status.progress.layouts > 0
    again = office.start("search", SMALL).status()
    assert again.phase == "done"
    assert again.result is not status.result
    assert again.result.best == status.result.best


def test_what_cannot_be_is_refused_with_every_problem(office):
    wrong = Question(model="lama", cluster="h100_dgx", gpus="x")
    status = wait(office.start("search", wrong))
    assert status.phase == "refused"
    assert len(status.problems) == 3
    assert "did you mean" in " ".join(status.problems)


def test_a_monstrous_search_is_stopped_at_once_and_its_process_is_gone(office):
    run = office.start("search", MONSTER)
    wait(run, ("running",))
    while run.status().progress is None:
        time.sleep(0.05)
    pid = run._process.pid
    begun = time.monotonic()
    run.stop()
    assert wait(run).phase == "stopped"
    assert time.monotonic() - begun < 2.0
    assert not alive(pid)


def test_a_run_that_nobody_asks_about_ends(office, monkeypatch):
    monkeypatch.setattr(background, "FORGOTTEN_S", 1.0)
    run = office.start("search", MONSTER)
    wait(run, ("running",))
    pid = run._process.pid
    time.sleep(4.0)
    assert run.over
    assert not alive(pid)


def test_a_worker_ends_when_its_page_is_gone():
    process = background._process()
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    process.stdout.close()


def test_a_busy_worker_ends_when_its_page_is_gone():
    process = background._process()
    background.send(process.stdin, ("search", (MONSTER,), True))
    background.receive(process.stdout)
    process.stdin.close()
    assert process.wait(timeout=20) == 1
    process.stdout.close()


def test_those_beyond_the_cores_wait_for_their_turn(office):
    runs = [office.start("search", MONSTER) for _ in range(background.AT_ONCE + 1)]
    time.sleep(3.0)
    phases = sorted(run.status().phase for run in runs)
    assert phases.count("running") == background.AT_ONCE
    assert phases.count("waiting") == 1
    for run in runs:
        run.stop()
    time.sleep(0.5)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    spare = office._spare.pid if office._spare else 0
    ours = {int(pid) for pid in listed.split()}
    assert not [run for run in runs if run._process and run._process.pid in ours - {spare}]
