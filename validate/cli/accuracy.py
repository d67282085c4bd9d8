"""``meshwright accuracy``: published runs, predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.job_options import JsonFile

if TYPE_CHECKING:
    from validate.fitting.run_fit import RunFit
    from validate.published.accuracy import Accuracy

RowsFiles = Annotated[
    list[str], typer.Argument(metavar="ROWS.csv...", help="Measured runs, in either known schema.")
]
Grades = Annotated[str, typer.Option("--grades", help="Of rows that count, such as AB.")]
CsvFile = Annotated[
    str | None, typer.Option("--csv", help="Write every row to FILE (- for the screen).")
]
PeerFiles = Annotated[
    list[str] | None,
    typer.Option("--peers", help="What other cost models predict of the same runs, as CSV."),
]
ReportFile = Annotated[
    str | None,
    typer.Option("--report", help="Write all tables and rows as Markdown to FILE, an SVG beside."),
]
CrossValidate = Annotated[
    bool,
    typer.Option(
        "--cross-validate",
        help="Also fit what whole runs decide without each source, and predict that one so.",
    ),
]


def accuracy(
    rows: RowsFiles,
    grades: Grades = "AB",
    peers: PeerFiles = None,
    cross_validate: CrossValidate = False,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    report: ReportFile = None,
) -> None:
    """Predict every row of tables of measured runs, and print how far off the predictions are.

    Rows of other grades, and those marked as suspect, are left out. Errors are relative; each row
    weighs one over the rows of its file that repeat its configuration.
    """
    from planner.cli import output
    from validate.cli.accuracy_files import (
        check_grades,
        check_places,
        column_lines,
        write_report,
    )
    from validate.fitting.run_sheets import cross_validation
    from validate.published.accuracy import Accuracy
    from validate.published.accuracy_json import json_text
    from validate.published.accuracy_record import csv_text, record
    from validate.published.accuracy_sheets import screen_sheets
    from validate.published.peers import compare
    from validate.published.row import read_table

    check_places(json_file, csv_file, report)
    tables = [read_table(path) for path in rows]
    check_grades(grades, tables)
    many = sum(len(table.rows) for table in tables)
    with output.counting("Predicting", f"of up to {many:,} rows") as done:
        found = Accuracy.of(tables, grades, done)
    beside = [errors for path in peers or [] for errors in compare(path, found.times)]
    fit = _run_fit(found) if cross_validate else None
    further = cross_validation(fit) if fit else ()
    if json_file is not None:
        left = {"cross_validation": fit.record()} if fit else {}
        output.write_out(json_file, json_text({**record(found, beside), **left}))
    if csv_file is not None:
        output.write_out(csv_file, csv_text(found))
    if report is not None:
        write_report(report, found, beside, further, rows, peers or [])
    if "-" in (json_file, csv_file, report):
        return
    screen = output.console()
    for sheet in (*screen_sheets(found, beside), *further):
        screen.print(f"[bold]{sheet.title}[/bold]")
        screen.print(sheet.to_screen())
        screen.print()
    for line in (line for table in tables for line in column_lines(table)):
        screen.print(line, markup=False)


def _run_fit(found: Accuracy) -> RunFit:
    """Return how the times of runs change with the figures that they decide."""
    from planner.cli import output
    from validate.fitting.run_figures import NAMES
    from validate.fitting.run_fit import RunFit, check_families
    from validate.published.standing import Standing, standing_of

    times = [each for each in found.times if standing_of(each.row) is not Standing.LORA]
    check_families(times)
    many = len(NAMES) * len(times)
    with output.counting("Predicting with other figures", f"of up to {many:,} rows") as done:
        return RunFit.of(times, done)
