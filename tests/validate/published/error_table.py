"""The errors of the sample as committed: how good every part of it was.

``python -m tests.validate.published.error_table`` writes them afresh, for a change that is meant to
move them; the difference belongs in that change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.validate.published.sample import sample
from validate.published.errors import Errors
from validate.published.parts import parts
from validate.published.sweeps import Sweeps

FILE = Path(__file__).parents[2] / "data" / "accuracy.json"
#: Figures of errors that must not get worse, and of the ranking of layouts.
ERRORS = ("n", "median_abs_error", "p90_abs_error")
RANKS = ("pairs", "kendall_tau", "mean_regret")
#: Figures are kept to this many digits after the point: a hundredth of a percent.
DIGITS = 4

Figures = dict[str, dict[str, float]]


def error_table() -> dict[str, Figures]:
    """Return the kept figures of all parts with predictions, and of all sources with sweeps."""
    found = sample()
    answers = parts(found.times)
    named = {"overall": found.counted} | {
        f"{question}: {answer}": rows
        for question, groups in answers.items()
        for answer, rows in groups.items()
    }
    sources = {"overall": found.counted, **answers["source"]}
    return {
        "errors": _kept({name: Errors.of(rows).record() for name, rows in named.items()}, ERRORS),
        "ranks": _kept({name: Sweeps.of(rows).record() for name, rows in sources.items()}, RANKS),
    }


def _kept(records: dict[str, dict[str, Any]], keys: tuple[str, ...]) -> Figures:
    """Return some figures of what has any, counted first."""
    return {
        name: {key: round(record[key], DIGITS) for key in keys}
        for name, record in records.items()
        if record[keys[0]]
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(error_table(), indent=1) + "\n", encoding="utf-8")
