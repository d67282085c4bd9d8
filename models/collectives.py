"""Seconds of collectives: ``t = a + S / B + c sqrt(S)``.

``a`` is the start of the collective and its hops; ``S / B`` what the slowest level of links needs
for the bytes (:mod:`topologies.algorithms`), and a rank's own shard, which is copied; ``c sqrt(S)``
what cutting the message into chunks to keep every link busy costs: ``min over k of
(p - 1 + k) (alpha + S / (k B))`` leaves ``2 sqrt(chunk_s S / B)``, `chunk_s` being what a chunk
waits for its neighbours.

Where the library has several algorithms NCCL's own tuning tables choose
(:mod:`topologies.nccl_tuning`), as NCCL does, for each power of two of bytes; other libraries are
taken to choose the fastest. The figures are fitted to public sweeps of single nodes, racks and two
nodes (``meshwright topologies collectives`` prints the errors). A profile may say how many times as
long a collective takes on the machine it was measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.algorithms import way
from topologies.collective import Collective
from topologies.library import Algorithm
from topologies.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.layout import Array
    from models.profile import CollectiveRatio, Profile
    from topologies.algorithms import Way
    from topologies.group_links import GroupLinks

#: Algorithms in which a rank copies its own shard beside what it sends.
_COPYING = (
    Algorithm.RING,
    Algorithm.TORUS,
    Algorithm.TREE,
    Algorithm.HALVING_DOUBLING,
    Algorithm.HIERARCHICAL,
    Algorithm.PAIRWISE,
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a collective costs on some groups; zero for groups of one.

    Parameters
    ----------
    algorithms
        The ways there are.
    start_s
        Shape ``[ways, groups]``. ``a``: seconds whatever the size.
    per_byte_s
        ``1 / B`` times the bytes sent per byte of `nbytes`.
    per_root_byte_s
        ``c``.
    least_s
        What it takes at least, whatever the size; ``None`` for nothing.
    selection
        Which way is taken for how many bytes; ``None`` for the only one.
    """

    algorithms: tuple[Algorithm, ...]
    start_s: Array
    per_byte_s: Array
    per_root_byte_s: Array
    least_s: Array | None = None
    selection: Selection | None = None

    def seconds(self, nbytes: Array, group: NDArray[np.intp] | None = None) -> Array:
        """Return the time of one call.

        Parameters
        ----------
        nbytes
            Counted as :class:`~topologies.collective.Collective` says.
        group
            The group of each entry of `nbytes`; by default one for each group, in order.
        """
        which, whose, least_s = self._chosen(nbytes, group)
        taken: Array = self.start_s[which, whose] + self.per_byte_s[which, whose] * nbytes
        taken = taken + self.per_root_byte_s[which, whose] * np.sqrt(nbytes)
        if self.least_s is not None:
            taken = np.maximum(taken, self.least_s[whose])
        return taken if least_s is None else np.maximum(taken, least_s)

    def chosen(self, nbytes: Array) -> list[Algorithm]:
        """Return the algorithm of each group's call."""
        which = np.broadcast_to(self._chosen(nbytes, None)[0], np.shape(nbytes))
        return [self.algorithms[way] for way in which]

    def _chosen(
        self, nbytes: Array, group: NDArray[np.intp] | None
    ) -> tuple[Any, Any, Array | None]:
        """Return way and group of each call, and the time of any smaller message."""
        if self.selection is None:
            return 0, slice(None) if group is None else group, None
        return self.selection.choose(nbytes, group)


def cost(collective: Collective, links: GroupLinks, profile: Profile) -> Cost:
    """Return what a collective costs on groups with given links.

    Parameters
    ----------
    collective
        What the group does.
    links
        What the groups get.
    profile
        Parameters of the framework's start-up and of local copies.
    """
    ways = [way(collective, algorithm, links) for algorithm in links.library.may(collective)]
    ways = [found for found in ways if found.able.any()]
    lines = [_line(found, collective, links, profile) for found in ways]
    start, per_byte, per_root = (np.stack(part) for part in zip(*lines, strict=True))
    pairwise = ways[0].algorithm is Algorithm.PAIRWISE
    least = _least_s(collective, links, profile) if pairwise else None
    return Cost(
        tuple(found.algorithm for found in ways),
        start,
        per_byte,
        per_root,
        least if least is not None and least.any() else None,
        Selection.of(collective, links, ways, (start, per_byte, per_root)),
    )


def seconds_by(
    algorithm: Algorithm,
    collective: Collective,
    links: GroupLinks,
    profile: Profile,
    nbytes: float,
) -> Array:
    """Return the time of a collective by one algorithm, whether or not the library takes it.

    Parameters
    ----------
    algorithm, collective
        How, and what the groups do.
    links
        What the groups get.
    profile
        Parameters of the framework's start-up and of local copies.
    nbytes
        Counted as :class:`~topologies.collective.Collective` says.
    """
    start, per_byte, per_root = _line(way(collective, algorithm, links), collective, links, profile)
    taken: Array = start + per_byte * nbytes + per_root * np.sqrt(nbytes)
    if algorithm is Algorithm.PAIRWISE:
        return np.maximum(taken, _least_s(collective, links, profile))
    return taken


def steal(links: GroupLinks, profile: Profile, *, states: bool = False) -> Array:
    """Return the share of the compute rate a collective takes while it hides behind compute.

    `states` says that it gathers parameters or reduces gradients.
    """
    far = profile.steal_data_parallel if states else profile.steal_scale_out
    return np.where(links.scale_out, far.value, profile.steal_scale_up.value)


def _line(
    found: Way, collective: Collective, links: GroupLinks, profile: Profile
) -> tuple[Array, Array, Array]:
    """Return a, 1 / B and c of one way as the profile scales them, zero where there is one rank."""
    many = links.size > 1
    start = profile.collective_s.value + links.start_s + found.hops_s
    per_byte = found.per_byte_s
    if found.algorithm in _COPYING:
        per_byte = per_byte + profile.collective_copy.value / links.size / links.inside_Bps
    chunk_s = 0.0 if collective is Collective.SHIFT else links.chunk_s
    filling = 2.0 * np.sqrt(chunk_s * per_byte)
    zeros = np.zeros_like(links.size)
    parts = (
        np.where(many, start, zeros),
        np.where(many, per_byte, zeros),
        np.where(many, filling, zeros),
    )
    for mine, ratio in _measured(collective, links, profile):
        figures = (ratio.start, ratio.per_byte, ratio.per_root_byte)
        start, per_byte, filling = (
            np.where(mine, part * figure.value, part)
            for part, figure in zip(parts, figures, strict=True)
        )
        parts = start, per_byte, filling
    return parts


def _least_s(collective: Collective, links: GroupLinks, profile: Profile) -> Array:
    """Return the least seconds of an all-to-all as the profile scales them."""
    least = links.issue_s
    for mine, ratio in _measured(collective, links, profile):
        least = np.where(mine, least * ratio.start.value, least)
    return least


def _measured(
    collective: Collective, links: GroupLinks, profile: Profile
) -> Iterator[tuple[NDArray[np.bool_], CollectiveRatio]]:
    """Yield the ratios of a collective, each with the groups it was measured for."""
    for ratio in profile.collectives:
        if ratio.collective is collective:
            yield links.scale_out == ratio.scale_out, ratio
