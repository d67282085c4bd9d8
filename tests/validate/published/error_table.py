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

FILE = Path(__file__).parents[2] / "data" / "accuracy.json"
#: Figures that must not get worse.
KEPT = ("n", "median_abs_error", "p90_abs_error")
#: Errors are kept to this many digits after the point: a hundredth of a percent.
DIGITS = 4


def error_table() -> dict[str, dict[str, Any]]:
    """Return the kept figures of all parts with predictions, overall first."""
    found = sample()
    named = {"overall": found.counted} | {
        f"{question}: {answer}": rows
        for question, answers in parts(found.times).items()
        for answer, rows in answers.items()
    }
    tables = {name: Errors.of(rows).record() for name, rows in named.items()}
    return {
        name: {key: round(table[key], DIGITS) for key in KEPT}
        for name, table in tables.items()
        if table["n"]
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(error_table(), indent=1) + "\n", encoding="utf-8")
