"""Calibrations from the first sample to the profile: whole, interrupted and gone on with."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from models.profile_file import read_profile
from planner.cli import main
from tests.validate.calibration import jobs
from tests.validate.calibration.jobs import TINY, ask
from topologies.errors import SpecError
from validate.calibration import calibrate as module
from validate.calibration import everything, rounds
from validate.calibration.calibrate import calibrate
from validate.calibration.kept import Kept
from validate.calibration.rounds import BATCH, Heard

ITEMS = everything.items("cpu", 1, TINY)
OLD = b'{"what was": "there"}'


def nobody(done, total):
    pass


def run(path, count=nobody, **changes):
    return calibrate(ask(path, **{"world": 1, **changes}), count, TINY)


def interrupted(path, after, **changes):
    """Have a user stop a calibration once so many batches were told of; return what is kept."""
    told = []

    def count(done, total):
        told.append(done)
        if len(told) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, count, **changes)
    return kept_of(path)


def kept_of(path):
    return json.loads((path.parent / f".{path.name}.kept.json").read_text())


def samples_in(kept):
    return sum(len(samples) for *_, samples in kept["samples"])


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.json"


@pytest.fixture
def budget(monkeypatch):
    """Have a clock that goes on by a second for every item."""
    clock = iter(range(10**6))
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: next(clock)))


# -------------------------------------------------------------------------------------- whole runs
def test_a_profile_is_written_that_plans_read(here, path):
    counts = []
    found = run(path, lambda *what: counts.append(what))
    assert names_in(path.parent) == ["mine.json"]
    profile = read_profile(path, "cpu-core")
    for name in found.fitted.measured:
        mine, read = getattr(found.fitted.profile, name), getattr(profile, name)
        assert read.value == pytest.approx(mine.value, rel=1e-12)
        assert (read.kind, read.source) == (mine.kind, mine.source)
    assert {"gemm_fraction", "attention_fraction", "hbm_fraction", "compute_spread"} < set(
        found.fitted.measured
    )
    total = 3 * len(ITEMS)
    assert counts == [(done, total) for done in [*range(BATCH, total, BATCH), total]]


def test_the_file_holds_what_was_measured_and_where(here, path):
    found = run(path, seed=5, rounds=2)
    content = json.loads(path.read_text())
    assert [(each["kind"], each["args"]) for each in content["measurements"]] == [
        (item.kind, dict(item.args)) for item in ITEMS
    ]
    assert {each["rounds"] for each in content["measurements"]} == {2}
    for one, each in zip(found.found, content["measurements"], strict=True):
        assert (each["t"], each["wall"], each["reps"]) == (one.t, one.wall, one.calls)
        assert each["p10"] <= each["t"] <= each["p90"]
    told = content["provenance"]
    assert (told["world"], told["seed"], told["kind"], told["cluster"]) == (1, 5, "cpu", None)
    assert told["torch"] == torch.__version__
    assert told["effective_cores"]["median"] == found.cores.median
    assert told["budget_s"] == 600.0
    assert told["before"]["date"] <= told["after"]["date"]
    assert set(content["fits"]) == {"memory", "gemm", "attention", "attention_backward"}
    assert len(content["predictions"]) == len([i for i in ITEMS if i.kind in ("layer", "block")])
    assert content["skipped"][0][0] == "replay"
    assert content["collectives"] == []


def test_the_file_holds_only_what_was_fitted_or_measured(here, path):
    found = run(path)
    content = json.loads(path.read_text())
    names = {name.replace("kernel_us", "kernel_s") for name in content["parameters"]}
    assert names == set(found.fitted.measured)
    assert content["parameters"]["kernel_us"]["value"] == pytest.approx(
        found.fitted.profile.kernel_s.value * 1e6
    )


def test_a_profile_keeps_its_permissions(here, path):
    path.write_bytes(OLD)
    path.chmod(0o640)
    run(path, rounds=1)
    assert path.stat().st_mode & 0o777 == 0o640


# ------------------------------------------------------------------------------------ interruption
@pytest.mark.parametrize("after", [1, 5])
def test_an_interrupted_run_keeps_what_it_measured_and_the_next_one_goes_on(
    here, sampled, path, after
):
    path.write_bytes(OLD)
    kept = interrupted(path, after)
    assert samples_in(kept) == after * BATCH
    assert path.read_bytes() == OLD
    assert names_in(path.parent) == [".mine.json.kept.json", "mine.json"]
    sampled.clear()
    counts = []
    found = run(path, lambda *what: counts.append(what))
    assert len(sampled) == 3 * len(ITEMS) - after * BATCH
    assert counts[0] == ((after + 1) * BATCH, 3 * len(ITEMS))
    assert [len(each.seconds) for each in found.found] == [3] * len(ITEMS)
    assert names_in(path.parent) == ["mine.json"]
    assert path.read_bytes() != OLD


def test_runs_may_be_interrupted_again_and_again(here, sampled, path):
    for number in range(1, 4):
        assert samples_in(interrupted(path, 1)) == number * BATCH
    assert [len(each.seconds) for each in run(path).found] == [3] * len(ITEMS)
    assert len(sampled) == 3 * len(ITEMS)


def test_samples_are_kept_as_they_were(here, sampled, path):
    kept = interrupted(path, 2)
    found = {str(each.item): each for each in run(path).found}
    for kind, args, calls, samples in kept["samples"]:
        one = found[f"{kind} " + " ".join(f"{name}={value}" for name, value in args.items())]
        pairs = list(zip(one.seconds, one.wall_s, strict=True))
        assert pairs[: len(samples)] == [tuple(each) for each in samples]
        assert one.calls == calls


def test_more_rounds_are_added_to_those_there_were(here, sampled, path):
    interrupted(path, 4, rounds=2)
    sampled.clear()
    assert [len(each.seconds) for each in run(path, rounds=4).found] == [4] * len(ITEMS)
    assert len(sampled) == 4 * len(ITEMS) - 4 * BATCH


def test_orders_are_those_of_the_seed(here, sampled, path):
    orders = []
    for seed in (1, 2, 1):
        sampled.clear()
        run(path, seed=seed, rounds=1)
        orders.append(list(sampled))
    assert orders[0] == orders[2] != orders[1]


def test_fresh_begins_anew(here, sampled, path):
    interrupted(path, 2)
    sampled.clear()
    run(path, fresh=True)
    assert len(sampled) == 3 * len(ITEMS)
    assert names_in(path.parent) == ["mine.json"]


def test_the_next_calibration_begins_anew_once_one_was_whole(here, sampled, path):
    run(path, rounds=1)
    run(path, rounds=1)
    assert len(sampled) == 2 * len(ITEMS)


@pytest.mark.parametrize("what", ["cut short", "other seed"])
def test_a_kept_file_that_does_not_go_with_this_run_is_refused_and_left_alone(here, path, what):
    path.write_bytes(OLD)
    interrupted(path, 1)
    kept = path.parent / ".mine.json.kept.json"
    if what == "cut short":
        kept.write_bytes(kept.read_bytes()[:500])
    before = kept.read_bytes()
    with pytest.raises(SpecError, match="--fresh"):
        run(path, seed=int(what == "other seed"))
    assert (kept.read_bytes(), path.read_bytes()) == (before, OLD)


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
