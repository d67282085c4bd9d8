"""How many channels NCCL gives a group, and how fast each is: a stand-in for its graph search.

NCCL tries rates of a fixed grid from the fastest on and keeps what carries most. Here a group gets
the pair (channels, rate of the grid) that carries most within its links, the one with most
channels where several do (:class:`topologies.nccl_tables.ChannelsSchema` says which pairs that
gives on known machines):

* one node: within what one rank's links carry;
* over nodes: within what all network cards of the group in a node carry together, whatever their
  number, so that one rank per node gets 8x6 of a card of 48 GB/s, and within what chains through
  the node's ranks carry;
* trees over nodes have the same channels, but inside the node the search makes them up to twice
  as fast, as far as the links and the grid go (two p4de nodes: 8x6 outside, 8x12 inside);
* NVLS has one channel per rank of a node, its head, which carries that channel twice: eight ranks
  carry nine channels' worth each. On H200 that makes NVLS the faster from 5 ranks on, as
  measured; on B200 from 7 on, where measurements say 6.

Where the slowest rate of the grid is too fast, one channel takes what there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.units import GB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from topologies.nccl_tables import Tables

    Array = NDArray[np.floating[Any]]

#: A rate of the grid fits where it is larger by no more than rounding.
_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of ranks on one kind of node; arrays over groups, which broadcast.

    Parameters
    ----------
    ranks, nodes
        Ranks of the group, and nodes (NVLink domains) they lie in, equally many in each.
    generation
        Of the accelerator: ``volta``, ``ampere``, ``hopper``, ``blackwell``.
    inside_Bps
        Usable bytes/s of one rank's links inside the node; infinite for one rank per node.
    node_Bps
        Usable bytes/s of all network cards of one group in a node; any for one node.
    pcie
        Whether ranks of a node talk over PCIe, not NVLink.
    cpu
        The node's processor: ``intel``, ``amd``, ``arm``.
    """

    ranks: Array
    nodes: Array
    generation: str
    inside_Bps: Array
    node_Bps: Array
    pcie: bool = False
    cpu: str = "intel"

    @property
    def shape(self) -> tuple[int, ...]:
        """The broadcast shape of all arrays."""
        arrays = (self.ranks, self.nodes, self.inside_Bps, self.node_Bps)
        return np.broadcast_shapes(*(np.shape(array) for array in arrays))

    @property
    def per_node(self) -> Array:
        """Ranks of a group in one node."""
        return self.ranks / self.nodes

    @property
    def through_Bps(self) -> Array:
        """Bytes/s at which chains can pass a node: its ranks have one link fewer than they are."""
        alone = self.per_node <= 1
        links = np.where(alone, 1.0, self.per_node - 1.0)
        return np.where(alone, np.inf, self.inside_Bps * (self.per_node / links))

    def whole(self) -> Groups:
        """Return the groups with all arrays of one shape."""
        ranks, nodes, inside_Bps, node_Bps = (
            np.broadcast_to(np.asarray(array, dtype=np.float64), self.shape)
            for array in (self.ranks, self.nodes, self.inside_Bps, self.node_Bps)
        )
        return replace(self, ranks=ranks, nodes=nodes, inside_Bps=inside_Bps, node_Bps=node_Bps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Channels of groups for one algorithm.

    Parameters
    ----------
    count
        How many.
    inside_GBps, between_GBps
        GB/s of each inside the node and between nodes.
    """

    count: Array
    inside_GBps: Array
    between_GBps: Array


def ring_channels(groups: Groups, tables: Tables) -> Channels:
    """Return the channels of rings."""
    grids, limits = tables.channel_GBps, tables.channels
    inside = _pair(grids.inside.of(groups.generation), limits.inside, groups.inside_Bps / GB)
    limit = np.minimum(groups.node_Bps, groups.through_Bps) / GB
    between = _pair(grids.between.of(groups.generation), limits.between, limit)
    count, rate = (
        np.where(groups.nodes > 1, far, near) for far, near in zip(between, inside, strict=True)
    )
    return Channels(count=count, inside_GBps=rate, between_GBps=rate)


def tree_channels(groups: Groups, tables: Tables) -> Channels:
    """Return the channels of trees."""
    ring = ring_channels(groups, tables)
    grid = np.sort(tables.channel_GBps.between.of(groups.generation))
    twice = ring.between_GBps * tables.channels.tree_inside
    wanted = np.searchsorted(grid, twice / _ROUNDING)
    wanted_GBps = grid[np.minimum(wanted, len(grid) - 1)]
    able = _rate(grid, np.minimum(wanted_GBps, groups.through_Bps / GB / ring.count))
    faster = np.where(groups.nodes > 1, np.maximum(able, ring.between_GBps), ring.inside_GBps)
    return Channels(count=ring.count, inside_GBps=faster, between_GBps=ring.between_GBps)


def nvls_channels(groups: Groups, tables: Tables) -> Channels:
    """Return the channels of NVLS and its trees."""
    grids = tables.channel_GBps
    count = np.clip(np.floor(groups.per_node), 1.0, tables.channels.nvls_most)
    inside_GBps = groups.inside_Bps / GB / (count + 1.0)
    between_GBps = groups.node_Bps / GB / count
    far = grids.between.of(groups.generation)
    alone = _rate(grids.inside.of(groups.generation), inside_GBps)
    inside = np.where(groups.nodes > 1, _rate(far, np.minimum(inside_GBps, between_GBps)), alone)
    return Channels(count=count, inside_GBps=inside, between_GBps=_rate(far, between_GBps))


def _pair(rates: Sequence[float], most: int, limit: Array) -> tuple[Array, Array]:
    """Return the number and rate of channels, at most `most`, that carry most within a `limit`."""
    count, rate = (part.ravel() for part in np.meshgrid(np.arange(1.0, most + 1), np.array(rates)))
    carried = np.round(count * rate, 9)
    order = np.lexsort((count, carried))
    found = np.searchsorted(carried[order], limit * _ROUNDING, side="right") - 1
    fits = found >= 0
    best = order[np.maximum(found, 0)]
    return np.where(fits, count[best], 1.0), np.where(fits, rate[best], limit)


def _rate(rates: Sequence[float] | Array, limit: Array) -> Array:
    """Return the fastest rate within a `limit`, or the limit where none is."""
    grid = np.sort(rates)
    found = np.searchsorted(grid, limit * _ROUNDING, side="right") - 1
    return np.where(found >= 0, grid[np.maximum(found, 0)], limit)
