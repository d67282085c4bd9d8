"""Published figures of other cost models, over tables of which a file here may hold a part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from validate.published.row import Row

FILE = Path(__file__).parents[1] / "data" / "quoted_peers.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedPeer:
    """One cost model over one whole table.

    Parameters
    ----------
    of
        The source of its runs, as rows name it.
    title, runs, jobs
        What the figures are over.
    name
        Who predicts.
    mean_abs_error, mean_regret, max_regret
        Fractions; None where nobody says.
    source
        Who says so, of which revision.
    """

    of: str
    title: str
    runs: int
    jobs: int
    name: str
    mean_abs_error: float | None
    mean_regret: float | None
    max_regret: float | None
    source: str


def quoted_peers(rows: Iterable[Row]) -> tuple[QuotedPeer, ...]:
    """Return the figures that are quoted for the sources of some rows."""
    sources = {row.text("source") for row in rows}
    return tuple(peer for peer in _all() if peer.of in sources)


@cache
def _all() -> tuple[QuotedPeer, ...]:
    return tuple(
        QuotedPeer(
            of=source,
            title=table["title"],
            runs=table["runs"],
            jobs=table["jobs"],
            name=name,
            **figures,
        )
        for source, table in read_yaml(FILE).items()
        for name, figures in table["peers"].items()
    )
