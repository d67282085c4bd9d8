"""Cross-validation that leaves whole sources out: what is fitted to the others predicts them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from validate.published.errors import Errors
from validate.published.parts import grouped, source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from validate.published.predicted import Predicted
    from validate.published.row import Row

_Parameters = TypeVar("_Parameters")


def family_of(row: Row) -> str:
    """Return what a row shares its software and machine with: releases of a benchmark are one."""
    return row.text("family") or row.text("source")


def by_source_left_out(
    rows: Iterable[Row],
    fit: Callable[[Sequence[Row]], _Parameters],
    predict: Callable[[Sequence[Row], _Parameters], Sequence[Predicted]],
) -> dict[str, Errors]:
    """Return the errors overall and of each source, predicted with parameters fitted to the others.

    Releases of one benchmark share runs and software and are no independent sources: where rows
    state a ``family``, all of it is left out together.

    Parameters
    ----------
    rows
        Measured runs of at least two sources.
    fit
        Parameters from runs; it never sees those of the source that is left out.
    predict
        Predictions of runs with such parameters.

    Raises
    ------
    ValueError
        If there are rows of one source only: nothing would be left to fit to.
    """
    families: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        families[family_of(row)].append(row)
    if len(families) < 2:
        raise ValueError(f"rows of one source only: {', '.join(families) or 'none'}")
    found: list[Predicted] = []
    for name in sorted(families):
        others = [row for other, members in families.items() if other != name for row in members]
        found += predict(families[name], fit(others))
    by_source = {name: Errors.of(members) for name, members in grouped(found, source).items()}
    return {"overall": Errors.of(found), **by_source}
