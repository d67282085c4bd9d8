"""``meshwright accuracy``: published runs, predicted."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.cli.job_options import JsonFile

RowsFile = Annotated[
    str, typer.Argument(metavar="ROWS.csv", help="Measured runs, in either known schema.")
]
Grades = Annotated[str, typer.Option("--grades", help="Of rows that count, such as AB.")]
CsvFile = Annotated[
    str | None, typer.Option("--csv", help="Write every row to FILE (- for the screen).")
]


def accuracy(
    rows: RowsFile, grades: Grades = "AB", json_file: JsonFile = None, csv_file: CsvFile = None
) -> None:
    """Predict every row of a table of measured runs, and print how far off the predictions are.

    Rows of other grades, and those marked as suspect, are left out. Errors are relative; each row
    weighs one over the rows that repeat its configuration. Times and memory are told apart, and how
    often runs are wrongly said to fit, or not.
    """
    from planner.cli import output
    from validate.published import accuracy_report
    from validate.published.asked import asked
    from validate.published.predict import predict
    from validate.published.row import read_table

    table = read_table(rows)
    counted = [
        row
        for row in table.rows
        if row.text("grade") in [*grades] and not row.text("suspect") and asked(row)
    ]
    with output.counting("Predicting", f"of {len(counted):,} rows") as done:
        found = predict(counted, done)
    if json_file is not None:
        output.write_json(json_file, accuracy_report.record(found))
    if csv_file is not None:
        output.write_out(csv_file, accuracy_report.csv_text(found))
    if "-" not in (json_file, csv_file):
        accuracy_report.show(
            output.console(), found, table, left_out=len(table.rows) - len(counted)
        )
