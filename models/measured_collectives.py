"""Measured collectives against the catalogue's clusters: how far off the predictions are.

The table holds single collectives of public sweeps. Every second size of each series was fitted;
the rest was held out. Predictions go through the same fabric and costs as a plan does; only what
the framework adds to the start is that of the harness that measured.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from models.collectives import Cost, cost
from models.profile import load_profile
from topologies.catalogue import DATA, load_cluster
from topologies.collective import Collective
from topologies.errors import Problem, SpecError
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance
from topologies.library import Algorithm
from topologies.schema import FigureSchema, Strict, checked
from topologies.units import MICRO
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from models.layout import Array
    from models.profile import Profile
    from models.profile_file import ProfileFile
    from topologies.cluster import Cluster

MEASURED = DATA / "measured"
TABLE = MEASURED / "collectives.csv.gz"
#: From here bandwidth decides: 64 MiB.
LARGE_BYTES = 2.0**26
#: Largest median errors wanted of rows held out, of large messages and of others.
LARGE_TARGET, SMALL_TARGET = 0.10, 0.20
_NOTHING = Figure(value=0.0, kind=Provenance.MEASURED, source="nccl-tests, the reference")
#: What rows have in common that one cost serves.
_CASE = ("cluster", "nodes", "gpus", "op", "switch", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rows of a table; arrays of one length.

    Parameters
    ----------
    system
        Whose sweep.
    case
        For each row the index into `cases`.
    nbytes, seconds
        Bytes as :class:`~topologies.collective.Collective` counts them, and the time of one call.
    held_out
        Whether the fits did not see the row.
    cases
        ``(cluster, nodes, gpus, collective, switch, source)``; `switch` is whether the switch
        can add numbers of the row's type.
    """

    system: NDArray[np.str_]
    case: NDArray[np.intp]
    nbytes: Array
    seconds: Array
    held_out: NDArray[np.bool_]
    cases: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path = TABLE) -> Measured:
        """Return the rows of a CSV file, packed or not."""
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        cases: dict[tuple[str, ...], int] = {}
        case = [cases.setdefault(tuple(row[name] for name in _CASE), len(cases)) for row in rows]
        return cls(
            system=np.array([row["system"] for row in rows]),
            case=np.array(case, dtype=np.intp),
            nbytes=np.array([float(row["bytes"]) for row in rows]),
            seconds=np.array([float(row["us"]) for row in rows]) * MICRO,
            held_out=np.array([row["held_out"] == "1" for row in rows]),
            cases=tuple(cases),
        )

    def predicted(self, profiles: Callable[[str], Profile] = load_profile) -> Array:
        """Return the seconds of each row by the catalogue, with the profiles of accelerators."""
        found = np.empty_like(self.nbytes)
        for index in np.unique(self.case):
            case, rows = self.cases[index], self.case == index
            found[rows] = _cost(*case, profiles=profiles).seconds(self.nbytes[rows])
        return found

    def errors_by(self, file: ProfileFile) -> list[Errors]:
        """Return the errors of the systems whose accelerator a profile is of.

        Raises
        ------
        SpecError
            If no system has that, or a figure of the profile cannot be.
        """
        return self.of_device(file).errors(file.profile)

    def of_device(self, file: ProfileFile) -> Measured:
        """Return the rows of systems whose accelerator a profile is of.

        Raises
        ------
        SpecError
            If no system has that.
        """
        devices = [_cluster(*case[:3]).accelerator.name for case in self.cases]
        known = sorted(set(devices))
        if file.accelerators and not set(known) & set(file.accelerators):
            mend = f"no measured system has that device; they have {', '.join(known)}"
            raise SpecError([Problem("--profile", ", ".join(file.accelerators), mend)])
        mine = [not file.accelerators or name in file.accelerators for name in devices]
        return self._rows(np.array(mine)[self.case])

    def _rows(self, kept: NDArray[np.bool_]) -> Measured:
        columns = ("system", "case", "nbytes", "seconds", "held_out")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns})

    def errors(self, profiles: Callable[[str], Profile] = load_profile) -> list[Errors]:
        """Return the median errors of each system, in the order of their names."""
        off = np.abs(self.predicted(profiles) / self.seconds - 1.0)
        return [self._errors(str(system), off) for system in np.unique(self.system)]

    def _errors(self, system: str, off: Array) -> Errors:
        mine, large = self.system == system, self.nbytes >= LARGE_BYTES
        held, seen = mine & self.held_out, mine & ~self.held_out
        cluster, nodes, *_ = self.cases[self.case[mine][0]]
        return Errors(
            system=system,
            cluster=cluster.removesuffix(".yaml"),
            nodes=int(nodes),
            held_large=_median(off[held & large]),
            held_small=_median(off[held & ~large]),
            seen_large=_median(off[seen & large]),
            seen_small=_median(off[seen & ~large]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Median relative errors of one system, each with the number of rows.

    Parameters
    ----------
    system, cluster, nodes
        Whose sweep, and on which cluster of the catalogue it is predicted.
    held_large, held_small
        Of rows held out, from 64 MiB up and below.
    seen_large, seen_small
        Of rows that were fitted.
    """

    system: str
    cluster: str
    nodes: int
    held_large: tuple[int, float]
    held_small: tuple[int, float]
    seen_large: tuple[int, float]
    seen_small: tuple[int, float]

    @property
    def reported_only(self) -> str:
        """Why nothing is wanted of these errors; empty if something is."""
        return _sources().reported_only.get(self.system, "")

    @property
    def met(self) -> bool:
        """Whether both medians of the rows held out are as small as wanted."""
        pairs = (self.held_large, LARGE_TARGET), (self.held_small, SMALL_TARGET)
        return all(median <= target for (rows, median), target in pairs if rows)

    def record(self) -> dict[str, Any]:
        """Return the errors as JSON holds them; ``null`` where there are no rows."""
        parts = ("held_large", "held_small", "seen_large", "seen_small")
        pairs = {part: getattr(self, part) for part in parts}
        return {
            "system": self.system,
            "cluster": self.cluster,
            "nodes": self.nodes,
            **{
                part: {"rows": rows, "median_error": median if rows else None}
                for part, (rows, median) in pairs.items()
            },
            "met": self.met,
            "reported_only": self.reported_only,
        }

    def row(self) -> dict[str, str]:
        """Return the errors as people read them."""
        return {
            "system": self.system,
            "cluster": f"{self.cluster}:{self.nodes}",
            "held out, 64 MiB up": _shown(self.held_large),
            "below": _shown(self.held_small),
            "fitted, 64 MiB up": _shown(self.seen_large),
            "below ": _shown(self.seen_small),
            "target": "reported only" if self.reported_only else "met" if self.met else "missed",
        }


def _shown(errors: tuple[int, float]) -> str:
    rows, median = errors
    return f"{median:6.1%} of {rows}" if rows else "none"


def _median(off: Array) -> tuple[int, float]:
    return off.size, float(np.median(off)) if off.size else float("nan")


def _cluster(cluster: str, nodes: str, gpus: str) -> Cluster:
    """Return the nodes that a case's ranks are spread evenly over."""
    path = str(MEASURED / cluster) if cluster.endswith(".yaml") else cluster
    a_node = load_cluster(path).accelerators_per_node
    return load_cluster(f"{path}:{max(int(nodes), -(-int(gpus) // a_node))}")


def _cost(
    cluster: str,
    nodes: str,
    gpus: str,
    op: str,
    switch: str,
    source: str,
    *,
    profiles: Callable[[str], Profile],
) -> Cost:
    """Return what a case costs."""
    loaded = _cluster(cluster, nodes, gpus)
    a_node = float(loaded.accelerators_per_node)
    inside, across = float(gpus) / float(nodes), float(nodes)
    links = Fabric(loaded).links(*_axes((inside, 1.0), (across, a_node)))
    if switch == "0":
        links = replace(links, library=links.library.without(Algorithm.NVLS, Algorithm.NVLS_TREE))
    return cost(Collective(op), links, _profile(profiles(loaded.accelerator.name), source))


def _axes(*axes: tuple[float, float]) -> Iterable[tuple[Array, Array]]:
    return ((np.array([size]), np.array([stride])) for size, stride in axes)


def _profile(profile: Profile, source: str) -> Profile:
    """Return a profile with the start-up of a harness."""
    issue = _sources().sources[source].issue_us
    added = issue.si(MICRO) if issue else _NOTHING
    return replace(profile, collective_s=added)


class _SourceSchema(Strict):
    title: str
    issue_us: FigureSchema | None = None


class _SourcesSchema(Strict):
    sources: dict[str, _SourceSchema]
    reported_only: dict[str, str]


@cache
def _sources() -> _SourcesSchema:
    file = MEASURED / "sources.yaml"
    return checked(_SourcesSchema, read_yaml(file), file.name)
