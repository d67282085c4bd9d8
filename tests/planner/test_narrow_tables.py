"""Tables on narrow screens: names and numbers stay whole, columns give way."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from typer.testing import CliRunner

from models.catalogue import load_architecture, model_names
from planner.cli import build, output, sweep_report
from planner.cli.columns import Columns
from planner.durations import seconds
from planner.layout_words import label
from planner.scenario import Scenario
from planner.sweeps import Grid, run_sweep
from topologies import cluster_names, load_cluster

if TYPE_CHECKING:
    from rich.table import Table

    from planner.sweeps import SweepPoint

WIDTHS = (80, 100, 140, 200)
ROWS = [
    {"name": "a-long-name", "and": "several words that wrap", "sum in all": 12345, "rest": "1.5 s"},
    {"name": "b", "and": "none", "sum in all": 7, "rest": "12.5 s"},
]
COLUMNS = Columns(names=("name",), words=("and",), dispensable=("rest", "and"))


def lines_of(table: Table, width: int) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue().splitlines()


def run(monkeypatch: pytest.MonkeyPatch, width: int, *arguments: str) -> list[str]:
    """Return what a command prints on a screen of a width."""
    monkeypatch.setattr(output, "PLAIN_WIDTH", width)
    done = CliRunner().invoke(build(), list(arguments))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    return lines


# -------------------------------------------------------------------------------- the mechanism


def test_what_fits_is_shown_on_one_line_each() -> None:
    lines = lines_of(COLUMNS.table(ROWS, 60), 60)
    assert len(lines) == 3
    assert lines[0].split() == ["name", "and", "sum", "in", "all", "rest"]
    assert lines[1].startswith("a-long-name  several words that wrap  ")


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, ["name", "and", "sum in all", "rest"]),
        (36, ["name", "and", "sum in all", "rest"]),  # words wrap, the heading is folded
        (33, ["name", "and", "sum in all"]),
        (24, ["name", "sum in all"]),
    ],
)
def test_columns_give_way_in_turn(width: int, shown: list[str]) -> None:
    assert COLUMNS.shown(ROWS, width) == shown
    lines = lines_of(COLUMNS.table(ROWS, width), width)
    assert max(map(len, lines)) <= width
    words = set(" ".join(lines).split())
    assert {word for row in ROWS for name in shown for word in str(row[name]).split()} <= words


def test_parts_leave_nothing_out() -> None:
    lines = [line for part in COLUMNS.parts(ROWS[:1], 24) for line in lines_of(part, 24)]
    words = set(" ".join(lines).split())
    assert {word for value in ROWS[0].values() for word in str(value).split()} <= words


def test_a_word_longer_than_a_screen_is_broken_in_text_only() -> None:
    rows = [{"figure": "rate", "source": "a/very/long/path/" * 6}]
    columns = Columns(names=("figure",), text=("source",))
    lines = lines_of(columns.table(rows, 40), 40)
    assert max(map(len, lines)) <= 40
    assert "".join(line[6:].strip() for line in lines[1:]) == rows[0]["source"]


def test_markup_in_cells_is_only_text() -> None:
    assert "[bold]x" in "\n".join(lines_of(COLUMNS.table([{"name": "[bold]x"}], 40), 40))


# ---------------------------------------------------------------------------------- the commands


@pytest.mark.parametrize("width", WIDTHS)
def test_models_are_listed_by_whole_names_with_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = run(monkeypatch, width, "models", "list")
    assert len(lines) == 1 + len(model_names())
    for line, name in zip(lines[1:], model_names(), strict=True):
        found = load_architecture(name)
        cells = line.split()
        assert cells[:2] == [name, f"{found.params / 1e9:.2f}"]
        assert cells[5:7] == [str(len(found.layers)), str(found.hidden)]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_model_is_shown_with_every_figure(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    words = set(" ".join(run(monkeypatch, width, "models", "show", "deepseek-v3")).split())
    assert {"deepseek-v3", "11,507,286,016", "583,483,392", "129280", "163840", "18432"} <= words
    assert {"latent", "experts", "RMSNorm,"} <= words


@pytest.mark.parametrize("width", WIDTHS)
def test_the_fabric_names_links_and_algorithms(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    arguments = ("topologies", "fabric", "meta-24k:1024", "--collective", "all_reduce")
    lines = run(monkeypatch, width, *arguments)
    words = set(" ".join(lines).split())
    assert {"nvlink", "roce", "all_reduce", "ring", "tree", "halving_doubling"} <= words
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_clusters_are_listed_by_whole_names(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = run(monkeypatch, width, "topologies", "list")
    words = set(" ".join(lines).split())
    assert set(cluster_names()) <= words
    titles = {word for name in cluster_names() for word in load_cluster(name).title.split()}
    assert titles <= words


@pytest.mark.parametrize("width", WIDTHS)
def test_a_cluster_is_shown_by_whole_figures(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    words = set(" ".join(run(monkeypatch, width, "topologies", "show", "h100-dgx")).split())
    assert {"usable_fraction", "infiniband", "nvswitch", "989", "TFLOP/s", "0.761"} <= words


# ------------------------------------------------------------------------------------- the sweep


@pytest.fixture(scope="module")
def swept() -> tuple[Scenario, list[SweepPoint]]:
    from planner.bounds import Bounds

    base = Scenario.load("llama-3.1-8b", "h100-dgx:8", seq_len=8192, global_batch=64)
    grid = Grid(seq_lens=[8192, 2**20], gpus=[64], global_batches=[64])
    bounds = Bounds.parse({"micro_batch": 1, "kernels": "fused", "zero": "1..2"})
    return base, run_sweep(base, grid, bounds)


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_a_sweep_keeps_layouts_and_steps_whole(
    swept: tuple[Scenario, list[SweepPoint]], width: int
) -> None:
    base, points = swept
    stream = StringIO()
    sweep_report.show(Console(file=stream, width=width), base, points)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    words = set(" ".join(lines).split())
    for point in points:
        assert point.best is not None
        assert set(label(point.best.layout).split()) <= words
        ways = {
            word for each in point.by_method.values() for word in seconds(each.step_time_s).split()
        }
        assert width < 80 or ways <= words
    assert {"8k", "1m", "step"} <= words
    assert ("Left out on so narrow a screen" in stream.getvalue()) == (width < 140)
