"""Answers in JSON say what was asked."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.cli import build

JOB = ["llama-3.2-1b", "--cluster", "h100-dgx:1", "--seq-len", "4k", "--global-batch", "8"]
ONE = {
    "model": {"name": "llama-3.2-1b", "title": "Llama 3.2 1B"},
    "parameters": 1_235_814_400,
    "cluster": {
        "name": "h100-dgx",
        "title": "DGX H100 nodes, 8 x NDR400 InfiniBand, rail-optimised",
    },
    "gpus": 8,
    "nodes": 1,
    "seq_len": 4096,
    "global_batch": 8,
    "precision": "bf16",
    "software": "usual",
    "fit_chance": 0.5,
    "version": version("meshwright"),
}
README = (Path(__file__).parents[2] / "README.md").read_text()


def answer(command: str, *options: str):
    done = CliRunner().invoke(build(), [command, *JOB, *options, "--json", "-"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ["plan", "estimate", "simulate", "sweep"])
def test_every_answer_says_what_was_asked(command):
    found = answer(command)
    assert found["job"] == ONE
    assert next(iter(found)) == "job"


def test_choices_and_sizes_of_the_job_are_those_asked():
    chosen = ["--precision", "fp8-delayed", "--fit-chance", "0.9", "--software", "torch-fsdp"]
    found = answer("estimate", *chosen, "--cluster", "h100-dgx:4", "--tp", "4")["job"]
    changed = {"precision": "fp8-delayed", "fit_chance": 0.9, "software": "torch-fsdp"}
    assert found == ONE | changed | {"gpus": 32, "nodes": 4}


def test_what_is_asked_at_several_sizes_is_a_list():
    sizes = ["--cluster", "h100-dgx", "--gpus", "4,8,16"]
    found = answer("plan", *sizes, "--top", "1", "--no-simulate")["job"]
    assert found == ONE | {"gpus": [4, 8, 16], "nodes": [1, 1, 2]}
    swept = ["--seq-len", "2k,4k", "--global-batch", "8,16", "--network", "0.5,1", "--pp", "1"]
    found = answer("sweep", *swept)["job"]
    assert found == ONE | {"seq_len": [2048, 4096], "global_batch": [8, 16]}


def test_an_answer_that_nothing_fits_says_what_was_asked():
    found = answer("plan", "--cluster", "cpu-gloo", "--seq-len", "1m", "--gpus", "1")
    assert (found["plans"], found["job"]["seq_len"], found["job"]["gpus"]) == ([], 2**20, 1)


def test_readme_documents_the_keys_of_jobs_and_of_points():
    keys = README.split("## JSON output")[1].split("A plan has:")[0]
    (point, *_) = answer("sweep")["points"]
    assert [key for key in (*ONE, *point) if f"`{key}`" not in keys] == []


@pytest.mark.parametrize("options", [[], ["--jitter", "0.1"], ["--straggler", "0:1.5"]], ids=str)
def test_a_simulated_plan_has_its_step_on_the_event_clock(options):
    found = answer("simulate", "--tp", "2", *options)
    assert found["event_step_time_s"] == found["simulated"]["step_time_s"] > 0
    assert found["event_step_time_s"] != found["step_time_s"]
