"""The whole account of accuracy as one Markdown text, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.scatter_chart import ScatterChart
from validate.published.accuracy_rows import rows_sheet
from validate.published.accuracy_sheets import sheets
from validate.published.fitted_parameters import fitted_parameters
from validate.published.parts import accelerator, grouped
from validate.published.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.published.accuracy import Accuracy
    from validate.published.peers import PeerErrors
    from validate.published.predicted import Predicted

#: Kinds of points that a chart has room for; the rest are one kind.
KINDS = 6


def markdown(
    accuracy: Accuracy,
    peers: Sequence[PeerErrors],
    command: str,
    further: Sequence[Sheet] = (),
    picture: str | None = None,
) -> str:
    """Return the report.

    Parameters
    ----------
    accuracy, peers
        What was found.
    command
        What a reader types for the same.
    further
        Tables to follow those of the errors.
    picture
        File of :func:`scatter`, as seen from the report.
    """
    head = (
        "# How far predictions are from published runs\n\n"
        f"Written by `{command}`.\n"
        "Errors are relative to what was measured; a positive one says that a run was faster, or "
        "smaller, than predicted.\n"
    )
    drawn = [f"![Predicted over measured seconds of a step]({picture})\n"] if picture else []
    tables = [
        *sheets(accuracy, peers),
        *further,
        _parameters(),
        rows_sheet("Every row", (*accuracy.predicted, *accuracy.left_out)),
    ]
    return "\n".join([head, *drawn, *(sheet.to_markdown() for sheet in tables)])


def scatter(accuracy: Accuracy) -> str:
    """Return predicted over measured steps as SVG, by accelerator."""
    done = [each for each in accuracy.times if each.error is not None]
    groups = grouped(done, lambda row: [accelerator(row)])
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    points = {name: _pairs(rows) for name, rows in ordered[:KINDS]}
    if rest := [each for _, rows in ordered[KINDS:] for each in rows]:
        points["others"] = _pairs(rest)
    return ScatterChart(
        title="Published steps as predicted, by accelerator", unit="seconds", points=points
    ).to_svg()


def _pairs(rows: Sequence[Predicted]) -> list[tuple[float, float]]:
    return [(each.measured or 0.0, each.predicted or 0.0) for each in rows]


def _parameters() -> Sheet:
    return Sheet(
        title="Fitted parameters",
        columns=("files", "parameter", "fitted to", "value"),
        rows=tuple(
            (", ".join(each.files), each.name, each.source, f"{each.value:g}")
            for each in fitted_parameters()
        ),
        texts=3,
        note=(
            "Every figure of the data files that was fitted. Those from data sheets, measured "
            "directly or assumed say so in the same files."
        ),
    )
