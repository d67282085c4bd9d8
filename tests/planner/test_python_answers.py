"""The planner's Python functions: what they take, and that README's lines run."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import planner
from planner.cli import build
from planner.layout_words import label
from topologies.errors import SpecError

MODEL = ("llama-3.2-1b", "h100-dgx")
JOB = {"seq_len": "4k", "global_batch": 16, "pp": 1}
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_several_numbers_of_accelerators_are_answered_as_on_the_command_line():
    found = planner.plan(*MODEL, **JOB, gpus=[4, 16], top=2, simulate=False)
    asked = ["--cluster", MODEL[1], "--seq-len", "4k", "--global-batch", "16", "--pp", "1"]
    sizes = ["--gpus", "4,16", "--top", "2", "--no-simulate"]
    done = CliRunner().invoke(build(), ["plan", MODEL[0], *asked, *sizes, "--json", "-"])
    written = json.loads(done.stdout)
    assert {plan.layout.gpus for plan in found.plans} == {4, 16}
    assert json.loads(json.dumps(found.to_dict()["plans"])) == written["plans"]
    assert list(found.notes) == written["notes"]
    assert found.search.legal == written["search"]["legal"]


@pytest.mark.parametrize("gpus", [8, "8", [8], (8,)], ids=repr)
def test_one_number_of_accelerators_is_one_answer(gpus):
    found = planner.plan(*MODEL, **JOB, gpus=gpus, top=1, simulate=False)
    assert found.best.layout.gpus == 8
    assert not any("accelerators: " in note for note in found.notes)


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ([], "gpus = []: one number or more"),
        ([8, "x"], "gpus = x: a whole number"),
        (8.0, "gpus = 8.0: a whole number"),
        (True, "gpus = True: a whole number"),
        ([3, 5], "--gpus = 3: .*\n--gpus = 5: "),
    ],
    ids=repr,
)
def test_what_is_no_number_of_accelerators_is_refused(gpus, said):
    with pytest.raises(SpecError, match=re.escape(said) if ".*" not in said else said):
        planner.plan(*MODEL, **JOB, gpus=gpus)


@pytest.mark.parametrize("ask", [planner.estimate, planner.simulate])
def test_one_layout_is_of_one_number_of_accelerators(ask):
    with pytest.raises(SpecError, match=r"gpus = \[8, 16\]: a whole number"):
        ask(*MODEL, **JOB, gpus=[8, 16])


def test_names_that_are_imported_on_first_use_are_listed():
    assert set(planner.__all__) <= set(dir(planner))
    assert {"__doc__", "__all__"} <= set(dir(planner))


def test_what_the_readme_writes_in_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    found: dict = {}
    exec(lines, found)
    (words, *_) = capsys.readouterr().out.splitlines()
    assert words.startswith(
        f"{label(found['answer'].best.layout)} {found['answer'].best.step_time_s}"
    )
    said = SimpleNamespace(**found)
    assert said.answer.best.fits
    assert [point.seq_len for point in said.points] == [8192, 32768]
    assert said.played.step.step_s > 0
    with gzip.open("step.json.gz") as stream:
        assert json.load(stream)["deviceProperties"][0]["name"] == "H100"
