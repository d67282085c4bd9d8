"""``meshwright check-kernels``: jobs it starts, jobs it is started in, and what cannot be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from tests.validate import jobs
from validate import exactness, processes
from validate.cases import cases
from validate.exactness import TENSORS, Told

COMMAND = [sys.executable, "-c", "from planner.cli import main; main()", "check-kernels"]


def run(*arguments, of="check-kernels", **environment):
    return subprocess.run(
        [*COMMAND[:-1], of, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def launcher(port):
    return {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def test_processes_compute_what_one_process_does_that_plays_them_all():
    """To the last bit: they run the same blocks in the same order.

    But for the sum over ranks of gathered keys' gradients, whose order is gloo's own.
    """
    asked = cases(4, ["f32", "bf16"])
    told = Told(real=asked, virtual=[])
    ranks = processes.run(4, exactness.check, told, timeout_s=120)
    assert all(found == ranks[0] for found in ranks[1:])
    assert all(found.exact for found in ranks[0])
    alone = list(exactness.check_virtually(asked))
    for real, virtual in zip(ranks[0], alone, strict=True):
        same = 2 if real.case.gathers else 4
        assert real.errors[:same] == virtual.errors[:same], real.case


def test_torchs_own_template_gives_the_same_ring():
    pytest.importorskip("torch.distributed.tensor.experimental._context_parallel._attention")
    heads = 8, 8, 2, 2
    differences = processes.run(4, jobs.beside_torchs_template, heads, timeout_s=120)
    assert max(differences) < 5e-15


@pytest.mark.parametrize("window", [None, 3_000])
def test_nothing_as_large_as_queries_times_keys_is_kept(window):
    tokens = 16_384
    (rise,) = processes.run(1, jobs.peak_of_long_attention, (tokens, window), timeout_s=120)
    assert rise < tokens * tokens * 4 / 16


def test_checks_are_printed_and_written(tmp_path):
    file = tmp_path / "checks.json"
    done = run("--world", "1,2", "--dtype", "f32", "--steps", "2", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "all are exact" in " ".join(done.stdout.split())
    written = json.loads(file.read_text())
    (training,) = written["trainings"]
    assert training["agrees"]
    assert training["resumed_exactly"]
    assert training["first"] == {"ulysses": 1, "ring": 2}
    checks = written["checks"]
    assert {(check["ulysses"], check["ring"]) for check in checks} >= {(1, 1), (1, 2), (8, 1)}
    assert all(check["exact"] for check in checks)
    assert {check["virtual"] for check in checks} == {True, False}
    for check in checks:
        assert set(check["errors"]) == set(TENSORS)
        assert max(check["errors"].values()) < check["tolerance"]


def test_a_launched_job_is_joined():
    done = run("--dtype", "f64", **launcher(free_port()))
    assert done.returncode == 0, done.stderr
    assert "exact" in done.stdout


def test_a_port_in_use_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--dtype", "f64", "--timeout", "10", **launcher(taken.getsockname()[1]))
    assert done.returncode == 2, done.stderr
    assert "MASTER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


NOWHERE = "/no/such/folder/x.json"


@pytest.mark.parametrize("wrong", [("--timeout", "inf"), ("--dtype", ""), ("--json", NOWHERE)])
def test_what_means_nothing_is_refused_before_anything_runs(wrong):
    done = run(*wrong)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(wrong[0])
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_calibration_that_cannot_be_written_is_not_begun():
    done = run("--json", NOWHERE, "--out", f"{NOWHERE}/y.json", of="calibrate")
    assert done.returncode == 2, done.stderr
    assert [line.split(" = ")[0] for line in done.stderr.splitlines()] == ["--out", "--json"]


def test_only_the_rank_that_answers_needs_a_place_for_it():
    rank = {**launcher(free_port()), "RANK": "1", "WORLD_SIZE": "2"}
    done = run("--json", NOWHERE, "--timeout", "0.1", **rank)
    assert done.returncode == 2, done.stderr
    assert "--json" not in done.stderr


def test_everything_that_cannot_be_is_told_at_once():
    wrong = ["--world", "3", "--dtype", "f32,f8", "--timeout", "0", "--steps", "1"]
    if not torch.cuda.is_available():
        wrong += ["--device", "cuda"]
    done = run(*wrong)
    assert done.returncode == 2
    assert all(option in done.stderr for option in wrong[::2])
    assert "Traceback" not in done.stderr


def test_an_error_that_is_more_than_rounding_ends_with_exit_code_1():
    less = "from validate import exactness; exactness.TOLERANCES['f64'] = 1e-17; "
    done = subprocess.run(
        [*COMMAND[:2], less + COMMAND[2], COMMAND[3], "--dtype", "f64"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | launcher(free_port()),
    )
    assert done.returncode == 1, done.stderr
    assert "NOT EXACT" in done.stdout
