"""What whole runs say of profiles, as tables: the figures, and the errors of sources left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.published.accuracy_sheets import errors_sheet
from validate.published.sheet import Sheet

if TYPE_CHECKING:
    from validate.fitting.run_fit import RunFit


def cross_validation(fit: RunFit) -> tuple[Sheet, Sheet]:
    """Return the figures, and how far off runs are by figures fitted without their family."""
    figures = Sheet(
        title="Figures of profiles that whole runs decide",
        columns=("figure", "in profiles", "fitted", "with a family left out", "rows", "families"),
        rows=tuple(
            (
                each["figure"],
                f"{each['value']:.3g}",
                f"{each['fitted']:.3g}",
                " to ".join(f"{end:.3g}" for end in each["left_out"]),
                f"{each['rows']:,}",
                f"{each['families']}",
            )
            for each in fit.figure_records()
        ),
        texts=1,
        note=(
            "Fitted together to all rows, each family of sources weighing the root of its rows; "
            "figures of profiles in SI units."
        ),
    )
    note = (
        "Each row is predicted with these figures fitted to other families of sources: the error "
        "to expect of runs that nothing was fitted to."
    )
    return figures, errors_sheet("Sources left out", "source", fit.held_out(), note)
