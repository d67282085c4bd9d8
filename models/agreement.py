"""How well predicted collectives agree with measured ones: by group, and by class of sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from models.profile import load_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from models.layout import Array
    from models.measured_collectives import Measured
    from models.profile import Profile

#: Classes of message sizes: from so many bytes up to the next. Below, only starts are measured.
CLASSES = {"64 KiB to 1 MiB": 2.0**16, "1 to 64 MiB": 2.0**20, "64 MiB up": 2.0**26}
#: Largest median errors wanted from 1 MiB up, inside a fast domain and across.
INSIDE_TARGET, ACROSS_TARGET = 0.12, 0.20


@dataclass(frozen=True, slots=True)
class Spread:
    """Relative errors of some rows: how many, median and ninth decile of their size, and bias.

    The bias is the median with its sign: above zero where predictions are too long.
    """

    rows: int
    median: float
    p90: float
    bias: float

    @classmethod
    def of(cls, errors: Array) -> Spread:
        """Return the spread of signed errors."""
        if not errors.size:
            return cls(0, float("nan"), float("nan"), float("nan"))
        size = np.abs(errors)
        return cls(
            errors.size,
            float(np.median(size)),
            float(np.quantile(size, 0.9)),
            float(np.median(errors)),
        )

    def record(self) -> dict[str, Any]:
        """Return the spread as JSON holds it; ``null`` where there are no rows."""
        parts = {"median_error": self.median, "p90_error": self.p90, "bias": self.bias}
        return {
            "rows": self.rows,
            **{key: part if self.rows else None for key, part in parts.items()},
        }

    def __str__(self) -> str:
        """Return median, ninth decile, bias and number of rows."""
        if not self.rows:
            return "none"
        return f"{self.median:.1%} / {self.p90:.0%} {self.bias:+.0%} of {self.rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Errors of one collective of one system on one group of ranks.

    Parameters
    ----------
    system, collective
        Whose rows, and of what; of totals the collective is ``all, one domain`` or ``all, across``.
    gpus, nodes
        Ranks, and the nodes they are spread over; zero for totals.
    classes
        Errors of each of `CLASSES`.
    above
        Errors from 1 MiB up.
    """

    system: str
    collective: str
    gpus: int
    nodes: int
    classes: tuple[Spread, ...]
    above: Spread

    def record(self) -> dict[str, Any]:
        """Return the errors as JSON holds them."""
        return {
            "system": self.system,
            "collective": self.collective,
            "gpus": self.gpus or None,
            "nodes": self.nodes or None,
            **{name: spread.record() for name, spread in zip(CLASSES, self.classes, strict=True)},
            "1 MiB up": self.above.record(),
        }

    def row(self) -> dict[str, str]:
        """Return the errors as people read them."""
        spreads = zip(CLASSES, self.classes, strict=True)
        return {
            "system": self.system,
            "collective": self.collective,
            "ranks": f"{self.gpus} on {self.nodes}" if self.gpus else "",
            **{name: str(spread) for name, spread in spreads},
            "1 MiB up": str(self.above),
        }


def agreements(
    measured: Measured, profiles: Callable[[str], Profile] = load_profile
) -> list[Agreement]:
    """Return the errors of each group, then of everything inside one domain and of all across."""
    off = measured.predicted(profiles) / measured.seconds - 1.0
    cases = [measured.cases[case] for case in measured.case]
    keys = [
        (str(system), op, int(gpus), int(nodes))
        for system, (_, nodes, gpus, op, *_) in zip(measured.system, cases, strict=True)
    ]
    across = np.array([nodes > 1 for *_, nodes in keys])
    found = [_agreement(*key, off, measured.nbytes, mine) for key, mine in _each(keys)]
    for name, mine in (("all, one domain", ~across), ("all, across", across)):
        if mine.any():
            found.append(_agreement("", name, 0, 0, off, measured.nbytes, mine))
    return found


def _each(
    keys: list[tuple[str, str, int, int]],
) -> Iterator[tuple[tuple[str, str, int, int], NDArray[np.bool_]]]:
    known = {key: index for index, key in enumerate(sorted(set(keys)))}
    which = np.array([known[key] for key in keys])
    for key, index in known.items():
        yield key, which == index


def _agreement(
    system: str,
    collective: str,
    gpus: int,
    nodes: int,
    off: Array,
    nbytes: Array,
    mine: NDArray[np.bool_],
) -> Agreement:
    starts = [*CLASSES.values(), np.inf]
    inside = [(nbytes >= low) & (nbytes < high) & mine for low, high in pairwise(starts)]
    return Agreement(
        system=system,
        collective=collective,
        gpus=gpus,
        nodes=nodes,
        classes=tuple(Spread.of(off[rows]) for rows in inside),
        above=Spread.of(off[mine & (nbytes >= CLASSES["1 to 64 MiB"])]),
    )
