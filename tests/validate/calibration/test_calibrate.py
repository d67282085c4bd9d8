"""Calibrations from the first sample to the profile: whole, interrupted and gone on with."""

from __future__ import annotations

import json

import pytest
import torch

from models.profile_file import read_profile
from tests.validate.calibration.runs import (
    ITEMS,
    OLD,
    interrupted,
    names_in,
    run,
    samples_in,
)
from topologies.errors import SpecError
from validate.calibration.rounds import BATCH


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
    assert set(content["fits"]) == {
        "memory", "gemm", "gemm of weights", "attention", "attention_backward",
    }  # fmt: skip
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
