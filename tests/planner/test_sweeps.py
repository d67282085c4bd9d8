"""Sweeps cover the whole space, and refuse what is no point of one."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import planner
from planner.bounds import Bounds
from planner.cli import build
from planner.scenario import Scenario
from planner.search import search
from planner.space import Space
from planner.sweeps import METHODS, Grid, network_factor, run_sweep
from topologies.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

JOBS = [
    ("gemma-3-27b", "unrestricted", {"ulysses": 1, "tp": 2}),
    ("gemma-3-1b", "any", {}),
    ("gemma-3-1b", "any", {"cp_method": "per-layer"}),
    ("llama-3.2-1b", "any", {}),
    ("llama-3.2-1b", "megatron", {"ring": "2..4"}),
]


@pytest.mark.parametrize(("model", "framework", "pins"), JOBS, ids=str)
def test_ways_to_cut_the_sequence_are_the_whole_space_once(
    model: str, framework: str, pins: dict[str, Any]
) -> None:
    scenario = Scenario.load(model, "h100-dgx:1", seq_len=32_768, global_batch=8)
    bounds = Bounds.parse(pins)
    grid = Grid(seq_lens=[32_768], gpus=[8], global_batches=[8])
    (point,) = run_sweep(scenario, grid, bounds, framework)
    whole = search(scenario, Space(scenario.job, bounds, framework))
    assert point.legal == whole.counts.legal > 0
    assert point.best is not None
    assert point.best.step_time_s == whole.step_s[0]


def test_no_layout_is_cut_in_two_ways() -> None:
    used = set()
    spaces = [
        Space(
            Scenario.load(name, "h100-dgx:1", seq_len=32_768, global_batch=8).job,
            Bounds({}),
            "unrestricted",
        )
        for name in ("gemma-3-1b", "llama-3.2-1b")
    ]
    for batch in chain.from_iterable(space.batches() for space in spaces):
        found = np.zeros(len(batch), dtype=int)
        for name, way in METHODS.items():
            own = np.ones(len(batch), dtype=bool)
            for axis, bound in way.items():
                own &= bound.allows(getattr(batch, axis))
            found += own
            used |= {name} if own.any() else set()
        assert (found == 1).all()
    assert used == set(METHODS)


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"networks": [-1.0, 2.0, 0.0]}, ["networks = -1.0", "networks = 0.0"]),
        ({"networks": [float("nan")]}, ["networks = nan"]),
        ({"networks": [1e9]}, ["networks = 1000000000.0"]),
        ({"networks": []}, ["networks = []"]),
        ({"seq_lens": [], "global_batches": []}, ["seq_lens = []", "global_batches = []"]),
        ({"seq_lens": ["4q"], "no_axis": 3}, ["seq_lens = 4q", "--no-axis = 3"]),
        ({"gpus": [8.5, "x"]}, ["gpus = 8.5", "gpus = x"]),
        ({"global_batches": "no"}, ["global_batches = no"]),
        ({"framework": "megaton"}, ["--framework = megaton"]),
    ],
    ids=str,
)
def test_what_is_no_point_is_refused_all_at_once(wrong: dict[str, Any], fields: list[str]) -> None:
    job: dict[str, Any] = {"seq_lens": ["8k"], "global_batches": [8]}
    with pytest.raises(SpecError) as caught:
        planner.sweep("llama-3.2-1b", "h100-dgx:1", **(job | wrong))
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == len(fields)
    for problem, field in zip(said, fields, strict=True):
        assert problem.startswith(field)


def test_a_figure_is_svg_and_says_what_it_is_drawn_for(tmp_path: Path) -> None:
    job = ["llama-3.2-1b", "--cluster", "h100-dgx", "--gpus", "4,8", "--seq-len", "8k,16k"]
    runner, file = CliRunner(), tmp_path / "sweep.svg"
    done = runner.invoke(build(), ["sweep", *job, "--global-batch", "8", "--figure", str(file)])
    assert done.exit_code == 0, done.output
    assert "Llama 3.2 1B on h100-dgx" in file.read_text()
    assert "accelerators: 4" in file.read_text()
    wrong = ["sweep", *job, "--global-batch", "8", "--figure", str(tmp_path / "sweep.png")]
    with pytest.raises(SpecError, match=r"end the name in \.svg"):
        runner.invoke(build(), wrong, catch_exceptions=False)


@pytest.mark.parametrize("text", ["abc", "0", "nan", "1e9", ""])
def test_a_factor_that_is_none_is_named_where_it_was_written(text: str) -> None:
    assert network_factor("0.5", "points") == 0.5
    with pytest.raises(SpecError, match=r"points = .*: a factor from 0\.001 to 1000"):
        network_factor(text, "points")


def test_one_value_stands_for_a_list_of_one() -> None:
    pins: dict[str, Any] = {"pp": 1, "tp": 2, "zero": 1}
    several = planner.sweep(
        *("llama-3.2-1b", "h100-dgx"),
        seq_lens=[8192],
        global_batches=["8"],
        gpus=[4],
        networks=[2.0],
        **pins,
    )
    one = planner.sweep(
        *("llama-3.2-1b", "h100-dgx"),
        seq_lens="8k",
        global_batches=8,
        gpus=np.int64(4),
        networks=2.0,
        **pins,
    )
    assert [point.to_dict() for point in one] == [point.to_dict() for point in several]
