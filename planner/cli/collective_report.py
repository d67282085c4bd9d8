"""Predicted collectives beside those of tables that a user names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.agreement import ACROSS_TARGET, INSIDE_TARGET, agreements
from models.measured_tables import read_table
from models.profile import load_profile
from planner.cli import output
from planner.cli.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.profile_file import ProfileFile


#: Columns that stay whole where a screen is narrow; what else a row has are words.
NAMES = ("cluster", "collective")


def show(rows: Sequence[Mapping[str, str]]) -> None:
    """Print errors as a table."""
    screen = output.console()
    words = tuple(name for name in rows[0] if name not in NAMES)
    screen.print(Columns(names=NAMES, words=words).table(rows, screen.width))


def compare(files: Sequence[Path], profile: ProfileFile | None, json_file: str | None) -> None:
    """Write the errors of each file's groups, as JSON or for people.

    Raises
    ------
    SpecError
        If a file cannot be read, or a profile is of none of its systems.
    """
    content = []
    for file in files:
        table = read_table(file)
        measured = table.measured if profile is None else table.measured.of_device(profile)
        found = agreements(measured, load_profile if profile is None else profile.profile)
        content.append(
            {
                "file": str(file),
                "shape": table.shape,
                "rows_left_out": table.left_out,
                "groups": [group.record() for group in found],
            }
        )
        if json_file != "-":
            output.console().print(f"{file}: {table.shape}, {table.left_out} rows left out\n")
            show([group.row() for group in found])
            output.console().print()
    if json_file is not None:
        output.write_json(json_file, {"tables": content})
    if json_file != "-":
        output.console().print(
            "Relative errors: median / ninth decile, bias, and the number of rows. From 1 MiB up "
            f"{INSIDE_TARGET:.0%} is wanted of the median inside a domain, {ACROSS_TARGET:.0%} "
            "across. Rows left out: systems, networks or operations that the shape does not name."
        )
