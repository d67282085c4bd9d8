"""No part of the sample is predicted worse than it was."""

from __future__ import annotations

import json

import pytest

from tests.validate.published.error_table import FILE, KEPT, error_table

#: An error may grow by this much, in points of relative error, before a change must own up to it.
SLACK = 0.01


@pytest.fixture(scope="module")
def kept() -> dict[str, dict[str, float]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def worse(now: dict[str, dict[str, float]], kept: dict[str, dict[str, float]]) -> list[str]:
    """Return which parts lost rows, or are off by more than they were and the slack."""
    found = []
    for part, before in kept.items():
        after = now.get(part, {"n": 0})
        if after["n"] < before["n"]:
            found.append(f"{part}: {after['n']} rows predicted, {before['n']} before")
            continue
        found += [
            f"{part}: {name} {after[name]:.1%}, {before[name]:.1%} before"
            for name in KEPT[1:]
            if after[name] > before[name] + SLACK
        ]
    return found


def test_no_part_is_predicted_worse_than_before(kept: dict[str, dict[str, float]]) -> None:
    now = error_table()
    assert not worse(now, kept), "if meant: python -m tests.validate.published.error_table"


def test_what_got_worse_is_noticed(kept: dict[str, dict[str, float]]) -> None:
    part = "model: experts"
    for name in KEPT[1:]:
        moved = {**kept, part: {**kept[part], name: kept[part][name] + 2 * SLACK}}
        assert worse(moved, kept) == [
            f"{part}: {name} {moved[part][name]:.1%}, {kept[part][name]:.1%} before"
        ]
    fewer = {**kept, part: {**kept[part], "n": kept[part]["n"] - 1}}
    assert len(worse(fewer, kept)) == 1
    assert len(worse({}, kept)) == len(kept)
    assert worse(kept, kept) == []


def test_every_source_of_the_sample_that_is_predicted_is_held(
    kept: dict[str, dict[str, float]],
) -> None:
    assert set(kept) == set(error_table())
