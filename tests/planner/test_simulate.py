"""``meshwright simulate`` and the event clock behind ``plan``."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from planner import plan, simulate
from planner.cli import build
from planner.disturbances import Disturbances, by_rank, lengths
from topologies.errors import SpecError

JOB = ["llama-3.1-8b", "--cluster", "h100-dgx:4", "--seq-len", "8k", "--global-batch", "64"]
COMMAND = [sys.executable, "-c", "from planner.cli import main; main()", "simulate"]
LAYOUT = ["--tp", "2", "--pp", "4", "--dp", "4"]
OPTIONS = {"seq_len": "8k", "global_batch": 64, "tp": 2, "pp": 4, "dp": 4}


def run(*arguments: str):
    return CliRunner().invoke(build(), ["simulate", *JOB, *arguments])


def answer(*arguments: str):
    done = run(*LAYOUT, *arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_both_clocks_and_every_pipeline_rank_are_in_the_answer():
    found = answer()
    simulated = found["simulated"]
    assert simulated["step_time_s"] == pytest.approx(found["step_time_s"], rel=0.05)
    assert [row["rank"] for row in simulated["ranks"]] == [0, 8, 16, 24]
    for row in simulated["ranks"]:
        assert 0 <= row["bubble_s"] <= row["idle_s"] < simulated["step_time_s"]
        assert 0 <= row["exposed_s"] <= row["communication_s"]


def test_the_screen_names_both_steps():
    shown = run(*LAYOUT).stdout
    assert "on the event clock" in shown
    assert "on the analytical one" in shown


def test_disturbances_slow_the_step_and_are_drawn_by_their_seed():
    planned = answer()["simulated"]["step_time_s"]
    for option in (
        ["--straggler", "3:1.5"],
        ["--failed-nics", "9:6"],
        ["--slow-link", "9:0.1"],
        ["--jitter", "0.1"],
    ):
        assert answer(*option)["simulated"]["step_time_s"] > planned * 1.001, option
    drawn = [answer("--jitter", "0.1", "--seed", seed)["simulated"] for seed in "112"]
    assert drawn[0] == drawn[1]
    assert drawn[0]["step_time_s"] != drawn[2]["step_time_s"]
    packed = answer("--packed", "1k:0.5")["simulated"]
    assert packed["step_time_s"] < planned
    assert packed["samples"] == 100
    assert packed["percentiles_s"]["p10"] < packed["percentiles_s"]["p90"]
    calm = answer("--no-contention")["simulated"]
    assert calm["undisturbed_step_time_s"] <= planned


def test_a_trace_is_written_whole(tmp_path):
    file = tmp_path / "step.json.gz"
    done = run(*LAYOUT, "--trace", str(file))
    assert done.exit_code == 0
    assert f"Wrote {file}" in done.stdout.replace("\n", "")
    with gzip.open(file) as stream:
        events = json.load(stream)["traceEvents"]
    kinds = {event["ph"] for event in events}
    assert kinds >= {"X", "M", "s", "f", "C"}
    names = {event["name"] for event in events}
    assert any("core attention" in name for name in names)
    assert any("reduce gradients" in name for name in names)


WRONG = [
    (["--straggler", "32:1.2"], "--straggler", "a rank from 0 to 31"),
    (["--straggler", "1:0.9"], "--straggler", "1 or more"),
    (["--straggler", "one"], "--straggler", "a rank and a number"),
    (["--slow-link", "1:1.5"], "--slow-link", "up to 1"),
    (["--failed-nics", "1:8"], "--failed-nics", "from 1 to 7"),
    (["--failed-nics", "1:nan"], "--failed-nics", "from 1 to 7"),
    (["--jitter", "5"], "--jitter", "between 0 and 1"),
    (["--samples", "0", "--jitter", "0.1"], "--samples", "at least 1"),
    (["--samples", "50"], "--samples = 50", "it belongs to --jitter or --packed"),
    (["--seed", "7", "--straggler", "3:1.5"], "--seed = 7", "it belongs to --jitter or --packed"),
    (["--async-ulysses"], "--async-ulysses = on", "it belongs to --ulysses 2 or more"),
    (["--packed", "16k"], "--packed", "8192 tokens of a pack"),
    (["--packed", "1k:wide"], "--packed", "8k:0.7"),
    (["--packed", "1k", "--packed-len", "1024"], "--packed", "leave one out"),
    (["--trace", "/nowhere/step.json.gz"], "--trace", "no folder /nowhere: make it first"),
    (["--trace", "/proc/step.json.gz"], "--trace", "cannot be written"),
    (["--trace", "step.txt"], "--trace", "end the name in .json or .json.gz"),
    (["--schedule", "zigzag"], "schedule", ""),
    (["--ulysses", "3"], "ulysses", ""),
]


def test_everything_that_cannot_be_is_told_at_once():
    wrong = ["--jitter", "5", "--straggler", "99:1.2", "--trace", "step.txt", "--ulysses", "3"]
    done = subprocess.run(
        [*COMMAND, *JOB, *LAYOUT, *wrong], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert all(option in done.stderr for option in wrong[::2])


@pytest.mark.parametrize(("arguments", "field", "mend"), WRONG, ids=str)
def test_what_cannot_be_is_refused_in_one_message(arguments, field, mend):
    done = subprocess.run(
        [*COMMAND, *JOB, *LAYOUT, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    message = " ".join(done.stderr.split())
    assert field in message
    assert mend in message
    assert "Traceback" not in message


def test_an_interrupted_simulation_leaves_no_trace_behind(tmp_path):
    big = ["llama-3.1-405b", "--cluster", "h100-dgx:2048", "--seq-len", "128k"]
    axes = ["--tp", "8", "--ring", "16", "--pp", "16", "--dp", "8", "--stage-split", "balanced"]
    command = [*COMMAND, *big, "--global-batch", "1024"]
    process = subprocess.Popen(
        [*command, *axes, "--trace", str(tmp_path / "step.json.gz")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and process.poll() is None:  # until the file is begun
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not list(tmp_path.iterdir())


def test_python_asks_the_same():
    found = simulate("llama-3.1-8b", "h100-dgx:4", **OPTIONS)
    assert found.step.step_s == answer()["simulated"]["undisturbed_step_time_s"]
    slower = simulate(
        "llama-3.1-8b", "h100-dgx:4", disturbances=Disturbances(stragglers={0: 2.0}), **OPTIONS
    )
    assert slower.steps_s[0] > found.steps_s[0]
    with pytest.raises(SpecError, match="--jitter"):
        simulate("llama-3.1-8b", "h100-dgx:4", disturbances=Disturbances(jitter=-1.0), **OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"seed": -1}, "--seed"),
        ({"seed": 7}, "--seed = 7: nothing is drawn"),
        ({"samples": 50}, "--samples = 50: nothing is drawn"),
        ({"async_ulysses": True}, "--async-ulysses = on: the layout has no Ulysses"),
        ({"packed_tokens": 512.0, "packed_spread": -1.0}, "--packed"),
        ({"packed_tokens": 512.0, "packed_spread": float("nan")}, "--packed"),
        ({"slow_links": {0: 0.0}}, "--slow-link"),
        ({"failed_nics": {0: 1.5}}, "--failed-nics"),
    ],
    ids=str,
)
def test_disturbances_that_cannot_be_are_refused(wrong, field):
    with pytest.raises(SpecError, match=field):
        simulate("llama-3.1-8b", "h100-dgx:4", disturbances=Disturbances(**wrong), **OPTIONS)


def test_what_draws_or_has_ulysses_takes_seeds_samples_and_asynchronous_exchanges():
    for drawn in ({"jitter": 0.1}, {"packed_tokens": 1024.0}):
        given = Disturbances(**drawn, samples=5, seed=7)
        assert (
            len(simulate("llama-3.1-8b", "h100-dgx:4", disturbances=given, **OPTIONS).steps_s) == 5
        )
    axes = OPTIONS | {"dp": 2, "ulysses": 2}
    beside, after = (
        simulate("llama-3.1-8b", "h100-dgx:4", disturbances=Disturbances(async_ulysses=on), **axes)
        for on in (True, False)
    )
    assert beside.step.step_s < after.step.step_s


def slowed(**disturbances):
    """Return a step with some links slowed: one node for every pipeline rank."""
    given = Disturbances(**disturbances)
    return simulate("llama-3.1-8b", "h100-dgx:4", disturbances=given, **OPTIONS).step.step_s


def test_links_of_a_node_are_as_slow_as_all_that_is_wrong_with_them():
    assert slowed(slow_links={9: 0.5}, failed_nics={9: 4}) == slowed(slow_links={9: 0.25})
    assert slowed(failed_nics={9: 4}) == slowed(slow_links={9: 0.5}) > slowed()


def test_slow_links_are_those_of_the_whole_node_and_of_no_other():
    assert (
        slowed(slow_links={8: 0.1}) == slowed(slow_links={12: 0.1}) == slowed(slow_links={15: 0.1})
    )


def test_of_several_slow_links_of_a_node_the_slowest_counts():
    slowest = slowed(slow_links={8: 0.1})
    assert slowed(slow_links={8: 0.1, 9: 0.9}) == slowed(slow_links={9: 0.9, 8: 0.1}) == slowest


def test_texts_of_disturbances():
    assert by_rank(["1:2", "3:0.5"], "--straggler") == {1: 2.0, 3: 0.5}
    assert lengths("4k") == (4096.0, 1.0)
    assert lengths("4k:0.3") == (4096.0, 0.3)


def test_plans_are_timed_again_unless_told_otherwise():
    job = ("llama-3.1-8b", "h100-dgx:4")
    found = plan(*job, seq_len="8k", global_batch=64, top=12)
    timed = [one.event_step_s for one in found.plans]
    assert timed[10:] == [None] * len(timed[10:])
    for one in found.plans[:10]:
        assert one.event_step_s == pytest.approx(one.step_time_s, rel=0.1)
    assert any("event clock" in note for note in found.notes)
    alone = plan(*job, seq_len="8k", global_batch=64, top=12, simulate=False)
    assert {one.event_step_s for one in alone.plans} == {None}
    assert not any("event clock" in note for note in alone.notes)
    assert [one.layout for one in alone.plans] == [one.layout for one in found.plans]


@pytest.mark.parametrize(("cluster", "cards"), [("aws-p4d:4", 4), ("aws-p5en:4", 16)])
def test_cards_of_a_node_are_those_it_has(cluster, cards):
    def step_s(**disturbances):
        given = Disturbances(**disturbances)
        return simulate("llama-3.1-8b", cluster, disturbances=given, **OPTIONS).step.step_s

    assert step_s(failed_nics={9: cards // 4}) == step_s(slow_links={9: 0.75}) > step_s()
    with pytest.raises(SpecError, match=f"from 1 to {cards - 1}: the node has {cards}"):
        step_s(failed_nics={9: cards})


def test_python_and_the_command_line_draw_as_many_steps():
    found = simulate("llama-3.1-8b", "h100-dgx:4", disturbances=Disturbances(jitter=0.1), **OPTIONS)
    drawn = answer("--jitter", "0.1")["simulated"]["samples"]
    assert found.to_dict()["simulated"]["samples"] == drawn == 100


def test_a_folder_has_a_trace_of_every_rank(tmp_path):
    done = run(*LAYOUT, "--trace", f"{tmp_path}/ranks/")
    assert done.exit_code == 0, done.output
    assert "give it to Holistic Trace Analysis" in done.stdout
    names = sorted(path.name for path in (tmp_path / "ranks").iterdir())
    assert names == [f"rank-{rank}.json.gz" for rank in (0, 16, 24, 8)]


@pytest.mark.parametrize("option", [["--straggler", "3:1.5"], ["--jitter", "0.1"]])
def test_it_is_said_that_the_table_is_of_the_undisturbed_step(option):
    sentence = "Below, and in a trace, is the step that nothing of this disturbs."
    assert sentence in run(*LAYOUT, *option).stdout
    assert sentence not in run(*LAYOUT).stdout
