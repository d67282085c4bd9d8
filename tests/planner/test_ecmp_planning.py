"""How flows meet on equal links, in plans: on the command line, in Python and in JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from planner import estimate, plan, simulate
from planner.ask import sweep
from planner.cli import build
from planner.disturbances import Disturbances
from tests.topologies.files import tier, written
from topologies.errors import SpecError

JOB = {"seq_len": "8k", "global_batch": 64}
ACROSS = {"tp": 8, "dp": 8, "zero": 3}


@pytest.fixture
def pods(tmp_path) -> str:
    """Eight nodes in four pods of two, each pod with eight uplinks at half of the cards' rate."""
    content = {
        "name": "mine",
        "title": "Pods",
        "accelerator": "h100-sxm",
        "accelerators_per_node": 8,
        "nodes": 8,
        "tiers": [
            tier("nvlink", "nvswitch", 8, 450.0),
            tier("cards", "nic", 16, 50.0),
            tier("up", "spine", "all", 25.0, paths=8),
        ],
    }
    return written(tmp_path, content)


def run(*arguments: str):
    job = ("--seq-len", "8k", "--global-batch", "64")
    return CliRunner().invoke(build(), [arguments[0], "llama-3.1-8b", *arguments[1:], *job])


def test_hashed_flows_slow_a_plan_where_uplinks_are_equal_and_nowhere_else(pods):
    def step(cluster, **how):
        return estimate("llama-3.1-8b", cluster, **JOB, **ACROSS, **how).step_time_s

    assert step(pods) == step(pods, ecmp="perfect")
    assert step(pods, ecmp="expected") > 1.01 * step(pods)
    drawn = [step(pods, ecmp="seeded", ecmp_seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert min(drawn) >= step(pods)
    assert step("h100-dgx:8", ecmp="expected") == step("h100-dgx:8")


def test_flows_meet_on_slow_links_as_on_others(pods):
    def step(**disturbances):
        given = Disturbances(**disturbances)
        job = {**JOB, **ACROSS, "ecmp": "expected"}
        return simulate("llama-3.1-8b", pods, disturbances=given, **job).step.step_s

    assert step(slow_links={0: 1.0}) == step()


def test_a_search_and_a_sweep_take_it_too(pods):
    pins = {key: str(value) for key, value in ACROSS.items()}
    best = {
        mode: plan("llama-3.1-8b", pods, **JOB, **pins, ecmp=mode).best.step_time_s
        for mode in ("perfect", "expected")
    }
    assert best["expected"] > best["perfect"]
    points = sweep(
        "llama-3.1-8b",
        pods,
        seq_lens=["8k"],
        global_batches=[64],
        networks=(1.0, 2.0),
        ecmp="expected",
        **pins,
    )
    assert points[0].best.step_time_s == pytest.approx(best["expected"])
    assert {point.best.provenance.ecmp for point in points} == {"expected"}


def test_commands_say_it_on_screen_and_in_json(pods):
    flags = ("--cluster", pods, "--tp", "8", "--dp", "8", "--ecmp", "seeded", "--ecmp-seed", "5")
    for command in ("plan", "estimate", "sweep"):
        done = run(command, *flags)
        assert done.exit_code == 0, done.output
        assert "Flows on equal links: hashed as seed 5 draws (--ecmp seeded)." in done.stdout
        assert "Flows on equal links" not in run(command, *flags[:-4]).stdout
    found = json.loads(run("estimate", *flags, "--json", "-").stdout)["provenance"]
    assert (found["ecmp"], found["ecmp_seed"]) == ("seeded", 5)
    usual = json.loads(run("estimate", *flags[:-4], "--json", "-").stdout)["provenance"]
    assert (usual["ecmp"], usual["ecmp_seed"]) == ("perfect", None)


def test_where_nothing_changes_the_screen_says_so():
    done = run("estimate", "--cluster", "h100-dgx", "--ecmp", "expected")
    assert "this cluster has none, so nothing changes" in done.stdout


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (("--ecmp", "spray"), "--ecmp", "spray"),
        (("--ecmp", "seeded", "--ecmp-seed", "-1"), "--ecmp-seed", "-1"),
        (("--ecmp", "expected", "--ecmp-seed", "3"), "--ecmp-seed", "3"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "estimate", "sweep"])
def test_slips_are_refused_beside_all_others(command, flags, field, value):
    done = run(command, "--cluster", "h100-dxg", *flags)
    assert isinstance(done.exception, SpecError)
    problems = [(one.field, str(one.value)) for one in done.exception.problems]
    assert problems == [("--cluster", "h100-dxg"), (field, value)]


@pytest.mark.parametrize("wrong", [{"ecmp": 3}, {"ecmp": "seeded", "ecmp_seed": 1.5}])
def test_the_functions_refuse_what_is_no_name_and_no_seed(wrong):
    with pytest.raises(SpecError):
        estimate("llama-3.1-8b", "h100-dgx", **JOB, **wrong)
