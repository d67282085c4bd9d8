"""Which algorithm a library takes for how many bytes, tabulated by powers of two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies import nccl_tuning
from topologies.library import Algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.algorithms import Way
    from topologies.collective import Collective
    from topologies.group_links import GroupLinks

    Array = NDArray[np.floating[Any]]

#: Powers of two of bytes that are told apart: up to 2 PiB.
POWERS = 52


@dataclass(frozen=True, slots=True)
class Selection:
    """The way each group takes.

    Parameters
    ----------
    table
        Shape ``[powers, groups]``: which of several ways, for messages from that power of two of
        bytes up to the next.
    least_s
        Shape ``[powers, groups]``: the longest time of any smaller message. A library may choose
        badly and be faster at the next power, but nobody is served sooner for sending more.
    """

    table: NDArray[np.int8]
    least_s: Array

    @classmethod
    def of(
        cls,
        collective: Collective,
        links: GroupLinks,
        ways: Sequence[Way],
        lines: tuple[Array, Array, Array],
    ) -> Selection | None:
        """Return what a library chooses; ``None`` where there is nothing to choose.

        Parameters
        ----------
        collective, links
            What is done, and on what.
        ways
            What may be chosen; the first is able everywhere.
        lines
            ``a``, ``1 / B`` and ``c`` of each way, of shape ``[ways, groups]``.
        """
        if len(ways) == 1:
            return None
        if links.library.generation:
            table = _tuned(collective, links, ways)
        else:
            able = np.stack([way.able for way in ways])[:, None, :]
            taken = _seconds([part[:, None, :] for part in lines], _middles())
            table = np.where(able, taken, np.inf).argmin(axis=0).astype(np.int8)
        groups = np.arange(table.shape[1])
        ends = np.exp2(np.arange(POWERS)[:, None] + 1.0)
        taken = _seconds([part[table, groups] for part in lines], ends)
        longest = np.maximum.accumulate(taken, axis=0)
        return cls(table, np.concatenate([np.zeros((1, len(groups))), longest[:-1]]))

    def choose(
        self, nbytes: Array, group: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
        """Return way and group of some bytes, as indices into ``[ways, groups]``, and least times.

        Parameters
        ----------
        nbytes
            Bytes of each call.
        group
            Whose; by default one for each group, in order.
        """
        power = np.clip(np.frexp(nbytes)[1] - 1, 0, POWERS - 1)
        group = np.arange(self.table.shape[1]) if group is None else group
        return self.table[power, group].astype(np.intp), group, self.least_s[power, group]


def _seconds(lines: Sequence[Array], nbytes: Array) -> Array:
    start, per_byte, per_root = lines
    taken: Array = start + per_byte * nbytes + per_root * np.sqrt(nbytes)
    return taken


def _tuned(collective: Collective, links: GroupLinks, ways: Sequence[Way]) -> NDArray[np.int8]:
    """Return what NCCL's tuning tables choose; the first way where the links lack that."""
    node_Bps = np.where(links.scale_out, links.outside_Bps, 0.0)
    groups = np.stack([links.size, links.domains, links.inside_Bps, node_Bps]) * 1.0
    alike, place = np.unique(groups, axis=1, return_inverse=True)
    pcie = links.crossings[0].tier.fabric == "pcie"
    tuned = _tuned_for(links.library.generation, collective.value, alike.tobytes(), pcie=pcie)
    chosen = tuned[:, place.ravel()]
    places = {found.algorithm: at for at, found in enumerate(ways)}
    table = np.zeros(chosen.shape, dtype=np.int8)
    for number, name in enumerate(nccl_tuning.ALGORITHMS):
        at = places.get(Algorithm(name), 0)
        table[(chosen == number) & ways[at].able] = at
    return table


@lru_cache(maxsize=1024)
def _tuned_for(generation: str, collective: str, groups: bytes, *, pcie: bool) -> NDArray[np.int8]:
    """Return NCCL's choices, of shape ``[powers, groups]``; jobs on one machine share them.

    `groups` holds numbers of shape ``[4, groups]``: ranks, nodes, bytes/s inside and of a node.
    """
    ranks, nodes, inside_Bps, node_Bps = np.frombuffer(groups).reshape(4, -1)
    tuning = nccl_tuning.Tuning.of(
        nccl_tuning.Groups(
            ranks=ranks,
            nodes=nodes,
            generation=generation,
            inside_Bps=inside_Bps,
            node_Bps=node_Bps,
            pcie=pcie,
        ),
        collective,
    )
    chosen = tuning.choose(_middles()).astype(np.int8)
    chosen.flags.writeable = False
    return chosen


def _middles() -> Array:
    """Return the bytes in the middle of each power of two, of shape ``[powers, 1]``."""
    middles: Array = np.exp2(np.arange(POWERS)[:, None] + 0.5)
    return middles
