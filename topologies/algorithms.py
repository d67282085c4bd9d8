"""How collectives move their bytes: seconds of hops, and seconds per byte on every level of links.

With ``n`` ranks, ``g`` of them inside a block below a level and ``k`` inside the level's own block,
one round of a collective of ``S`` bytes (an all-reduce has two: reduce, then give back) takes

=================  =====================================  ========================================
algorithm          on a level with rings of ``B``         hops
=================  =====================================  ========================================
ring, torus        ``(n - 1) / n S / B``; a level that    ``n / g - n / k`` in turn
                   it only passes
                   ``(1 - g / m)`` of that
tree               inside ``S / B``, out                  a chain inside, doublings outside
                   ``(1 - g / k) S / B``
halving_doubling   ``(1 - g / k) S / B``, levels in turn  doublings
hierarchical       ``(1 - g / k) S / B``, levels in turn  a ring of blocks on each level
nvls               ``S / (2 B_switch)``                   one trip to the switch
nvls_tree          the switch inside, a tree outside      doublings outside
pairwise           ``(m - g) / n S / B_rank``             doublings (sends go out at once)
=================  =====================================  ========================================

``m`` are the members that a rank's bytes reach through a level: all ``n`` outside the fast domain,
those of the domain over switches inside of it, the block's own over direct links. Where levels work
at once the slowest sets the rate; in turn, they add up. A ring that leaves the fast domain runs in
step with the network cards: its hops inside take at least `relay_s`. Sources: Thakur et al.,
"Optimization of Collective Communication Operations in MPICH", 2005 (rings, halving and doubling);
NVIDIA/nccl@5067397c src/graph/tuning.cc (trees over chains, NVLS); the rates are those of
:class:`~topologies.group_links.Crossing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.collective import Collective
from topologies.library import Algorithm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from topologies.group_links import Crossing, GroupLinks

    Array = NDArray[np.floating[Any]]

#: NCCL reduces in the switch for more ranks than this: on H200 nodes it takes rings for up to 4
#: GPUs and NVLS from 5 on, on B200 from 6 (sweeps in stas00/ml-engineering@744d01e network/README).
LARGEST_RING_ONLY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One collective by one algorithm; arrays over groups.

    Parameters
    ----------
    algorithm
        How.
    hops_s
        Seconds of its hops, and of starting it beyond what the levels take.
    levels_s
        Shape ``[levels, groups]``: seconds per byte that each level is busy.
    per_byte_s
        Seconds per byte of the whole.
    able
        Which groups can use it; a group of one needs none.
    """

    algorithm: Algorithm
    hops_s: Array
    levels_s: Array
    per_byte_s: Array
    able: NDArray[np.bool_]


def ways(collective: Collective, links: GroupLinks) -> list[Way]:
    """Return every algorithm that is known for a collective, whatever the library has."""
    return [way(collective, algorithm, links) for algorithm in ALGORITHMS[collective]]


def way(collective: Collective, algorithm: Algorithm, links: GroupLinks) -> Way:
    """Return what one algorithm costs.

    Raises
    ------
    KeyError
        If the algorithm does not do that collective.
    """
    if algorithm not in ALGORITHMS[collective]:
        raise KeyError(algorithm)
    rounds = 2.0 if collective is Collective.ALL_REDUCE else 1.0
    found = _BUILDERS[algorithm](collective, links)
    return Way(
        algorithm=algorithm,
        hops_s=rounds * found.hops_s,
        levels_s=rounds * found.levels_s,
        per_byte_s=rounds * found.per_byte_s,
        able=found.able,
    )


def _way(
    algorithm: Algorithm,
    links: GroupLinks,
    busy: Callable[[Crossing], Array],
    hops: Callable[[Crossing], Array],
    hop_s: Callable[[Crossing], Array | float] = lambda c: c.tier.latency_s.value,
    *,
    in_turn: bool = False,
) -> Way:
    """Return a way whose levels are busy and wait as functions say."""
    levels = np.stack([crossing.where_passed(busy(crossing)) for crossing in links.crossings])
    waits = [c.where_used(hops(c) * hop_s(c)) for c in links.crossings]
    return Way(
        algorithm=algorithm,
        hops_s=np.sum(waits, axis=0),
        levels_s=levels,
        per_byte_s=levels.sum(axis=0) if in_turn else levels.max(axis=0),
        able=np.ones(links.size.shape, dtype=np.bool_),
    )


def _ring(collective: Collective, links: GroupLinks) -> Way:
    share, relay_s = _ring_share(collective, links), links.relay_s
    return _way(
        Algorithm.RING,
        links,
        lambda c: share * _crossed(links, c) / c.ring_Bps,
        lambda c: links.size / c.below - links.size / c.inside,
        lambda c: (
            c.tier.latency_s.value
            if c.tier.scale_out
            else np.maximum(c.tier.latency_s.value, relay_s)
        ),
    )


def _torus(collective: Collective, links: GroupLinks) -> Way:
    share = _ring_share(collective, links)
    return _way(
        Algorithm.TORUS,
        links,
        lambda c: share * _crossed(links, c) / c.torus_Bps,
        lambda c: (
            c.across if c.tier.fabric == "torus" else links.size / c.below - links.size / c.inside
        ),
    )


def _crossed(links: GroupLinks, crossing: Crossing) -> Array:
    """Return the share of a ring's turns at which it crosses a level it passes through."""
    return np.where(crossing.reached < links.size, _beyond(crossing), 1.0)


def _beyond(crossing: Crossing) -> Array:
    """Return the share of a reduced tensor that passes a level: ``1 - g / m``."""
    return 1.0 - crossing.below / crossing.reached


def _ring_share(collective: Collective, links: GroupLinks) -> Array | float:
    """Return the share of the bytes that one rank sends on: all of a broadcast."""
    if collective is Collective.BROADCAST:
        return 1.0
    return (links.size - 1.0) / links.size


def _tree(collective: Collective, links: GroupLinks) -> Way:
    # Two trees share a reduction, each root sending half; a broadcast's one root sends all.
    halved = collective is not Collective.BROADCAST
    return _way(
        Algorithm.TREE,
        links,
        lambda c: (_beyond(c) if c.tier.scale_out and halved else 1.0) / c.ring_Bps,
        lambda c: c.doublings if c.tier.scale_out else c.inside - c.below,
    )


def _up_to(links: GroupLinks, rate: Callable[[Crossing], Array]) -> dict[int, Array]:
    """Return the seconds a byte needs at each level, by the slowest link up to it.

    A step of an outer level passes the inner ones too, unless they join their own members only.
    """
    found: dict[int, Array] = {}
    slowest = np.zeros_like(links.size)
    outside = False
    for crossing in links.crossings:
        if crossing.tier.scale_out and not outside:
            slowest, outside = np.zeros_like(links.size), True
        here = np.maximum(slowest, crossing.where_passed(1.0 / rate(crossing)))
        found[id(crossing)] = here
        slowest = np.where(crossing.reached > crossing.inside, here, slowest)
    return found


def _halving_doubling(_: Collective, links: GroupLinks) -> Way:
    per_byte = _up_to(links, lambda c: c.ring_Bps)
    return _way(
        Algorithm.HALVING_DOUBLING,
        links,
        lambda c: c.leaving * per_byte[id(c)],
        lambda c: c.doublings,
        in_turn=True,
    )


def _hierarchical(collective: Collective, links: GroupLinks) -> Way:
    if collective is Collective.ALL_TO_ALL:  # every byte goes first to its place in the block
        exchanged = _up_to(links, lambda c: c.all_to_all_Bps)
        return _way(
            Algorithm.HIERARCHICAL,
            links,
            lambda c: c.leaving * exchanged[id(c)],
            lambda c: c.doublings,
            in_turn=True,
        )
    reduced = _up_to(links, lambda c: c.torus_Bps)
    return _way(
        Algorithm.HIERARCHICAL,
        links,
        lambda c: c.leaving * reduced[id(c)],
        lambda c: c.across if c.tier.fabric == "torus" else c.inside / c.below - 1.0,
        in_turn=True,
    )


def _nvls(_: Collective, links: GroupLinks) -> Way:
    return _switched(Algorithm.NVLS, links)


def _nvls_tree(_: Collective, links: GroupLinks) -> Way:
    return _switched(Algorithm.NVLS_TREE, links)


def _switched(algorithm: Algorithm, links: GroupLinks) -> Way:
    """Reduce in the switch inside the domain, and over a tree outside of it.

    Rates are halved and the start counted half, as an all-reduce has two rounds.
    """
    reducing = _reducing_level(links)
    able = np.zeros(links.size.shape, dtype=np.bool_)
    start = np.zeros_like(links.size)
    busy: dict[int, Array | float] = {}
    if reducing is not None:
        tier = reducing.tier
        rate = tier.Bps.value * (tier.nvls_fraction.value if tier.nvls_fraction else 0.0)
        busy[id(reducing)] = 0.5 / rate
        start = np.full_like(start, 0.5 * (tier.nvls_start_s.value if tier.nvls_start_s else 0.0))
        able = (reducing.below == 1) & (reducing.inside > LARGEST_RING_ONLY)
        able &= reducing.inside * links.domains == links.size
        able &= links.scale_out == (algorithm is Algorithm.NVLS_TREE)
    found = _way(
        algorithm,
        links,
        lambda c: (
            _beyond(c) / c.ring_Bps if c.tier.scale_out else busy.get(id(c), 0.0) + 0.0 * c.below
        ),
        lambda c: c.doublings if c.tier.scale_out else np.zeros_like(c.below),
    )
    return Way(
        algorithm=algorithm,
        hops_s=found.hops_s + start,
        levels_s=found.levels_s,
        per_byte_s=found.per_byte_s,
        able=able,
    )


def _reducing_level(links: GroupLinks) -> Crossing | None:
    able = (c for c in links.crossings if c.tier.nvls_fraction and c.tier.nvls_start_s)
    return next(able, None)


def _pairwise(_: Collective, links: GroupLinks) -> Way:
    return _way(
        Algorithm.PAIRWISE,
        links,
        lambda c: (
            (c.reached - (1.0 if c.tier.staged else c.below)) / (links.size * c.all_to_all_Bps)
        ),
        lambda c: c.doublings,
    )


def _direct(_: Collective, links: GroupLinks) -> Way:
    found = _way(
        Algorithm.DIRECT, links, lambda c: 1.0 / c.send_Bps, lambda c: np.zeros_like(c.below)
    )
    return Way(
        algorithm=Algorithm.DIRECT,
        hops_s=links.hop_latency_s,
        levels_s=found.levels_s,
        per_byte_s=found.per_byte_s,
        able=found.able,
    )


_BUILDERS: dict[Algorithm, Callable[[Collective, GroupLinks], Way]] = {
    Algorithm.RING: _ring,
    Algorithm.TORUS: _torus,
    Algorithm.TREE: _tree,
    Algorithm.HALVING_DOUBLING: _halving_doubling,
    Algorithm.HIERARCHICAL: _hierarchical,
    Algorithm.NVLS: _nvls,
    Algorithm.NVLS_TREE: _nvls_tree,
    Algorithm.PAIRWISE: _pairwise,
    Algorithm.DIRECT: _direct,
}
_SCATTERING = (
    Algorithm.RING,
    Algorithm.TORUS,
    Algorithm.HALVING_DOUBLING,
    Algorithm.HIERARCHICAL,
)
#: What each collective can be done by.
ALGORITHMS: dict[Collective, tuple[Algorithm, ...]] = {
    Collective.ALL_GATHER: _SCATTERING,
    Collective.REDUCE_SCATTER: _SCATTERING,
    Collective.ALL_REDUCE: (
        *_SCATTERING,
        Algorithm.TREE,
        Algorithm.NVLS,
        Algorithm.NVLS_TREE,
    ),
    Collective.BROADCAST: (Algorithm.RING, Algorithm.TORUS, Algorithm.TREE),
    Collective.ALL_TO_ALL: (Algorithm.PAIRWISE, Algorithm.HIERARCHICAL),
    Collective.SHIFT: (Algorithm.DIRECT,),
}
