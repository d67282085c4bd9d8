"""Seconds of collectives: ``t = a + S / B + c sqrt(S)``.

``a`` is the start of the collective and its hops; ``S / B`` the bytes a rank must send at the rate
the fabric gives, and its own shard, which is copied; ``c sqrt(S)`` what cutting the message into
chunks to keep every link busy costs: ``min over k of (p - 1 + k) (alpha + S / (k B))`` leaves
``2 sqrt(chunk_s S / B)``, `chunk_s` being what a chunk waits for its neighbours.

Rings take ``n - 1`` hops a round, all-to-all ``log2 n`` (its sends go out at once), an all-reduce
over nodes doublings (:mod:`topologies.fabric`). Where a switch can reduce (NVLS), an all-reduce
takes the faster of the ring and of one trip of its bytes to the switch and back at the switch's
rate, as NCCL's tuning chooses. The figures are fitted to public sweeps of single nodes, racks and
two nodes (``meshwright topologies collectives`` prints the errors).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    least_s
        What it takes at least, whatever the size; ``None`` for nothing.
    switched
        The cost of the same in a switch, infinite where it cannot; ``None`` if none can. The
        faster way is taken.
    """

    start_s: Array
    per_byte_s: Array
    per_root_byte_s: Array
    least_s: Array | None = None
    switched: Cost | None = None

    def seconds(self, nbytes: Array) -> Array:
        """Return the time of one call; `nbytes` counts as :class:`Collective` says."""
        taken = self.start_s + self.per_byte_s * nbytes + self.per_root_byte_s * np.sqrt(nbytes)
        if self.least_s is not None:
            taken = np.maximum(taken, self.least_s)
        if self.switched is not None:
            taken = np.minimum(taken, self.switched.seconds(nbytes))
        return taken

    def take(self, index: NDArray[np.intp]) -> Cost:
        """Return the costs of some groups, in the order of `index`."""
        return Cost(
            self.start_s[index],
            self.per_byte_s[index],
            self.per_root_byte_s[index],
            None if self.least_s is None else self.least_s[index],
            None if self.switched is None else self.switched.take(index),
        )


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
    many = links.size > 1
    start = profile.collective_s.value + links.start_s
    if collective is Collective.SHIFT:
        return _masked(many, start + links.hop_latency_s, 1.0 / links.shift_Bps)
    rounds = 2.0 if collective is Collective.ALL_REDUCE else 1.0
    rate, hops_s = _way(collective, links)
    per_byte = rounds * sent_bytes(1.0, links.size) / rate
    per_byte = per_byte + profile.collective_copy.value / links.size / links.inside_Bps
    found = _masked(many, start + rounds * hops_s, per_byte, links.chunk_s)
    if collective is Collective.ALL_TO_ALL and links.peers_s.any():
        return replace(found, least_s=links.peers_s)
    if collective is Collective.ALL_REDUCE and links.switch_Bps.any():
        return replace(found, switched=_switched(start, links))
    return found


def steal(links: GroupLinks, profile: Profile) -> Array:
    """Return the share of the compute rate a collective takes while it hides behind compute."""
    far, near = profile.steal_scale_out.value, profile.steal_scale_up.value
    return np.where(links.scale_out, far, near)


def sent_bytes(nbytes: Array | float, size: Array) -> Array:
    """Return the bytes one rank sends in one round of a ring, or to all peers: ``(n-1)/n S``."""
    return nbytes * (size - 1.0) / size


def _way(collective: Collective, links: GroupLinks) -> tuple[Array, Array]:
    """Return the rate of a collective and the seconds of one round's hops."""
    if collective is Collective.ALL_TO_ALL:
        return links.all_to_all_Bps, links.tree_latency_s
    if collective is Collective.ALL_REDUCE:
        return links.reduce_Bps, links.reduce_latency_s
    return links.ring_Bps, links.ring_latency_s


def _switched(start: Array, links: GroupLinks) -> Cost:
    able = links.switch_Bps > 0
    per_byte = 1.0 / np.where(able, links.switch_Bps, 1.0)
    found = _masked(able, start + links.switch_start_s, per_byte, links.chunk_s)
    return replace(found, start_s=np.where(able, found.start_s, np.inf))


def _masked(
    many: NDArray[np.bool_], start: Array, per_byte: Array, chunk_s: Array | float = 0.0
) -> Cost:
    """Return a cost, zero where there are not `many` ranks."""
    filling = 2.0 * np.sqrt(chunk_s * per_byte)
    return Cost(
        np.where(many, start, 0.0), np.where(many, per_byte, 0.0), np.where(many, filling, 0.0)
    )
