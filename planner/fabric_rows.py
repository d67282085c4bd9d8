"""A cluster's fabric row by row: what each axis gets, and which algorithm its library takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.collectives import cost, seconds_by
from topologies.collective import Collective
from topologies.errors import Problem, raise_if_any, unknown_name
from topologies.fabric_table import axis_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.profile import Profile
    from topologies.fabric_table import FabricTable, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricRow:
    """One collective by one algorithm on the groups of one axis.

    Parameters
    ----------
    size, stride
        Ranks of a group, and accelerators from one to the next.
    reach
        The outermost tier of links that the axis crosses.
    collective, algorithm
        What is done, and how.
    latency_s
        Seconds of its hops.
    bus_Bps
        Bus bandwidth of long messages as nccl-tests counts it, while all groups of the axis work.
    sharing
        What one group gets alone over what it gets while all groups work.
    time_s
        Of a message of the table's bytes.
    taken
        Whether the library takes the algorithm for that message.
    """

    size: int
    stride: int
    reach: str
    collective: str
    algorithm: str
    latency_s: float
    bus_Bps: float
    sharing: float
    time_s: float
    taken: bool

    @property
    def pair(self) -> Pair:
        """The axis: size and stride."""
        return self.size, self.stride

    def to_dict(self) -> dict[str, Any]:
        """Return the row as documented JSON values."""
        return asdict(self)


def matching_pairs(accelerators: int, size: int | None, stride: int | None) -> list[Pair]:
    """Return the axes of a cluster that have a given size and stride.

    Raises
    ------
    SpecError
        If no axis has them.
    """
    every = axis_pairs(accelerators)
    if not every:
        mend = "it has no groups: take more nodes, as in h100-dgx:4"
        raise_if_any([Problem("accelerators", accelerators, mend)])
    wanted = {"--size": (0, size), "--stride": (1, stride)}
    unknown = [
        Problem(field, value, _mend(accelerators, sorted({pair[at] for pair in every}), value))
        for field, (at, value) in wanted.items()
        if value is not None and all(pair[at] != value for pair in every)
    ]
    raise_if_any(unknown)
    found = [pair for pair in every if size in (None, pair[0]) and stride in (None, pair[1])]
    if not found:
        most = max(pair[1] for pair in every if pair[0] == size)
        mend = f"size times stride divides the {accelerators} accelerators: at most {most} here"
        raise_if_any([Problem("--stride", stride, mend)])
    return found


def parse_collective(name: str) -> Collective:
    """Return a collective by its name, written with underscores or hyphens.

    Raises
    ------
    SpecError
        If there is none.

    Examples
    --------
    >>> parse_collective("all-to-all").value
    'all_to_all'
    """
    known = [str(collective) for collective in Collective]
    plain = name.strip().lower().replace("-", "_")
    if plain not in known:
        raise_if_any([unknown_name("--collective", name, known, "no such collective")])
    return Collective(plain)


def fabric_rows(
    table: FabricTable, profile: Profile, nbytes: int, collectives: Sequence[Collective]
) -> list[FabricRow]:
    """Return the rows of some collectives, axis by axis.

    Parameters
    ----------
    table
        What the axes get.
    profile
        Parameters of the framework's start-up and of local copies.
    nbytes
        Of each message, counted as :class:`~topologies.collective.Collective` says.
    collectives
        Those to show.
    """
    sent = np.full(len(table.pairs), float(nbytes))
    costs = {name: cost(name, table.links, profile) for name in collectives}
    takes = {name: one.chosen(sent) for name, one in costs.items()}
    taken_s = {name: one.seconds(sent) for name, one in costs.items()}
    kinds = [
        (figures, seconds_by(figures.algorithm, figures.collective, table.links, profile, nbytes))
        for figures in table.figures
        if figures.collective in costs
    ]
    rows = []
    for at, (size, stride) in enumerate(table.pairs):
        for figures, time_s in kinds:
            if not figures.able[at]:
                continue
            taken = takes[figures.collective][at] is figures.algorithm
            rows.append(
                FabricRow(
                    size=size,
                    stride=stride,
                    reach=table.reach[at],
                    collective=str(figures.collective),
                    algorithm=str(figures.algorithm),
                    latency_s=float(figures.latency_s[at]),
                    bus_Bps=float(figures.bus_Bps[at]),
                    sharing=float(figures.sharing[at]),
                    time_s=float(taken_s[figures.collective][at] if taken else time_s[at]),
                    taken=taken,
                )
            )
    return rows


def _mend(accelerators: int, known: Sequence[int], value: int) -> str:
    """Return which values there are near one that is none."""
    near = {max((n for n in known if n < value), default=known[0])}
    near.add(min((n for n in known if n > value), default=known[-1]))
    return (
        f"a divisor of the {accelerators} accelerators, from {known[0]} to {known[-1]}, "
        f"for example {' or '.join(map(str, sorted(near)))}"
    )
