"""The published runs that tests predict."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from validate.published.accuracy import Accuracy
from validate.published.row import read_table

FILE = Path(__file__).parents[2] / "data" / "published_runs.csv"


@cache
def sample() -> Accuracy:
    """Return the predictions of all of them, made once."""
    return Accuracy.of([read_table(str(FILE))], "AB")
