"""How calibrations end: short of time or memory, on the screen, and on ranks of a launcher."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from planner.cli import main
from tests.validate.calibration import jobs
from tests.validate.calibration.jobs import TINY
from tests.validate.calibration.runs import (
    ITEMS,
    OLD,
    interrupted,
    kept_of,
    names_in,
    run,
    samples_in,
)
from topologies.errors import SpecError
from validate.calibration import calibrate as module
from validate.calibration import everything
from validate.calibration.kept import Kept
from validate.calibration.rounds import BATCH, Heard


# -------------------------------------------------------------------------------------- the budget
def test_too_few_seconds_are_told_with_the_file_that_keeps_what_there_is(
    here, sampled, budget, path
):
    path.write_bytes(OLD)
    with pytest.raises(SpecError) as caught:
        run(path, budget_s=20.0)
    (problem,) = caught.value.problems
    text = str(problem)
    assert text.startswith(f"--budget = 20.0: more seconds: 20 of {len(ITEMS)} things were")
    assert str(path.parent / ".mine.json.kept.json") in text
    assert "attention_backward" in text
    assert path.read_bytes() == OLD
    assert samples_in(kept_of(path)) == 20
    run(path, rounds=1)
    assert len(sampled) == len(ITEMS)


def test_what_time_did_not_suffice_for_is_told(here, sampled, budget, path):
    count = len(ITEMS) - 5
    found = run(path, budget_s=float(count))
    assert len(sampled) == len(found.found) == count
    assert {why for what, why in found.content.skipped[2:]} == {"the budget ran out"}
    left = [what.split(": ") for what, _ in found.content.skipped[2:]]
    assert sum(int(number) for _, number in left) == 5
    assert {kind for kind, _ in left} == {i.kind for i in set(ITEMS) - set(sampled)}
    assert names_in(path.parent) == ["mine.json"]


def test_a_later_round_that_time_ends_is_no_gap(here, sampled, budget, path):
    found = run(path, budget_s=float(len(ITEMS) + 10))
    assert sorted({len(each.seconds) for each in found.found}) == [1, 2]
    assert len(found.content.skipped) == 2


def test_without_the_probe_no_cores_are_told(here, sampled, monkeypatch, path):
    monkeypatch.setattr(everything.probe, "items", list)
    found = run(path, rounds=1)
    assert found.cores is None
    assert found.content.provenance["effective_cores"] is None


def test_what_the_memory_is_too_small_for_is_told_as_left_out(here, sampled, monkeypatch, path):
    prepare = everything.prepare

    def prepared(item, bench):
        if item.kind == "block":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prepare(item, bench)

    monkeypatch.setattr(everything, "prepare", prepared)
    found = run(path)
    (block,) = [item for item in ITEMS if item.kind == "block"]
    assert found.content.skipped[2:] == [(str(block), "the device's memory is too small")]
    assert json.loads(path.read_text())["skipped"][2:] == [
        [str(block), "the device's memory is too small"]
    ]


# ------------------------------------------------------------------------------------- the command
def called(monkeypatch, capsys, *arguments):
    """Return what the command prints where nothing is large."""
    monkeypatch.setitem(everything.SCALES, "cpu", TINY)
    monkeypatch.setattr(sys, "argv", ["meshwright", "calibrate", "--world", "1", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    return out


def test_figures_errors_and_how_to_use_them_are_printed(here, monkeypatch, capsys, path):
    out = called(monkeypatch, capsys, "--out", str(path), "--rounds", "1")
    content = json.loads(path.read_text())
    for name in (*content["parameters"], *content["fits"]):
        assert name in out, name
    told = " ".join(out.split())
    assert "Checks: 1 of 1 attentions exact in bf16; peak memory of a block within 0.0%" in told
    for method in ("4x1 virtual ulysses", "1x4 virtual ring", "1x4 virtual gathered"):
        assert method in told
    assert "Left out: replay: graphs of kernels need a GPU." in told
    assert "All ranks together had" in told
    assert told.endswith(f"Written: {path}; plans take it with --profile {path}")


def test_json_is_the_profile_and_nothing_else(here, monkeypatch, capsys, path):
    out = called(monkeypatch, capsys, "--out", str(path), "--rounds", "1", "--json", "-")
    assert json.loads(out) == json.loads(path.read_text())
    file = path.parent / "again.json"
    out = called(monkeypatch, capsys, "--out", str(path), "--rounds", "1", "--json", str(file))
    assert "Written" in out
    assert json.loads(file.read_text()) == json.loads(path.read_text())


# ---------------------------------------------------------------------------- ranks of a launcher
def test_only_the_first_rank_of_a_launcher_writes(monkeypatch, here, sampled, path):
    interrupted(path, 1)
    before = (path.parent / ".mine.json.kept.json").read_bytes()
    removed = []

    def measured(asked, told, heard):
        (path.parent / ".mine.json.kept.json").unlink()  # the first rank is done
        removed.append(told.had)

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(module, "_measured", measured)
    assert run(path, world=None) is None
    assert before
    assert sum(removed[0]) == BATCH
    assert names_in(path.parent) == []


def test_reports_of_others_are_no_samples(monkeypatch, here, path):
    added = []
    monkeypatch.setattr(Kept, "add", lambda self, items, what: added.append(what))

    def measured(asked, told, heard):
        heard(0, "adding")
        heard(0, Heard())
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_measured", measured)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    assert added == [Heard()]
    assert names_in(path.parent) == []


def test_jobs_are_small_enough_for_these_tests():
    assert len(everything.items("cpu", 2, TINY)) > jobs.LAST
