"""Accuracy as JSON and CSV: errors as fractions, quantities in SI units."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from validate.published.errors import Errors
from validate.published.memory_limits import MemoryLimits
from validate.published.parts import by_source, counted, grouped, memory_kinds, parts
from validate.published.predicted import Quantity
from validate.published.standing import Standing, standing_of
from validate.published.sweeps import Sweeps
from validate.published.taken import TAKEN, taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from validate.published.accuracy import Accuracy
    from validate.published.parts import Group
    from validate.published.peers import PeerErrors
    from validate.published.predicted import Predicted

CSV_COLUMNS = (
    "id",
    "file",
    "source",
    "kind",
    "quantity",
    "counted",
    "measured",
    "predicted",
    "low",
    "high",
    "error",
    "fits",
    "skipped_because",
    *TAKEN,
)


def record(accuracy: Accuracy, peers: Sequence[PeerErrors] = ()) -> dict[str, Any]:
    """Return errors by every part, rank agreement, peers and rows as documented JSON values."""
    by = parts(accuracy.times)
    files = grouped(accuracy.counted, lambda row: [row.file])
    memory = accuracy.of_quantity(Quantity.MEMORY)
    first, further = _split(accuracy)
    return {
        "overall": Errors.of(accuracy.counted).record(),
        "by_source": _errors(by["source"]),
        "by_file": _errors(files),
        "parts": {name: _errors(group) for name, group in by.items() if name != "source"},
        "quantities": {
            "memory": {**_quantity(memory), "by_kind": _errors(memory_kinds(memory))},
            "length": _quantity(accuracy.of_quantity(Quantity.LENGTH)),
        },
        "memory_limits": MemoryLimits.of(accuracy.predicted).record(),
        "sweeps": {
            "overall": Sweeps.of(accuracy.counted).record(),
            "by_source": _ranks(by["source"]),
            "by_file": _ranks(files),
        },
        "peers": [peer.record() for peer in peers],
        "skips": skips(accuracy.predicted),
        "left_out": skips(accuracy.left_out),
        "missing_columns": {table.file: list(table.missing) for table in accuracy.tables},
        "unread_columns": {
            table.file: {column: list(meant) for column, meant in table.unread.items()}
            for table in accuracy.tables
        },
        "rows": first,
        "further_rows": further,
    }


def csv_text(accuracy: Accuracy) -> str:
    """Return every row as CSV; those with several quantities several times."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    first, further = _split(accuracy)
    for values in first + further:
        low, high = values["interval"] or (None, None)
        shown = {**values, "low": low, "high": high}
        writer.writerow(["" if shown[name] is None else shown[name] for name in CSV_COLUMNS])
    return stream.getvalue()


def skips(rows: Iterable[Predicted]) -> dict[str, int]:
    """Return how many rows are skipped for each reason, the most frequent first."""
    reasons = Counter(each.skipped_because for each in rows if each.skipped_because)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _split(accuracy: Accuracy) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one record of each row, as tables have them, and those of its further quantities."""
    records: dict[int, list[dict[str, Any]]] = {
        id(row): [] for table in accuracy.tables for row in table.rows
    }
    for each in accuracy.predicted:
        counts = standing_of(each.row) is Standing.COUNTED
        records[id(each.row)].append({**each.record(), "counted": counts, **taken(each)})
    for each in accuracy.left_out:
        records[id(each.row)].append({**each.record(), "counted": False, **taken(each)})
    return (
        [found[0] for found in records.values()],
        [each for found in records.values() for each in found[1:]],
    )


def _errors(group: Group) -> dict[str, Any]:
    return {name: Errors.of(rows).record() for name, rows in group.items()}


def _ranks(group: Group) -> dict[str, Any]:
    return {name: Sweeps.of(rows).record() for name, rows in group.items()}


def _quantity(rows: Sequence[Predicted]) -> dict[str, Any]:
    overall = Errors.of(counted(rows)).record()
    return {"overall": overall, "by_source": _errors(by_source(rows))}
