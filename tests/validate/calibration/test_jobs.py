"""Calibrations on real processes: started here, by the command, and by a launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.profile_file import read_profile
from tests.validate.calibration import jobs
from tests.validate.calibration.jobs import TINY, ask, below
from tests.validate.calibration.runs import OLD, kept_of, names_in, samples_in
from tests.validate.test_processes import alive
from validate.calibration import calibrate as module
from validate.calibration import everything
from validate.calibration.calibrate import calibrate
from validate.calibration.rounds import BATCH
from validate.processes import RankError

ROOT = Path(__file__).parent.parent.parent.parent
SMALL = (
    "from tests.validate.calibration.jobs import TINY\n"
    "from validate.calibration import item\n"
    "item.SCALES['cpu'] = TINY\n"
)
COMMAND = f"{SMALL}from planner.cli import main\nif __name__ == '__main__':\n    main()\n"
SETTINGS = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def rounds_of(found):
    return [len(each.seconds) for each in found.found]


def gone(pids):
    """Return whether processes end before long."""
    until = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.fixture
def path(path):
    """Where another profile is already."""
    path.write_bytes(OLD)
    return path


@pytest.fixture
def script(tmp_path_factory):
    """Where a program may lie whose processes read it again."""
    return tmp_path_factory.mktemp("program") / "program.py"


def test_two_processes_are_interrupted_and_go_on_to_a_profile(path):
    items, ranks = everything.items("cpu", 2, TINY), []

    def stop(done, total):
        ranks.extend(below(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(ask(path, rounds=2), stop, TINY)
    assert len(ranks) >= 2
    assert gone(ranks)
    assert path.read_bytes() == OLD
    assert samples_in(kept_of(path)) == BATCH
    assert names_in(path.parent) == [".mine.json.kept.json", "mine.json"]
    counts = []
    found = calibrate(ask(path, rounds=2), lambda *what: counts.append(what), TINY)
    assert [done for done, _ in counts] == [*range(2 * BATCH, 2 * len(items), BATCH), 200]
    assert [each.item for each in found.found] == items
    assert rounds_of(found) == [2] * len(items)
    assert names_in(path.parent) == ["mine.json"]
    profile = read_profile(path, "cpu-core")
    assert {(str(each.collective), each.scale_out) for each in profile.collectives} == {
        (item["collective"], False) for item in items if item.kind == "collective"
    }
    for mine, read in zip(found.fitted.profile.collectives, profile.collectives, strict=True):
        for name in ("start", "per_byte", "per_root_byte"):
            assert getattr(read, name).value == pytest.approx(getattr(mine, name).value)
    assert "steal_scale_up" in found.fitted.measured
    bursts = [each for each in found.found if each.item.kind == "probe"]
    cores = [
        2 * seconds / wall
        for each in bursts
        for seconds, wall in zip(each.seconds, each.wall_s, strict=True)
    ]
    assert found.cores.median == pytest.approx(np.median(cores))
    for each in found.fitted.predictions:
        assert each.wall_s == pytest.approx(each.seconds * max(2 / np.median(cores), 1.0))
    checks = json.loads(path.read_text())["checks"]
    assert all(each["ok"] for each in checks if "ok" in each)
    assert [each["name"] for each in checks if "error" in each] == [
        "peak of a block: hidden 32, 24 tokens"
    ]


def test_one_process_plays_all_ranks(path):
    found = calibrate(ask(path, world=1, rounds=1), lambda *_: None, TINY)
    assert read_profile(path, "cpu-core").collectives == ()
    assert {each.measurement.item["virtual"] for each in found.fitted.predictions[:4]} == {True}
    assert rounds_of(found) == [1] * len(everything.items("cpu", 1, TINY))


def test_a_rank_that_dies_is_named_and_nothing_is_lost(path, monkeypatch):
    monkeypatch.setattr(module, "measure", jobs.measure_until_one_dies)
    with pytest.raises(RankError, match="rank 1 of 2: died of SIGKILL"):
        calibrate(ask(path, timeout_s=20.0), lambda *_: None, TINY)
    assert path.read_bytes() == OLD
    assert samples_in(kept_of(path)) == 2 * BATCH
    assert names_in(path.parent) == [".mine.json.kept.json", "mine.json"]
    assert not below(os.getpid())


def test_the_command_is_stopped_by_its_user_and_goes_on_when_called_again(path, script):
    """As a terminal does it: the signal goes to all processes of the command."""
    script.write_text(COMMAND)  # as a user calls it, but for the sizes of what is measured
    command = [sys.executable, str(script), "calibrate", "--out", str(path), "--world", "2"]
    parent = subprocess.Popen(
        [*command, "--rounds", "100000", "--budget", "3600"],
        env=SETTINGS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    kept = path.parent / ".mine.json.kept.json"
    while not kept.exists() and parent.poll() is None:
        time.sleep(0.02)
    ranks = below(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=60)
    assert (parent.returncode, out, err) == (130, "", "Stopped.\n")
    assert len(ranks) >= 2
    assert gone(ranks)
    assert path.read_bytes() == OLD
    assert names_in(path.parent) == [".mine.json.kept.json", "mine.json"]
    had = samples_in(kept_of(path))
    assert had >= BATCH
    done = subprocess.run(
        [*command, "--rounds", "1", "--json", "-"],
        env=SETTINGS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(done.stdout)  # and nothing else
    assert content == json.loads(path.read_text())
    items = everything.items("cpu", 2, TINY)
    assert len(content["measurements"]) == len(items)
    assert sum(each["rounds"] for each in content["measurements"]) == max(had, len(items))
    assert names_in(path.parent) == ["mine.json"]


LAUNCHED = f"""
{SMALL}
import os, sys
from validate.calibration.calibrate import calibrate
from tests.validate.calibration.jobs import ask

def count(done, total):
    assert os.environ["RANK"] == "0"

if __name__ == "__main__":
    found = calibrate(ask(sys.argv[1], world=None, rounds=2), count)
    assert (found is not None) == (os.environ["RANK"] == "0")
    print(os.environ["RANK"], "done")
"""


def test_ranks_of_a_launcher_measure_together_and_the_first_one_writes(path, script):
    script.write_text(LAUNCHED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script), str(path)],
        env=SETTINGS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "0 done", "1 done"]
    content = json.loads(path.read_text())
    assert [each["rounds"] for each in content["measurements"]] == [2] * len(
        everything.items("cpu", 2, TINY)
    )
    assert content["provenance"]["world"] == 2
    assert read_profile(path, "cpu-core").collectives
    assert names_in(path.parent) == ["mine.json"]


def test_help_of_the_command_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['meshwright', *{arguments}]\n"
        "from planner.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(', '.join(sorted({{'torch', 'scipy', 'numpy'}} & set(sys.modules))) or 0)"
    )
    for arguments, told in ((["--help"], "calibrate"), (["calibrate", "--help"], "--budget")):
        done = subprocess.run(
            [sys.executable, "-c", script.format(arguments=arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
