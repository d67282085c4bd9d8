"""Flows hashed onto equal links: how much slower the fullest link makes them.

Equal-cost routing (ECMP) puts each flow on one of several equal links by a hash. With ``m`` flows
on ``u`` links the fullest carries more than ``m / u``, and who waits for all flows waits for it:
the fullest of all blocks, out and in.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.errors import Problem, raise_if_any, unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from topologies.cluster import Cluster

    Array = NDArray[np.floating[Any]]

#: More flows than this on one set of links are as good as evenly spread: the excess of the fullest
#: link falls with the root of the flows.
MANY_FLOWS = 1_000_000
#: Up to here the fullest link is counted exactly.
FEW_FLOWS = 256
#: Loads further from the mean than so many of its roots and flows have no probability to speak of.
FARTHEST_SPREADS, FARTHEST_FLOWS = 12.0, 40
LARGEST_SEED = 2**32 - 1


class Ecmp(StrEnum):
    """How flows meet on equal links."""

    #: Adaptive routing or packet spraying: every link carries the same.
    PERFECT = "perfect"
    #: Hashing: the expectation over all hashes of the fullest link.
    EXPECTED = "expected"
    #: Hashing with one seeded draw.
    SEEDED = "seeded"


def parse_ecmp(name: str, seed: int = 0, *, seed_field: str = "--ecmp-seed") -> Ecmp:
    """Return how flows meet, by its name.

    Parameters
    ----------
    name
        ``perfect``, ``expected`` or ``seeded``.
    seed
        Of the draw: only ``seeded`` takes another than 0.
    seed_field
        What the seed is called in a message.

    Raises
    ------
    SpecError
        With what is wrong with either.
    """
    modes = [str(mode) for mode in Ecmp]
    problems = []
    if name not in modes:
        problems.append(unknown_name("--ecmp", str(name), modes, "no such routing"))
    if isinstance(seed, bool) or not isinstance(seed, int):
        problems.append(Problem(seed_field, seed, "a whole number"))
    elif not 0 <= seed <= LARGEST_SEED:
        problems.append(Problem(seed_field, seed, f"from 0 to {LARGEST_SEED}"))
    elif seed and name in (Ecmp.PERFECT, Ecmp.EXPECTED):
        problems.append(Problem(seed_field, seed, "nothing is drawn: it belongs to --ecmp seeded"))
    raise_if_any(problems)
    return Ecmp(name)


def has_equal_links(cluster: Cluster) -> bool:
    """Return whether flows have several equal links to take, so that it matters how they meet.

    >>> from topologies import load_cluster
    >>> has_equal_links(load_cluster("h100-dgx:32"))
    False
    """
    if cluster.graph is not None:
        return True
    above = (tier for tier in cluster.tiers if tier.fabric in ("spine", "dragonfly"))
    return any(tier.paths > 1 or tier.fabric == "dragonfly" for tier in above)


def slowdown(flows: Array, links: int, mode: Ecmp, seed: int = 0, sets: int = 1) -> Array:
    """Return the fullest link's load over the mean load, at least 1.

    Parameters
    ----------
    flows
        Equal flows that leave a block at the same time; an array.
    links
        Equal links they are hashed onto.
    mode
        How they meet.
    seed
        Of the draw, for :attr:`Ecmp.SEEDED`.
    sets
        How many blocks, and ways out of and into them, hash as many flows onto as many links: the
        fullest of all counts.

    Examples
    --------
    Two flows on two links: half of all hashes put both on one.

    >>> slowdown(np.array([2.0]), 2, Ecmp.EXPECTED)
    array([1.5])
    """
    if mode is Ecmp.PERFECT or links <= 1:
        return np.ones_like(flows)
    counts, place = np.unique(np.clip(np.rint(flows), 1, MANY_FLOWS), return_inverse=True)
    expected = mode is Ecmp.EXPECTED
    fullest = [
        _expected(int(count), links, sets) if expected else _drawn(int(count), links, seed, sets)
        for count in counts
    ]
    found = np.array(fullest) * links / counts
    slower: Array = found[place].reshape(np.shape(flows))
    return slower


@cache
def _expected(flows: int, links: int, sets: int) -> float:
    """Return the expected flows on the fullest link: ``sum over k of P(fullest > k)``."""
    if flows <= FEW_FLOWS:
        least = -(-flows // links)
        none_fuller = np.array([_none_fuller(k, flows, links) for k in range(least, flows)])
        return least + float((1.0 - none_fuller**sets).sum())
    return _expected_of_many(flows, links, sets)


def _none_fuller(most: int, flows: int, links: int) -> float:
    """Return the probability that no link has more than so many of the flows.

    Links that each had a Poisson number of flows would be independent; given that the numbers add
    up to `flows`, they are what hashing makes them.
    """
    from scipy.stats import poisson

    mean = flows / links
    one = poisson.pmf(np.arange(most + 1), mean)
    sums = np.ones(1)
    for bit in f"{links:b}":
        sums = np.convolve(sums, sums)[: flows + 1]
        if bit == "1":
            sums = np.convolve(sums, one)[: flows + 1]
    found = sums[flows] / poisson.pmf(flows, flows) if len(sums) > flows else 0.0
    return float(min(found, 1.0))


def _expected_of_many(flows: int, links: int, sets: int) -> float:
    """Return the same for many flows: each link holds Binomial(flows, 1 / links).

    Taken as independent they miss that one has what the others have not, which widens the excess
    over the mean by ``sqrt(u / (u - 1))`` (normal variables with a fixed sum).
    """
    from scipy.stats import binom

    mean = flows / links
    apart_most = FARTHEST_SPREADS * float(np.sqrt(mean)) + FARTHEST_FLOWS
    low = max(int(mean - apart_most), 0)
    loads = np.arange(low, min(int(mean + apart_most), flows) + 1)
    below = binom.cdf(loads, flows, 1.0 / links)
    apart = low + float((1.0 - below ** (links * sets)).sum())
    return mean + (apart - mean) * float(np.sqrt(links / (links - 1.0)))


def _drawn(flows: int, links: int, seed: int, sets: int) -> float:
    """Return the flows on the fullest link of one draw; the same case is drawn alike."""
    random = np.random.default_rng((seed, flows, links, sets))
    return float(random.multinomial(flows, np.full(links, 1.0 / links), size=sets).max())
