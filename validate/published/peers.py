"""What other cost models predict of the same runs, held against the same measurements."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topologies.errors import Problem, SpecError
from topologies.units import MILLI
from validate.published.errors import Errors
from validate.published.predicted import Quantity
from validate.published.sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from validate.published.predicted import Predicted

OURS = "meshwright"
MEASURED = "measured_ms"
SUFFIX = "_ms"
#: What tells a run, by the columns of a peers' table and by those used here.
SAME = {
    "n_gpus": "gpus",
    "tp": "tp",
    "pp": "pp",
    "dp": "dp",
    "mbs": "micro_batch",
    "gbs": "global_batch",
    "seq": "seq_len",
    "hidden": "hidden",
    "layers": "layers",
}
#: A measured step of both tables agrees to what they are rounded to.
ROUNDED = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerErrors:
    """Errors and rank agreement of one predictor on the runs that all of a table predict.

    Parameters
    ----------
    file, name
        The table, and who predicts.
    errors, sweeps
        Over rows that are in both tables.
    unmatched
        Rows of the peers' table that no predicted run is.
    """

    file: str
    name: str
    errors: Errors
    sweeps: Sweeps
    unmatched: int

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it; a peer gives no intervals."""
        errors = self.errors.record()
        if self.name != OURS:
            errors["interval_coverage"] = None
        return {
            "file": self.file,
            "name": self.name,
            **errors,
            "unmatched": self.unmatched,
            "sweeps": self.sweeps.record(),
        }


def compare(path: str, found: Iterable[Predicted]) -> tuple[PeerErrors, ...]:
    """Return the errors of all peers of a table, and ours, on the rows that are in both.

    A run published twice counts twice, at half the weight.

    Parameters
    ----------
    path
        A CSV file with the columns of :data:`SAME`, ``measured_ms``, and one column of milliseconds
        of each peer.
    found
        Our predictions.

    Raises
    ------
    SpecError
        If it cannot be read, or has not these columns.
    """
    lines = _read(path)
    runs = _by_run(found)
    peers = [name for name in lines[0] if name.endswith(SUFFIX) and name != MEASURED]
    theirs: dict[str, list[Predicted]] = {name: [] for name in peers}
    ours: dict[int, Predicted] = {}
    unmatched = 0
    for line in lines:
        matches = [each for each in runs.get(_run(line, SAME), ()) if _same_step(each, line, path)]
        unmatched += not matches
        for each in matches:
            if id(each) in ours:
                continue
            ours[id(each)] = each
            for name in peers:
                predicted = _number(path, line, name) * MILLI
                theirs[name].append(replace(each, predicted=predicted, interval=None))
    names = {OURS: list(ours.values())} | {
        name.removesuffix(SUFFIX): rows for name, rows in theirs.items()
    }
    return tuple(
        PeerErrors(
            file=Path(path).name,
            name=name,
            errors=Errors.of(rows),
            sweeps=Sweeps.of(rows),
            unmatched=unmatched,
        )
        for name, rows in names.items()
    )


def _read(path: str) -> list[dict[str, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem("--peers", path, f"cannot be read: {error}")]) from error
    lines = list(csv.DictReader(text.splitlines()))
    needed = [*SAME, MEASURED]
    missing = [name for name in needed if not lines or name not in lines[0]]
    if missing:
        mend = f"needs rows with columns {', '.join(missing)}"
        raise SpecError([Problem("--peers", path, mend)])
    return lines


def _by_run(found: Iterable[Predicted]) -> Mapping[tuple[float, ...], Sequence[Predicted]]:
    runs: dict[tuple[float, ...], list[Predicted]] = defaultdict(list)
    for each in found:
        if each.quantity is Quantity.TIME and each.error is not None:
            run = _run(each.row.cells, {name: name for name in SAME.values()})
            if run:
                runs[run].append(each)
    return runs


def _run(cells: Mapping[str, str], names: Mapping[str, str]) -> tuple[float, ...]:
    """Return the numbers that tell a run, or nothing where one is not stated."""
    try:
        return tuple(float(cells[name]) for name in names)
    except (KeyError, ValueError):
        return ()


def _same_step(each: Predicted, line: Mapping[str, str], path: str) -> bool:
    measured = _number(path, line, MEASURED) * MILLI
    return abs(measured / (each.measured or 1.0) - 1.0) <= ROUNDED


def _number(path: str, line: Mapping[str, str], name: str) -> float:
    try:
        return float(line[name])
    except (TypeError, ValueError) as error:
        raise SpecError([Problem(f"{path}: {name}", line[name], "use milliseconds")]) from error
