"""No part of the sample is predicted worse than it was, and no layouts are ranked worse."""

from __future__ import annotations

import copy
import json

import pytest

from tests.validate.published.error_table import ERRORS, FILE, RANKS, Figures, error_table

#: By how much a figure may get worse before a change must own up to it: points of relative error,
#: of rank correlation and of regret; negative where more is better. Counts must not fall.
SLACK = {
    "median_abs_error": 0.01,
    "p90_abs_error": 0.01,
    "kendall_tau": -0.05,
    "mean_regret": 0.02,
}
HOW = "if this is meant: make accuracy (python -m tests.validate.published.error_table)"


@pytest.fixture(scope="module")
def kept() -> dict[str, Figures]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def worse(now: dict[str, Figures], kept: dict[str, Figures]) -> list[str]:
    """Return which parts lost rows or pairs, or got worse than they were by more than the slack."""
    return [
        found
        for table, parts in kept.items()
        for part, before in parts.items()
        for found in _worse(part, now.get(table, {}).get(part, {}), before)
    ]


def _worse(part: str, after: dict[str, float], before: dict[str, float]) -> list[str]:
    count, *figures = before
    if after.get(count, 0) < before[count]:
        return [f"{part}: {after.get(count, 0)} {count}, {before[count]} before"]
    return [
        f"{part}: {name} {after[name]:.4f}, {before[name]:.4f} before"
        for name in figures
        if (after[name] - before[name]) / SLACK[name] > 1.0
    ]


def test_no_part_is_predicted_or_ranked_worse_than_before(kept: dict[str, Figures]) -> None:
    assert not worse(error_table(), kept), HOW


@pytest.mark.parametrize(
    ("table", "part", "name"),
    [
        *(("errors", "model: experts", name) for name in ERRORS[1:]),
        *(("ranks", "vtrain-single", name) for name in RANKS[1:]),
    ],
)
def test_what_got_worse_is_noticed(
    kept: dict[str, Figures], table: str, part: str, name: str
) -> None:
    now = copy.deepcopy(kept)
    now[table][part][name] += 1.2 * SLACK[name]
    (found,) = worse(now, kept)
    assert found.startswith(f"{part}: {name} ")
    now[table][part][name] -= 2.4 * SLACK[name]  # better is no complaint
    assert worse(now, kept) == []


def test_lost_rows_and_parts_are_noticed(kept: dict[str, Figures]) -> None:
    now = copy.deepcopy(kept)
    now["errors"]["model: experts"]["n"] -= 1
    now["ranks"]["vtrain-single"]["pairs"] -= 1
    assert len(worse(now, kept)) == 2
    assert len(worse({}, kept)) == sum(len(parts) for parts in kept.values())


def test_the_committed_table_has_all_parts_of_today(kept: dict[str, Figures]) -> None:
    now = error_table()
    assert {table: set(parts) for table, parts in kept.items()} == {
        table: set(parts) for table, parts in now.items()
    }, HOW
