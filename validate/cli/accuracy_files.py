"""The files that ``meshwright accuracy`` reads and writes: what is said of them, the report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli import output
from topologies.errors import Problem, SpecError
from validate.published.accuracy_report import markdown, scatter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from validate.published.accuracy import Accuracy
    from validate.published.peers import PeerErrors
    from validate.published.row import Table
    from validate.published.sheet import Sheet


def check_places(json_file: str | None, csv_file: str | None, report: str | None) -> None:
    """Check that all files asked for can be written.

    Raises
    ------
    SpecError
        If one cannot, or the report would be its own picture.
    """
    output.check_place(json_file, "--json")
    output.check_place(csv_file, "--csv")
    output.check_place(report, "--report")
    if report is not None and report != "-":
        output.check_place(_picture(report), "--report")
        if _picture(report) == report:
            mend = "is where its picture goes: name the report otherwise, such as ACCURACY.md"
            raise SpecError([Problem("--report", report, mend)])


def check_grades(grades: str, tables: Sequence[Table]) -> None:
    """Check that some row has one of the grades asked for; small tables need not have all.

    Raises
    ------
    SpecError
        If no letter is a grade of the tables.
    """
    graded = [table for table in tables if table.graded]
    known = sorted({row.text("grade", "none") for table in graded for row in table.rows})
    if graded and not set(grades) & set(known):
        mend = f"no row has such a grade: letters among {', '.join(known)}"
        raise SpecError([Problem("--grades", grades, mend)])


def column_lines(table: Table) -> Iterator[str]:
    """Give a line on the columns of a table that are not read, and on those that it lacks."""
    if table.unread:
        meant = (f"{name} (did you mean {' or '.join(of)}?)" for name, of in table.unread.items())
        yield f"Columns of {table.file} not read: {', '.join(meant)}."
    if table.missing:
        yield f"Columns not in {table.file}: {', '.join(table.missing)}."


def write_report(
    path: str,
    found: Accuracy,
    beside: list[PeerErrors],
    further: Sequence[Sheet],
    rows: list[str],
    peers: list[str],
) -> None:
    """Write the report, and its picture beside it unless it goes to the screen."""
    names = [Path(each).name for each in rows]
    options = [word for each in peers for word in ("--peers", Path(each).name)]
    if further:
        options.append("--cross-validate")
    command = shlex.join(["meshwright", "accuracy", *names, *options, "--report", Path(path).name])
    picture = None
    if path != "-":
        output.write_text(_picture(path), scatter(found))
        picture = Path(_picture(path)).name
    output.write_out(path, markdown(found, beside, command, further, picture))


def _picture(path: str) -> str:
    return str(Path(path).with_suffix(".svg"))
