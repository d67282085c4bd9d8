"""Seconds of collectives: ``t = a + S / B + c sqrt(S)``.

``a`` is the start of the collective and one latency per doubling of the group; ``S / B`` the bytes
a rank must send at the rate the fabric gives; ``c sqrt(S)`` what cutting the message into chunks
to keep every link busy costs: ``min over k of (p - 1 + k) (alpha + S / (k B))`` leaves
``2 sqrt((p - 1) alpha S / B)``, of which the profile's `chunk_pipelining` share is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.operation import Collective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.layout import Array
    from models.profile import Profile
    from topologies.fabric import GroupLinks


@dataclass(frozen=True, slots=True)
class Cost:
    """What a collective costs on some groups; arrays over groups, zero for groups of one.

    Parameters
    ----------
    start_s
        ``a``: seconds whatever the size.
    per_byte_s
        ``1 / B`` times the bytes sent per byte of `nbytes`.
    per_root_byte_s
        ``c``.
    """

    start_s: Array
    per_byte_s: Array
    per_root_byte_s: Array

    def seconds(self, nbytes: Array) -> Array:
        """Return the time of one call; `nbytes` counts as :class:`Collective` says."""
        return self.start_s + self.per_byte_s * nbytes + self.per_root_byte_s * np.sqrt(nbytes)

    def take(self, index: NDArray[np.intp]) -> Cost:
        """Return the costs of some groups, in the order of `index`."""
        return Cost(self.start_s[index], self.per_byte_s[index], self.per_root_byte_s[index])


def cost(collective: Collective, links: GroupLinks, profile: Profile) -> Cost:
    """Return what a collective costs on groups with given links.

    Parameters
    ----------
    collective
        What the group does.
    links
        What the groups get.
    profile
        Start-up and pipelining parameters.
    """
    many = links.size > 1
    if collective is Collective.SHIFT:
        start = profile.collective_s.value + links.hop_latency_s
        return _masked(many, start, 1.0 / links.shift_Bps, np.zeros_like(start))
    rate = links.all_to_all_Bps if collective is Collective.ALL_TO_ALL else links.ring_Bps
    rounds = 2.0 if collective is Collective.ALL_REDUCE else 1.0
    per_byte = rounds * sent_bytes(1.0, links.size) / rate
    filling = 2.0 * np.sqrt(rounds * links.ring_latency_s * per_byte)
    start = profile.collective_s.value + rounds * links.tree_latency_s
    return _masked(many, start, per_byte, profile.chunk_pipelining.value * filling)


def sent_bytes(nbytes: Array | float, size: Array) -> Array:
    """Return the bytes one rank sends in one round of a ring, or to all peers: ``(n-1)/n S``."""
    return nbytes * (size - 1.0) / size


def _masked(many: NDArray[np.bool_], *parts: Array) -> Cost:
    return Cost(*(np.where(many, part, 0.0) for part in parts))
