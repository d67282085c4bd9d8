"""The table of plans on narrow screens: layouts stay, in whole words; figures give way."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from planner import plan
from planner.cli.report import DISPENSABLE, ranking
from planner.durations import seconds
from planner.layout_words import details, label

if TYPE_CHECKING:
    from planner.plans import PlanSet

ALWAYS = ["#", "dp", "tp", "pp", "ulysses", "ring", "mb", "and", "step", "GiB/rank"]


@pytest.fixture(scope="module")
def found() -> PlanSet:
    return plan(
        "qwen3-30b-a3b",
        "h100-dgx:2",
        seq_len="8k",
        global_batch=64,
        pp="2..4",
        vp="2..4",
        recompute="selective:layernorm+moe_act",
        top=3,
        simulate=False,
        fit_chance=1e-3,
    )


def printed(found: PlanSet, width: int) -> list[str]:
    stream = StringIO()
    Console(file=stream, width=width).print(ranking(found.plans, width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 90, 100, 110, 120, 140, 200])
def test_layouts_are_there_in_whole_words_at_any_width(found: PlanSet, width: int) -> None:
    lines = printed(found, width)
    head = lines[0].split()
    assert [name for name in head if name in ALWAYS] == ALWAYS
    assert max(len(line) for line in lines) <= width
    words = set(" ".join(lines).split())
    for each in found.plans:
        assert set(details(each.layout).replace("+", " +").split()) <= words
        assert set(seconds(each.step_time_s).split()) <= words


def test_the_wider_the_more_figures_are_shown(found: PlanSet) -> None:
    shown = [
        [name for name in DISPENSABLE if name in printed(found, width)[0]]
        for width in (80, 100, 120, 140, 220)
    ]
    assert shown == sorted(shown, key=len)
    assert len(shown[0]) < len(shown[-1])
    # All but the event clock's step, which was not asked.
    assert set(shown[-1]) == set(DISPENSABLE) - {"events"}


def test_sentences_tell_layouts_of_one_mesh_apart(found: PlanSet) -> None:
    best = found.best
    assert best is not None
    assert label(best.layout) == f"{best.layout} {details(best.layout)}"
    (said,) = [note for note in found.notes if note.startswith("To be surer")]
    assert any(f" {label(each.layout)} fits" in said for each in found.front)
