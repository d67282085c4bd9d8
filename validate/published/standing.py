"""Which rows of published runs count, which are told apart, and which are left out."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from validate.published.asked import asked

if TYPE_CHECKING:
    from validate.published.row import Row


class Standing(StrEnum):
    """What a row counts for."""

    COUNTED = "counted"
    OTHER_HARDWARE = "other hardware"
    LORA = "LoRA"


def standing_of(row: Row) -> Standing:
    """Return what a row counts for.

    Tables mark runs on hardware that no parameter was fitted on; runs that train adapters only are
    another kind of job. Neither is part of the overall errors.
    """
    if "lora" in row.text("task").lower():
        return Standing.LORA
    if row.text("split") == "other-hardware":
        return Standing.OTHER_HARDWARE
    return Standing.COUNTED


def left_out_because(row: Row, grades: str | None) -> str:
    """Return why a row says nothing about predictions, or nothing if it does.

    Parameters
    ----------
    row
        A published run.
    grades
        Letters of those that are complete enough; None where rows have no grades.
    """
    if not asked(row):
        return "nothing measured that can be predicted"
    if row.text("suspect"):
        return "marked as suspect"
    if grades is not None and row.text("grade") not in [*grades]:
        return f"grade {row.text('grade', 'not stated')}"
    return ""
