"""What groups get from a cluster given as a graph: their flows routed over single links.

For each pattern the flows of *all* groups of an axis are routed at once (:mod:`topologies.routes`);
the fullest link of a level sets the rate there. Levels, and how many members of a group lie in one
block of each, come from the graph's quotient (:mod:`topologies.quotient`); where blocks or groups
are unlike, the poorest counts. Patterns:

* ring: as many rings as members in one fast domain, each leaving it through another member, and
  inside as a ring or, where it is faster, evenly to all members there;
* all-to-all: every rank an equal part to every other;
* shift: every rank to the next, round the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.ecmp import Ecmp
from topologies.group_links import Crossing
from topologies.quotient import quotient
from topologies.routes import Flows, Routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.cluster import Tier
    from topologies.graph import ClusterGraph

    Array = NDArray[np.floating[Any]]
    Ints = NDArray[np.int64]

#: Draws that the expectation over hashes is taken from.
DRAWS = 8


@dataclass(frozen=True, slots=True)
class _Met:
    """What one kind of group meets: arrays over levels."""

    below: Array
    inside: Array
    reached: Array
    ring_Bps: Array
    all_to_all_Bps: Array
    shift_Bps: Array


class RoutedGraph:
    """A graph, asked for by groups; answers are kept.

    Parameters
    ----------
    graph
        The cluster's links.
    tiers
        The levels of its quotient, with what their links have.
    ecmp, seed
        How flows meet on equal links.
    alone
        Whether one group works while the others rest.
    """

    def __init__(
        self,
        graph: ClusterGraph,
        tiers: Sequence[Tier],
        ecmp: Ecmp = Ecmp.PERFECT,
        seed: int = 0,
        *,
        alone: bool = False,
    ) -> None:
        self.tiers, self.ecmp, self.seed, self.alone = tuple(tiers), ecmp, seed, alone
        self.routes = Routes.of(graph)
        self.blocks = np.stack([level.block for level in quotient(graph)])
        links = self.routes.links
        self.level = np.array([link.level for link in links])
        self.usable_Bps = np.array([link.Bps * link.usable_fraction for link in links])
        self._known: dict[tuple[tuple[float, float], ...], _Met] = {}

    def crossings(self, axes: Sequence[tuple[Array, Array]]) -> tuple[Crossing, ...]:
        """Return what groups spanned by some axes meet on every level.

        Parameters
        ----------
        axes
            Pairs of arrays ``(size, stride)``.
        """
        flat = np.broadcast_arrays(*(part for axis in axes for part in axis))
        rows = np.stack([part.ravel() for part in flat], axis=1)
        alike, place = np.unique(rows, axis=0, return_inverse=True)
        met = [self._meet(tuple(zip(row[::2], row[1::2], strict=True))) for row in alike.tolist()]
        place = place.reshape(flat[0].shape)
        return tuple(self._crossing(at, met, place) for at in range(len(self.tiers)))

    def _crossing(self, level: int, met: Sequence[_Met], place: NDArray[np.intp]) -> Crossing:
        arrays = {
            name: np.array([getattr(one, name)[level] for one in met])[place]
            for name in _Met.__slots__
        }
        shape = arrays["below"].shape
        return Crossing(
            tier=self.tiers[level],
            torus_Bps=arrays["ring_Bps"],
            issue_s=np.zeros(shape),
            across=np.log2(np.maximum(arrays["inside"] / arrays["below"], 1.0)),
            taken=np.ones((1, *shape)),
            taken_shift=np.ones((1, *shape)),
            **arrays,
        )

    def _meet(self, axes: tuple[tuple[float, float], ...]) -> _Met:
        if axes not in self._known:
            used = tuple(axis for axis in axes if axis[0] > 1)
            groups = group_members(used, self.routes.accelerators)
            self._known[axes] = self._alone(groups) if self.alone else self._found(groups)
        return self._known[axes]

    def _alone(self, groups: Ints) -> _Met:
        """Return what the poorest group meets while the others rest."""
        met = [self._found(group[None]) for group in groups]
        arrays = ([getattr(one, name) for one in met] for name in _Met.__slots__)
        return _Met(*(np.min(values, axis=0) for values in arrays))

    def _found(self, groups: Ints) -> _Met:
        """Return what groups meet; `groups` has the shape ``[groups, members]``."""
        size = groups.shape[1]
        inside = np.array([_fewest(block[groups]) for block in self.blocks], dtype=np.float64)
        inside = np.maximum.accumulate(inside)
        below = np.concatenate([[1.0], inside[:-1]])
        if size == 1:
            alone = np.full(len(self.tiers), np.inf)
            return _Met(below, inside, inside, alone, alone, alone)
        near = np.array([not tier.scale_out for tier in self.tiers])
        parts = [int(part) for part in (inside / below)[near]]
        patterns = self._rings(groups, parts), self._spread(groups)
        ring = max((self._rate(flows) for flows in patterns), key=lambda rate: float(rate.min()))
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = np.where(near, inside[near].max(initial=1.0), size)
            passed = np.where(reached < size, 1.0 - below / reached, 1.0)
            used, felt = inside > below, reached > below
            ring = self._passing(ring, used)
            everywhere = self._passing(self._rate(_everywhere(groups)), used)
            return _Met(
                below=below,
                inside=inside,
                reached=reached,
                ring_Bps=np.where(felt, passed * ring, np.inf),
                all_to_all_Bps=np.where(felt, (reached - below) / size * everywhere, np.inf),
                shift_Bps=self._passing(self._rate(_next(groups, 1.0)), used),
            )

    def _passing(self, rate: Array, used: NDArray[np.bool_]) -> Array:
        """Return rates of levels, what flows pass on the way to an outer level counted there.

        A group with one member in each block of a level does not use that level, but its flows
        may pass it.
        """
        felt, inner = rate.copy(), np.inf
        for level, is_used in enumerate(used):
            inner = min(inner, rate[level])
            if is_used:
                felt[level], inner = inner, np.inf
        return felt

    def _domain(self) -> Ints:
        """Return the fast domain of every accelerator."""
        levels = zip(self.blocks, self.tiers, strict=True)
        inner = [block for block, tier in levels if not tier.scale_out]
        return inner[-1] if inner else np.arange(self.routes.accelerators)

    def _rings(self, groups: Ints, parts: Sequence[int]) -> Flows:
        """Return the flows of rings that leave each block through another member.

        A channel turns the members of every block inside the fast domain by its own digits, and
        goes round both ways.
        """
        ordered, channels = self._by_domain(groups)
        if prod(parts) != channels:  # irregular: blocks inside the domain are not told apart
            parts = (channels,)
        nested = ordered.reshape(*ordered.shape[:2], *reversed(parts))
        axes = tuple(range(2, nested.ndim))
        turns = product(*(range(part) for part in reversed(parts)))
        turned = [np.roll(nested, [-by for by in turn], axes) for turn in turns]
        rings = [_next(order.reshape(groups.shape), 0.5 / channels) for order in turned]
        return _joined([*rings, *(Flows(ring.target, ring.source, ring.weight) for ring in rings)])

    def _spread(self, groups: Ints) -> Flows:
        """Return the same with every member sending evenly to the others of its domain."""
        ordered, channels = self._by_domain(groups)
        many, domains, members = ordered.shape
        near = _everywhere(ordered.reshape(many * domains, members))
        # A ring that goes on has a turn in `members` elsewhere.
        weight = 1.0 if domains > 1 else members / max(members - 1, 1)
        flows = [near._replace(weight=near.weight * weight)] if members > 1 else []
        if domains > 1:
            over = np.swapaxes(ordered, 1, 2).reshape(many * members, domains)
            flows.append(_next(over, 1.0 / channels))
        return _joined(flows)

    def _by_domain(self, groups: Ints) -> tuple[Ints, int]:
        """Return the groups cut by fast domains, ``[groups, domains, members]``, and the members.

        Where domains hold unlike numbers, the cut is at their greatest common divisor.
        """
        domain = self._domain()[groups]
        order = np.argsort(domain, axis=1, kind="stable")
        ordered = np.take_along_axis(groups, order, axis=1)
        members = _common(domain)
        return ordered.reshape(len(groups), -1, members), members

    def _rate(self, flows: Flows) -> Array:
        """Return what of a unit flow passes each level in a second, on its fullest link."""
        seeds: list[int | None] = [None]
        if self.ecmp is not Ecmp.PERFECT:
            seeds = [self.seed] if self.ecmp is Ecmp.SEEDED else [*range(DRAWS)]
        busy = np.mean([self._busy_s(self.routes.loads(flows, seed)) for seed in seeds], axis=0)
        with np.errstate(divide="ignore"):
            rate: Array = 1.0 / busy
        return rate

    def _busy_s(self, loads: Array) -> Array:
        """Return the seconds per byte of the fullest link of each level."""
        found = np.zeros(len(self.tiers))
        np.maximum.at(found, self.level, loads / self.usable_Bps)
        return found


def group_members(axes: Sequence[tuple[float, float]], accelerators: int) -> Ints:
    """Return the members of every group that some axes span: shape ``[groups, members]``.

    Parameters
    ----------
    axes
        Pairs ``(size, stride)``.
    accelerators
        Of the cluster. Groups tile the largest whole multiple of their extent; where that is more
        than there are, they are those that fit.

    Examples
    --------
    >>> group_members([(2, 2)], 8).tolist()
    [[0, 2], [1, 3], [4, 6], [5, 7]]
    """
    offsets = np.zeros(1, dtype=np.int64)
    for size, stride in axes:
        steps = np.arange(int(size), dtype=np.int64) * int(stride)
        offsets = (steps[:, None] + offsets[None, :]).ravel()
    extent = min(int(max((size * stride for size, stride in axes), default=1)), accelerators)
    taken = np.zeros(extent, dtype=np.bool_)
    firsts = []
    for rank in range(extent):
        if not taken[rank] and rank + offsets.max() < extent:
            firsts.append(rank)
            taken[rank + offsets] = True
    bases = np.arange(0, accelerators // extent * extent, extent)
    starts = (bases[:, None] + np.array(firsts)[None, :]).ravel()
    found: Ints = starts[:, None] + np.sort(offsets)[None, :]
    return found


def _fewest(block: Ints) -> int:
    """Return the fewest members that a group has in a block it is in, for all groups."""
    return min(int(np.unique(row, return_counts=True)[1].min()) for row in np.unique(block, axis=0))


def _common(domain: Ints) -> int:
    """Return the greatest common divisor of members in a domain."""
    counts = [np.unique(row, return_counts=True)[1] for row in np.unique(domain, axis=0)]
    return int(np.gcd.reduce(np.concatenate(counts)))


def _next(groups: Ints, weight: float) -> Flows:
    target = np.roll(groups, -1, axis=1)
    return Flows(groups.ravel(), target.ravel(), np.full(groups.size, weight))


def _everywhere(groups: Ints) -> Flows:
    """Return the flows of every member to every other, one unit from each in all."""
    size = groups.shape[1]
    source = np.repeat(groups, size, axis=1).ravel()
    target = np.tile(groups, (1, size)).ravel()
    other = source != target
    weight = np.full(int(other.sum()), 1.0 / size)
    return Flows(source[other], target[other], weight)


def _joined(flows: Sequence[Flows]) -> Flows:
    return Flows(*(np.concatenate(parts) for parts in zip(*flows, strict=True)))
