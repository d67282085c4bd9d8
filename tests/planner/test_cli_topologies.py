"""``meshwright topologies`` on files of links, of parts and of groups."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from planner.cli import build
from tests.topologies.files import EXAMPLES, graph, link, written


def run(*arguments: str):
    return CliRunner().invoke(build(), ["topologies", *arguments])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_shown_and_drawn(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("show", str(path))
    assert done.exit_code == 0, done.output
    assert "latency_s" in done.output
    assert run("draw", str(path)).exit_code == 0
    assert {file.name for file in tmp_path.iterdir()} == {f"{path.stem}.svg", f"{path.stem}.dot"}


def test_how_tiers_are_built_is_shown():
    answer = json.loads(run("show", "alibaba-hpn", "--json", "-").stdout)
    keys = ("fabric", "spans", "rails", "planes")
    assert [tuple(tier[key] for key in keys) for tier in answer["tiers"]] == [
        ("nvswitch", 8, False, 1),
        ("nic", 1024, True, 2),
        ("spine", None, False, 1),
    ]
    lines = [line.split() for line in run("show", "alibaba-hpn").stdout.splitlines()]
    assert ["tier", "fabric", "spans", "rails", "and"] in lines
    assert ["nvlink", "nvswitch", "8", "-"] in lines
    assert ["roce", "nic", "1,024", "yes", "2", "planes"] in lines
    assert ["spine", "spine", "all", "-"] in lines
    assert "4 cards a node" in run("show", "aws-p4d").stdout
    assert "sides 16 x 20 x 28, closed at multiples of 4" in run("show", "tpu-v5p").stdout


def test_the_parts_of_a_mix_are_shown():
    path = str(EXAMPLES / "h100-and-a100.yaml")
    answer = json.loads(run("show", path, "--json", "-").stdout)
    assert [(part["part"], part["nodes"]) for part in answer["parts"]] == [
        ("h100-dgx", 4),
        ("a100-dgx", 4),
    ]
    assert "links" not in answer
    screen = run("show", path).stdout
    assert "32 x NVIDIA A100 SXM4 80GB" in screen
    assert "the least of: " in screen


def test_the_links_of_a_graph_are_shown_with_what_they_join_counts_and_sources():
    path = str(EXAMPLES / "bridged-boxes.yaml")
    answer = json.loads(run("show", path, "--json", "-").stdout)
    rows = {(row["link"], row["joins"]): row for row in answer["links"]}
    assert rows["nvlink", "accelerator"]["one way"] == 8
    assert rows["pcie", "accelerator - switch"]["one way"] == 32
    assert rows["infiniband", "nic - leaf"]["Bps"] == 50e9
    assert rows["infiniband", "switch - nic"]["one way"] == 8
    assert all(row["source"] for row in answer["links"])
    assert "parts" not in answer


def test_a_catalogue_cluster_has_neither():
    answer = json.loads(run("show", "h100-dgx", "--json", "-").stdout)
    assert not {"parts", "links"} & set(answer)


def test_slips_end_with_exit_code_2(tmp_path, monkeypatch, capsys):
    from planner.cli import main

    content = graph({"accelerator": "g[0-3]"}, link("a", 1, ["g0", "g9"]), link("a", -1, ["g1"]))
    path = written(tmp_path, content)
    monkeypatch.setattr("sys.argv", ["meshwright", "topologies", "show", path])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("mine.yaml: links.1.GBps.value = -1: ")
