"""Sweeps: the best layout, and the best of each way to cut the sequence, at many points."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from models.named_axes import CpMethod
from models.rules.sequence import window_problems
from planner.bounds import Bound, Bounds
from planner.refusal import why_nothing_is_legal
from planner.search import search
from planner.space import Space
from topologies.errors import Problem, SpecError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from planner.plans import Plan
    from planner.scenario import Scenario

_ONE, _SEVERAL = Bound(1, 1, frozenset({1})), Bound(2, 2**30)


def _method(value: CpMethod) -> Bound:
    return Bound(value, value, frozenset({int(value)}))


#: Ways to cut the sequence; together they are the whole space, and no two overlap.
METHODS: dict[str, dict[str, Bound]] = {
    "none": {"ulysses": _ONE, "ring": _ONE},
    "ulysses": {"ulysses": _SEVERAL, "ring": _ONE},
    "ring": {"ulysses": _ONE, "ring": _SEVERAL, "cp_method": _method(CpMethod.P2P)},
    "all-gather": {"ulysses": _ONE, "ring": _SEVERAL, "cp_method": _method(CpMethod.ALL_GATHER)},
    "hybrid": {"ulysses": _SEVERAL, "ring": _SEVERAL},
    "per-layer": {"ulysses": _ONE, "ring": _SEVERAL, "cp_method": _method(CpMethod.PER_LAYER)},
}
#: Factors on links: slower and faster ones are no networks of today or tomorrow.
SLOWEST, FASTEST = 1e-3, 1e3
FACTOR = f"a factor from {SLOWEST:g} to {FASTEST:g}, such as 0.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """The answer at one point.

    Parameters
    ----------
    seq_len, gpus, global_batch
        Where it is.
    network
        Factor on every scale-out link.
    by_method
        The fastest plan of each way to cut the sequence, where one is legal and fits.
    legal
        Layouts looked at.
    """

    seq_len: int
    gpus: int
    global_batch: int
    network: float
    by_method: dict[str, Plan]
    legal: int

    @property
    def best_method(self) -> str | None:
        """The way of the fastest plan, or None if nothing fits."""
        if not self.by_method:
            return None
        return min(self.by_method, key=lambda name: self.by_method[name].step_time_s)

    @property
    def best(self) -> Plan | None:
        """The fastest plan, or None if nothing fits."""
        return self.by_method[self.best_method] if self.best_method else None

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON values."""
        return {
            "seq_len": self.seq_len,
            "gpus": self.gpus,
            "global_batch": self.global_batch,
            "network": self.network,
            "legal": self.legal,
            "best_method": self.best_method,
            "by_method": {name: plan.to_dict() for name, plan in self.by_method.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Points of a sweep: the product of the values of each quantity.

    Parameters
    ----------
    seq_lens, gpus, global_batches
        Values to try.
    networks
        Factors on every scale-out link.
    """

    seq_lens: Sequence[int]
    gpus: Sequence[int]
    global_batches: Sequence[int]
    networks: Sequence[float] = (1.0,)

    def __len__(self) -> int:
        """Return the number of points."""
        sizes = map(len, (self.seq_lens, self.gpus, self.global_batches, self.networks))
        first, second, third, fourth = sizes
        return first * second * third * fourth

    def check(self) -> None:
        """Raise if a quantity has no value, or a network a factor that cannot be.

        Raises
        ------
        SpecError
            With every such quantity and factor.
        """
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        found = [
            Problem(name, [], "one value or more") for name, of in named.items() if not len(of)
        ]
        raise_if_any([*found, *network_problems(self.networks, "networks")])

    def scenarios(self, base: Scenario) -> Iterator[tuple[Scenario, float]]:
        """Yield the scenario of every point, with its network factor.

        Raises
        ------
        SpecError
            If the cluster cannot have that size, or the job that length or batch, or the network
            that factor.
        """
        self.check()
        quantities = (self.gpus, self.global_batches, self.networks, self.seq_lens)
        for gpus, batch, network, length in product(*quantities):
            workload = replace(base.workload, seq_len=length, global_batch=batch)
            workload.check()
            raise_if_any(window_problems(base.architecture, length))
            cluster = base.cluster.take(gpus).scale_network(network)
            yield replace(base, cluster=cluster, workload=workload), network


def network_problems(factors: Sequence[float], field: str) -> list[Problem]:
    """Return what is wrong with factors on links."""
    return [Problem(field, each, FACTOR) for each in factors if not SLOWEST <= each <= FASTEST]


def network_factor(text: str, field: str) -> float:
    """Return a factor on links as users write it.

    Raises
    ------
    SpecError
        If it is no number, or none that a link can be faster or slower by.
    """
    try:
        factor = float(text)
    except ValueError:
        raise SpecError([Problem(field, text, FACTOR)]) from None
    raise_if_any(network_problems([factor], field))
    return factor


def ways_found(points: Sequence[SweepPoint]) -> list[str]:
    """Return the ways to cut the sequence of which some point has a plan."""
    return [name for name in METHODS if any(name in point.by_method for point in points)]


def run_sweep(
    base: Scenario,
    grid: Grid,
    bounds: Bounds,
    framework: str = "any",
    progress: Callable[[int], None] | None = None,
) -> list[SweepPoint]:
    """Search every point of a grid.

    Parameters
    ----------
    base
        Model, cluster and workload to vary.
    grid
        Points.
    bounds, framework
        As for a plan.
    progress
        Called after each point with the number of points done.

    Raises
    ------
    SpecError
        If no point has a legal layout.
    """
    points: list[SweepPoint] = []
    refused: list[Problem] = []
    for scenario, network in list(grid.scenarios(base)):
        point = _point(scenario, network, bounds, framework)
        points.append(point)
        if not point.legal and not refused:
            refused = why_nothing_is_legal(scenario, bounds, framework)
        if progress is not None:
            progress(len(points))
    if not any(point.legal for point in points):
        raise_if_any(refused)
    return points


def _point(scenario: Scenario, network: float, bounds: Bounds, framework: str) -> SweepPoint:
    by_method, legal = {}, 0
    for name, own in METHODS.items():
        narrowed = bounds.narrowed(own)
        if narrowed is None:
            continue
        found = search(scenario, Space(scenario.job, narrowed, framework))
        legal += found.counts.legal
        if len(found.best):
            by_method[name] = scenario.evaluate(found.best.take(slice(0, 1)))[0]
    return SweepPoint(
        seq_len=scenario.workload.seq_len,
        gpus=scenario.cluster.accelerators,
        global_batch=scenario.workload.global_batch,
        network=network,
        by_method=by_method,
        legal=legal,
    )
