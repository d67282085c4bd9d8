"""Flows hashed onto equal links: how much slower the fullest link makes them.

Equal-cost routing (ECMP) puts each flow on one of several equal links by a hash. With ``m`` flows
on ``u`` links the fullest carries more than ``m / u``, and who waits for all flows waits for it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

#: More flows than this on one set of links are as good as evenly spread: the excess of the fullest
#: link falls with the root of the flows.
MANY_FLOWS = 1_000_000


class Ecmp(StrEnum):
    """How flows meet on equal links."""

    #: Adaptive routing or packet spraying: every link carries the same.
    PERFECT = "perfect"
    #: Hashing: the expectation over all hashes of the fullest link.
    EXPECTED = "expected"
    #: Hashing with one seeded draw.
    SEEDED = "seeded"


def slowdown(flows: Array, links: int, mode: Ecmp, seed: int = 0) -> Array:
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
        _expected(int(count), links) if expected else _drawn(int(count), links, seed)
        for count in counts
    ]
    found = np.array(fullest) * links / counts
    slower: Array = found[place].reshape(np.shape(flows))
    return slower


@cache
def _expected(flows: int, links: int) -> float:
    """Return the expected flows on the fullest link: ``sum over k of P(fullest > k)``.

    Each link holds Binomial(flows, 1 / links). Taken as independent they miss that one has what
    the others have not, which widens the excess over the mean by ``sqrt(u / (u - 1))`` (normal
    variables with a fixed sum). Two links are counted exactly.
    """
    from scipy.stats import binom

    loads = np.arange(flows + 1)
    if links == 2:
        fuller = np.maximum(loads, flows - loads)
        return float((binom.pmf(loads, flows, 0.5) * fuller).sum())
    mean = flows / links
    apart = float((1.0 - binom.cdf(loads, flows, 1.0 / links) ** links).sum())
    return max(mean + (apart - mean) * float(np.sqrt(links / (links - 1.0))), 1.0)


def _drawn(flows: int, links: int, seed: int) -> float:
    """Return the flows on the fullest link of one draw; the same case is drawn alike."""
    random = np.random.default_rng((seed, flows, links))
    return float(random.multinomial(flows, np.full(links, 1.0 / links)).max())
