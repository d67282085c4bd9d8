"""Files that cannot be written are told before anything is searched or played."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from planner.cli import build, output
from topologies.errors import SpecError

JOB = ["llama-3.2-1b", "--cluster", "h100-dgx", "--seq-len", "4k", "--global-batch", "8"]
#: What takes long in each command, by the name that it is called by.
WORK = {
    "plan": "planner.ranking.plan_scenario",
    "estimate": "planner.ask.estimate_scenario",
    "simulate": "planner.ask.simulate_scenario",
    "sweep": "planner.sweeps.run_sweep",
}
FILES = [
    ("plan", "--json", "x.json"),
    ("estimate", "--json", "x.json"),
    ("estimate", "--map", "x.csv"),
    ("simulate", "--json", "x.json"),
    ("simulate", "--trace", "x.json.gz"),
    ("simulate", "--trace", "ranks/"),
    ("sweep", "--json", "x.json"),
    ("sweep", "--csv", "x.csv"),
    ("sweep", "--figure", "x.svg"),
]


@pytest.fixture
def refused(monkeypatch):
    def ask(command: str, *options: str) -> str:
        """Return the refusal of a command that must not begin to work."""

        def works(*_, **__):
            pytest.fail(f"{command} worked before it refused")

        monkeypatch.setattr(WORK[command], works)
        with pytest.raises(SpecError) as caught:
            CliRunner().invoke(build(), [command, *JOB, *options], catch_exceptions=False)
        return str(caught.value)

    return ask


@pytest.mark.parametrize(("command", "option", "name"), FILES, ids=str)
def test_a_folder_that_is_not_there_is_named_at_once(command, option, name, refused, tmp_path):
    path = f"{tmp_path}/nodir/{name}"
    mend = f"no folder {tmp_path}/nodir: make it first"
    assert refused(command, option, path) == f"{option} = {path}: {mend}"


def test_a_file_in_the_place_of_a_folder_is_named_at_once(refused, tmp_path):
    (tmp_path / "file").write_text("old")
    said = refused("simulate", "--json", f"{tmp_path}/file/x.json")
    assert said == f"--json = {tmp_path}/file/x.json: cannot be written: Not a directory"
    said = refused("simulate", "--trace", f"{tmp_path}/file/")
    assert "cannot be written: Not a directory" in said
    assert (tmp_path / "file").read_text() == "old"


def test_every_file_is_told_and_none_is_asked_for_twice(refused):
    files = ["--json", "no/x", "--csv", "no/y", "--figure", "no/x"]
    lines = refused("sweep", *files).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "--figure = no/x",
        "--json = no/x",
        "--csv = no/y",
        "--figure = no/x",
        "--figure = no/x",
    ]
    assert "--figure = no/x: --json is written there: take another" in lines


def test_places_that_can_be_written_pass(tmp_path):
    (tmp_path / "old.json").write_text("old")
    there = {"--json": "-", "--csv": None, "--figure": str(tmp_path / "new.svg")}
    output.check_places(there | {"--map": str(tmp_path / "old.json")})
    assert (tmp_path / "old.json").read_text() == "old"


def test_a_folder_of_traces_may_be_there_or_not(tmp_path):
    for _ in range(2):
        command = ["simulate", *JOB, "--trace", f"{tmp_path}/ranks/"]
        assert CliRunner().invoke(build(), command).exit_code == 0
    assert [path.name for path in (tmp_path / "ranks").iterdir()] == ["rank-0.json.gz"]
