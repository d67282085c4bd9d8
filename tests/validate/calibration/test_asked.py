"""What a calibration is asked for, and every option that cannot be, all at once."""

from __future__ import annotations

import sys

import pytest
import torch

from planner.cli import main
from tests.validate.calibration.jobs import ask
from topologies.errors import SpecError
from validate.calibration import calibrate, machine

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Have what is refused be refused before anything is measured."""

    def measured(*arguments):
        raise AssertionError("measured")

    monkeypatch.setattr(calibrate, "_measured", measured)


def refused(monkeypatch, capsys, *arguments):
    """Return the lines of a refusal as a terminal shows them."""
    monkeypatch.setattr(sys, "argv", ["meshwright", "calibrate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--world", "3"),
        ("--world", "0"),
        ("--world", "-2"),
        ("--rounds", "0"),
        ("--budget", "0"),
        ("--budget", "0.5"),
        ("--budget", "nan"),
        ("--budget", "inf"),
        ("--seed", "-1"),
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--device", "tpu"),
        pytest.param("--device", "cuda", marks=NO_GPU),
        ("--accelerator", "nonsense"),
        ("--cluster", "nonsense"),
        ("--cluster", "h100-dgx"),
        ("--out", "profile.yaml"),
        ("--out", "profile"),
        ("--out", ""),
        ("--out", ".json"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_its_name(
    monkeypatch, capsys, tmp_path, option, value
):
    monkeypatch.chdir(tmp_path)
    (line,) = refused(monkeypatch, capsys, option, value)
    assert line.startswith(f"{option} = {value}")
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_cannot_be_written_is_refused_before_it_is_measured(
    monkeypatch, capsys, tmp_path
):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "a.file").touch()
    for name, mend in (
        ("folder.json", "Is a directory"),
        ("nowhere/mine.json", "No such file or directory"),
        ("a.file/mine.json", "Not a directory"),
    ):
        (line,) = refused(monkeypatch, capsys, "--out", tmp_path / name)
        assert line.startswith(f"--out = {tmp_path / name}: ")
        assert line.endswith(mend)


def test_a_profile_of_a_gpu_is_not_measured_on_a_cpu(monkeypatch, capsys):
    (line,) = refused(monkeypatch, capsys, "--accelerator", "h100-sxm", "--world", "1")
    assert line == "--accelerator = h100-sxm: what is measured is a cpu device"


def test_everything_that_cannot_be_is_told_at_once(monkeypatch, capsys, tmp_path):
    wrong = {
        "--out": "a.txt", "--world": "3", "--rounds": "0", "--budget": "nan", "--seed": "-1",
        "--timeout": "0.0", "--device": "tpu", "--accelerator": "h100", "--cluster": "h100-dgy",
    }  # fmt: skip
    lines = refused(monkeypatch, capsys, *[part for pair in wrong.items() for part in pair])
    for option, value in wrong.items():
        assert [line for line in lines if line.startswith(f"{option} = {value}: ")], option
    assert len(lines) == len(wrong)


def test_an_unknown_name_is_told_with_the_nearest_ones(monkeypatch, capsys):
    (line,) = refused(monkeypatch, capsys, "--accelerator", "h100-sxn", "--cluster", "h100-dgx")
    assert "h100-sxm" in line


def test_a_cluster_of_other_devices_is_refused_with_both_names(monkeypatch, capsys):
    (line,) = refused(monkeypatch, capsys, "--cluster", "h100-dgx")
    assert line == "--cluster = h100-dgx: a cluster of cpu-core: this one has h100-sxm"
    (line,) = refused(monkeypatch, capsys, "--world", "1", "--cluster", "h100-dgx")
    assert line == "--cluster = h100-dgx: a cluster of cpu-core: this one has h100-sxm"


def test_processes_of_this_machine_are_two_cores_of_a_node_with_gloo(tmp_path):
    found = ask(tmp_path / "mine.json", world=None)
    assert (found.world, found.device, found.accelerator.name) == (2, "cpu", "cpu-core")
    assert (found.cluster_name, found.cluster.accelerators) == ("cpu-gloo", 2)
    alone = ask(tmp_path / "mine.json", world=1)
    assert (alone.cluster, alone.cluster_name) == (None, None)
    assert ask(tmp_path / "mine.json", world=1, cluster="cpu-gloo").cluster is None


def test_a_launcher_says_how_many_ranks_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert ask(tmp_path / "mine.json", world=None).world == 4
    with pytest.raises(SpecError, match="--world = 4: leave it out: the launcher says how many"):
        ask(tmp_path / "mine.json", world=4)


@pytest.fixture
def gpu(monkeypatch):
    """Have a GPU that no catalogue knows."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "device_name", lambda device: "NVIDIA X1")


def test_a_device_of_an_unknown_name_is_to_be_named(gpu, tmp_path):
    with pytest.raises(SpecError) as caught:
        ask(tmp_path / "mine.json", device="cuda", world=None)
    assert str(caught.value).startswith("--accelerator = NVIDIA X1: name what the catalogue calls")
    assert "h200-sxm" in str(caught.value)
    found = ask(tmp_path / "mine.json", device="auto", world=None, accelerator="h200-sxm")
    assert (found.device, found.world, found.accelerator.name) == ("cuda", 1, "h200-sxm")


def test_gpus_are_ranks_of_a_launcher_on_a_cluster_that_is_named(gpu, monkeypatch, tmp_path):
    with pytest.raises(SpecError, match="--world = 2: 1 without a launcher: torchrun"):
        ask(tmp_path / "mine.json", device="cuda", accelerator="h100-sxm", world=2)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "16")
    named = {"device": "cuda", "world": None, "accelerator": "h100-sxm"}
    with pytest.raises(SpecError, match="--cluster = 16 ranks: name what these ranks are part of"):
        ask(tmp_path / "mine.json", **named)
    found = ask(tmp_path / "mine.json", **named, cluster="h100-dgx:2")
    assert found.cluster.accelerators == 16
