"""Errors of published runs as tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

from validate.published.errors import Errors, Sweeps
from validate.published.memory_rows import Memory
from validate.published.predicted import Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from validate.published.predicted import Predicted
    from validate.published.row import Table as Rows

#: Reasons for skipping that are shown, the most frequent first.
SHOWN_REASONS = 12
LONG = 32_768


def parts(found: Sequence[Predicted]) -> dict[str, list[Predicted]]:
    """Return rows by what they are: all, dense, with experts, long sequences, then by source."""
    named: dict[str, list[Predicted]] = {"overall": list(found)}
    named["dense"] = [each for each in found if not _has_experts(each)]
    named["experts"] = [each for each in found if _has_experts(each)]
    named["32k and longer"] = [each for each in found if _length(each) >= LONG]
    for source in sorted({each.row.text("source") for each in found}):
        named[source] = [each for each in found if each.row.text("source") == source]
    return {name: rows for name, rows in named.items() if rows}


def of_times(found: Sequence[Predicted]) -> list[Predicted]:
    """Return what is predicted of times."""
    return [each for each in found if each.quantity is Quantity.TIME]


def record(found: Sequence[Predicted]) -> dict[str, Any]:
    """Return all errors and rows as documented JSON values."""
    timed = of_times(found)
    sources = sorted({each.row.text("source") for each in timed})
    return {
        "overall": Errors.of(timed).record(),
        "by_source": {
            source: Errors.of(each for each in timed if each.row.text("source") == source).record()
            for source in sources
        },
        "sweeps": Sweeps.of(timed).record(),
        "memory": Memory.of(found).record(),
        "rows": [each.record() for each in found],
    }


def csv_text(found: Sequence[Predicted]) -> str:
    """Return every row as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = (
        "id",
        "source",
        "quantity",
        "measured",
        "predicted",
        "low",
        "high",
        "error",
        "fits",
        "skipped_because",
    )
    writer.writerow(names)
    for each in found:
        values = each.record()
        low, high = values.pop("interval") or (None, None)
        values |= {"low": low, "high": high}
        writer.writerow(["" if values[name] is None else values[name] for name in names])
    return stream.getvalue()


def show(screen: Console, found: Sequence[Predicted], rows: Rows, *, left_out: int) -> None:
    """Print the errors by source, how layouts are ranked, and why rows are skipped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("runs", overflow="fold")
    for name in ("n", "skipped", "median |error|", "p90", "bias", "in the interval"):
        table.add_column(name, justify="right")
    timed, memory = of_times(found), Memory.of(found)
    named = {name: Errors.of(members) for name, members in parts(timed).items()}
    for name, errors in (named | memory.named_errors()).items():
        shares = (errors.median, errors.p90, errors.bias, errors.coverage)
        shown = [f"{share:.1%}" for share in shares] if errors.n else ["-"] * len(shares)
        table.add_row(name, f"{errors.n}", f"{errors.skipped}", *shown)
    screen.print(table)
    sweeps = Sweeps.of(timed)
    screen.print()
    screen.print(
        f"{sweeps.jobs} jobs with three layouts or more: Kendall's tau {sweeps.tau:.2f}, the "
        f"layout predicted to be best takes {sweeps.regret:.1%} longer than the best, on average."
    )
    screen.print(str(memory))
    screen.print(f"Left out for grade, suspicion or want of a result: {left_out} rows.")
    if rows.missing:
        screen.print(f"Columns not in the file: {', '.join(rows.missing)}.")
    reasons = Counter(each.skipped_because for each in found if each.skipped_because)
    for reason, many in reasons.most_common(SHOWN_REASONS):
        screen.print(f"skipped {many}: {reason}", markup=False)


def _has_experts(each: Predicted) -> bool:
    return each.row.text("experts", "0") not in ("0", "")


def _length(each: Predicted) -> float:
    text = each.row.text("seq_len", "0")
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0
