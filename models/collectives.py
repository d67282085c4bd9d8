"""Seconds of collectives: ``t = a + S / B + c sqrt(S)``.

``a`` is the start of the collective and one latency per doubling of the group; ``S / B`` the bytes
a rank must send at the rate the fabric gives; ``c sqrt(S)`` what cutting the message into chunks
to keep every link busy costs: ``min over k of (p - 1 + k) (alpha + S / (k B))`` leaves
``2 sqrt((p - 1) alpha S / B)``, of which the profile's `chunk_pipelining` share is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.operation import Collective

if TYPE_CHECKING:
    from models.layout import Array
    from models.profile import Profile
    from topologies.fabric import GroupLinks


def seconds(
    collective: Collective, nbytes: Array, links: GroupLinks, profile: Profile
) -> Array:
    """Return the time of one call; zero for groups of one.

    Parameters
    ----------
    collective
        What the group does.
    nbytes
        Bytes, counted as :class:`~models.operation.Collective` says.
    links
        What the group gets.
    profile
        Start-up and pipelining parameters.
    """
    if collective is Collective.SHIFT:
        time = profile.collective_s.value + links.hop_latency_s + nbytes / links.shift_Bps
        return np.where(links.size > 1, time, 0.0)
    rate = links.all_to_all_Bps if collective is Collective.ALL_TO_ALL else links.ring_Bps
    rounds = 2.0 if collective is Collective.ALL_REDUCE else 1.0
    sent = rounds * sent_bytes(nbytes, links.size)
    latency = profile.collective_s.value + rounds * links.tree_latency_s
    filling = 2.0 * np.sqrt(rounds * links.ring_latency_s * sent / rate)
    time = latency + sent / rate + profile.chunk_pipelining.value * filling
    return np.where(links.size > 1, time, 0.0)


def sent_bytes(nbytes: Array, size: Array) -> Array:
    """Return the bytes one rank sends in one round of a ring, or to all peers: ``(n-1)/n S``."""
    return nbytes * (size - 1.0) / size
