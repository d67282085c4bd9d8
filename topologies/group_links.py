"""What groups of ranks meet on their way: one crossing per level of links.

All like groups of an axis work at once, so the rates of a crossing are a group's share of its level
while the others have theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from topologies.cluster import Tier
    from topologies.library import Library

    Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """One level of links, as groups meet it; arrays over groups.

    Parameters
    ----------
    tier
        The level: what its links have.
    below, inside
        Members of a group inside one block of the level below, and of this level. A group uses
        the level where it has more inside than below.
    reached
        Members that a rank's bytes reach through the level, those of its block below included: all
        outside the fast domain, those of the domain over switches inside of it, the block's own
        over direct links. Where there are more than below, bytes pass the level, if only for an
        outer one.
    ring_Bps
        Bytes/s that pass through the level along a ring of the group.
    torus_Bps
        The same with rings along all dimensions of a torus at once; `ring_Bps` elsewhere.
    all_to_all_Bps
        Bytes/s of one rank towards members beyond its block.
    shift_Bps
        Bytes/s that links carry from one member to the next, where that one is beyond the block.
    issue_s
        Least seconds of an all-to-all, to issue its sends at this level.
    across
        Hops from one end of the group's members to the other, all dimensions of a torus one by
        one; doublings elsewhere.
    taken, taken_shift
        Shape ``[classes, groups]``: what of each class of links of the level a ring or an
        all-to-all at its rate takes, and a shift. One class, all of it, except in meshes (links
        between members so far apart) and tori (the dimensions).
    """

    tier: Tier
    below: Array
    inside: Array
    reached: Array
    ring_Bps: Array
    torus_Bps: Array
    all_to_all_Bps: Array
    shift_Bps: Array
    issue_s: Array
    across: Array
    taken: Array
    taken_shift: Array

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which groups use the level."""
        return self.inside > self.below

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Which groups' bytes pass the level, whether they use it or an outer one."""
        return self.reached > self.below

    @property
    def send_Bps(self) -> Array:
        """Bytes/s that the library sends from one member to the next: `shift_Bps` or less."""
        if self.tier.send_fraction is None:
            return self.shift_Bps
        return np.minimum(self.shift_Bps, self.tier.Bps.value * self.tier.send_fraction.value)

    @property
    def taken_send(self) -> Array:
        """`taken_shift` of a send: less where the library sends slower than links carry."""
        kept = np.divide(
            self.send_Bps, self.shift_Bps, out=np.ones_like(self.shift_Bps), where=self.passed
        )
        taken: Array = self.taken_shift * kept
        return taken

    @property
    def leaving(self) -> Array:
        """Share of a reduced tensor that crosses: ``1 - below / inside``."""
        return 1.0 - self.below / np.maximum(self.inside, self.below)

    @property
    def doublings(self) -> Array:
        """Steps of a recursion by two inside the level."""
        return np.where(self.used, np.log2(self.inside / self.below), 0.0)

    def where_passed(self, value: Array | float, otherwise: float = 0.0) -> Array:
        """Return a value for the groups whose bytes pass the level."""
        return np.where(self.passed, value, otherwise)

    def where_used(self, value: Array | float, otherwise: float = 0.0) -> Array:
        """Return a value for the groups that use the level."""
        return np.where(self.used, value, otherwise)

    def take(self, index: NDArray[np.intp]) -> Crossing:
        """Return the crossing of some groups."""
        arrays = (name for name in self.__slots__ if name != "tier")
        return Crossing(
            tier=self.tier, **{name: getattr(self, name)[..., index] for name in arrays}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLinks:
    """What groups get from a cluster; arrays over groups.

    Parameters
    ----------
    size
        Ranks in each group.
    crossings
        Levels from the inside out.
    library
        Which algorithms the accelerators' collective library has.
    """

    size: Array
    crossings: tuple[Crossing, ...]
    library: Library

    def take(self, index: NDArray[np.intp]) -> GroupLinks:
        """Return the links of some groups, in the order of `index`."""
        return GroupLinks(
            size=self.size[index],
            crossings=tuple(crossing.take(index) for crossing in self.crossings),
            library=self.library,
        )

    @property
    def ring_Bps(self) -> Array:
        """Bytes/s along a ring; infinite for groups of one."""
        return self._least(lambda crossing: crossing.ring_Bps)

    @property
    def shift_Bps(self) -> Array:
        """Bytes/s to the next rank; infinite for groups of one."""
        return self._least(lambda crossing: crossing.send_Bps)

    @property
    def inside_Bps(self) -> Array:
        """Bytes/s of a ring inside the fast domain; infinite where there are no two ranks."""
        near = [crossing for crossing in self.crossings if not crossing.tier.scale_out]
        return _least(self.size, near, lambda crossing: crossing.ring_Bps)

    @property
    def outside_Bps(self) -> Array:
        """Bytes/s of a ring that leaves the fast domain; infinite where it does not."""
        far = [crossing for crossing in self.crossings if crossing.tier.scale_out]
        return _least(self.size, far, lambda crossing: crossing.ring_Bps)

    @property
    def scale_out(self) -> NDArray[np.bool_]:
        """Whether a group leaves the fast domain."""
        return self.domains > 1

    @property
    def domains(self) -> Array:
        """Fast domains that a group lies in."""
        near = [c.inside for c in self.crossings if not c.tier.scale_out]
        return self.size / reduce(np.maximum, near, np.ones_like(self.size))

    @property
    def start_s(self) -> Array:
        """Start of a collective: the longest of the levels used."""
        return self._most(lambda crossing: crossing.tier.start_s.value)

    @property
    def chunk_s(self) -> Array:
        """Wait of a chunk: the longest of the levels used."""
        return self._most(lambda crossing: crossing.tier.chunk_s.value)

    @property
    def hop_latency_s(self) -> Array:
        """Seconds of the slowest single hop."""
        return self._most(lambda crossing: crossing.tier.latency_s.value)

    @property
    def relay_s(self) -> Array:
        """Least seconds of a hop inside the domain on a ring that leaves it; zero on others."""
        relays = (c.tier.relay_s.value if c.tier.relay_s else 0.0 for c in self.crossings)
        passed = (c.where_passed(s) for c, s in zip(self.crossings, relays, strict=True))
        return reduce(np.maximum, passed, np.zeros_like(self.size))

    @property
    def issue_s(self) -> Array:
        """Least seconds of an all-to-all."""
        return self._most(lambda crossing: crossing.issue_s)

    def _least(self, value: Callable[[Crossing], Array]) -> Array:
        return _least(self.size, self.crossings, value)

    def _most(self, value: Callable[[Crossing], Array | float]) -> Array:
        found = (crossing.where_used(value(crossing)) for crossing in self.crossings)
        return reduce(np.maximum, found, np.zeros_like(self.size))


def _least(
    size: Array,
    crossings: tuple[Crossing, ...] | list[Crossing],
    value: Callable[[Crossing], Array],
) -> Array:
    found = (crossing.where_passed(value(crossing), np.inf) for crossing in crossings)
    return reduce(np.minimum, found, np.full_like(size, np.inf))
