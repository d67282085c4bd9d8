"""What NCCL's tuning model says of each algorithm and protocol: a start and seconds per byte.

The formulas are those of NCCL 2.30.7 (NVIDIA/nccl@5067397c:src/graph/tuning.cc,
``ncclTopoTuneModel``), their constants those of ``data/nccl_tuning.yaml``. NCCL counts in us and
GB/s, and so does this file until a :class:`Line` is made. With N ranks on K nodes:

* a ring takes ``2 (N - 1)`` steps of an all-reduce, of which ``2 (K - 1)`` cross nodes, half as
  many of an all-gather or reduce-scatter, and N of a broadcast;
* a tree climbs and descends ``N / K - 1`` ranks in a node and ``log2 K`` nodes;
* NVLS reduces in the switch of one node; NVLS trees do so in every node, with a tree between.

A channel of up to two nodes runs at its rate inside, one of more nodes at its rate between them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from topologies.nccl_graph import nvls_channels, ring_channels, tree_channels
from topologies.units import GB, MICRO

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from topologies.nccl_graph import Array, Channels, Groups
    from topologies.nccl_tables import LinkSchema, Tables, Three

COLLECTIVES: tuple[str, ...] = ("all_reduce", "all_gather", "reduce_scatter", "broadcast")
ALL_REDUCE, *_, BROADCAST = COLLECTIVES
#: CollNet (switches of the network that reduce) and PAT (one rank per node) are left out.
ALGORITHMS: tuple[str, ...] = ("ring", "tree", "nvls", "nvls_tree")
PROTOCOLS: tuple[str, ...] = ("ll", "ll128", "simple")
LL, LL128, SIMPLE = range(len(PROTOCOLS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Time of one algorithm under one protocol, ``start_s + per_byte_s * nbytes``.

    Parameters
    ----------
    algorithm, protocol
        Positions in :data:`ALGORITHMS` and :data:`PROTOCOLS`.
    start_s
        Seconds whatever the size; infinite where NCCL does not use the pair.
    per_byte_s
        Seconds per byte.
    later
        Seconds added to the start, and the bytes from which on; ``None`` for nothing.
    corrected
        Whether :attr:`~topologies.nccl_tables.Tables.tree_correction` applies to the rate.
    """

    algorithm: int
    protocol: int
    start_s: Array
    per_byte_s: Array
    later: tuple[Array, Array] | None = None
    corrected: bool = False

    def take(self, index: NDArray[np.intp]) -> Line:
        """Return the line of some groups, in the order of `index`."""
        return Line(
            algorithm=self.algorithm,
            protocol=self.protocol,
            start_s=self.start_s[index],
            per_byte_s=self.per_byte_s[index],
            later=None if self.later is None else (self.later[0][index], self.later[1][index]),
            corrected=self.corrected,
        )


@dataclass(frozen=True, slots=True)
class Model:
    """NCCL's model of one collective on groups; arrays over groups.

    Parameters
    ----------
    groups
        Who takes part.
    tables
        The constants.
    collective
        One of :data:`COLLECTIVES`.
    """

    groups: Groups
    tables: Tables
    collective: str

    def lines(self) -> tuple[Line, ...]:
        """Return the lines of all pairs that some group may use."""
        found = [*self._ring(), *self._tree(), *self._nvls(), *self._nvls_tree()]
        return tuple(line for line in found if np.isfinite(line.start_s).any())

    def _ring(self) -> list[Line]:
        channels = ring_channels(self.groups, self.tables)
        bus, rates = self._bus(channels), self.tables.ring
        most128 = channels.count * self._by_nodes(self.tables.ring_ll128_GBps.of(self._generation))
        GBps = (
            np.minimum(rates.ll_share * bus, self._ll_max()),
            np.minimum(rates.ll128_share * bus, most128),
            bus,
        )
        lines = [
            self._line("ring", p, self._ring_us(p), GBps[p] * self._ring_share(), self._enabled(p))
            for p in (LL, LL128, SIMPLE)
        ]
        return [*lines[:SIMPLE], self._with_plateau(lines[SIMPLE], channels)]

    def _tree(self) -> list[Line]:
        channels = tree_channels(self.groups, self.tables)
        rates = self.tables.tree
        most = channels.count * self._by_nodes(self.tables.tree_GBps.of(self._generation))
        most128 = channels.count * self._by_nodes(self.tables.tree_ll128_GBps.of(self._generation))
        bus = np.minimum(rates.share * self._bus(channels), most)
        near, far = rates.ll128_kept_in_node, rates.ll128_kept_over_nodes
        kept = np.where(self.groups.nodes > 1, far[0] / far[1], near[0] / near[1])
        GBps = (
            np.minimum(bus / rates.ll_divisor, self._ll_max()),
            np.minimum(bus * kept, most128),
            bus,
        )
        share = rates.pattern_share * rates.all_reduce_share
        used = self.collective == ALL_REDUCE
        return [
            self._line("tree", p, self._tree_us(p), GBps[p] * share, used & self._enabled(p))
            for p in (LL, LL128, SIMPLE)
        ]

    def _nvls(self) -> list[Line]:
        channels = nvls_channels(self.groups, self.tables)
        GBps = channels.count * self._switch_GBps(channels) * self._ring_share()
        start_us = np.full_like(GBps, self._inside.nvls)
        able = self.collective != BROADCAST and not self.groups.pcie
        used = able & (self.groups.nodes == 1)
        return [self._line("nvls", SIMPLE, start_us, GBps, used)]

    def _nvls_tree(self) -> list[Line]:
        groups, channels = self.groups, nvls_channels(self.groups, self.tables)
        between = channels.between_GBps * np.where(groups.nodes <= 2, 2.0, 1.0)
        most = self._by_nodes(self.tables.nvls_tree_GBps.of(self._generation))
        channel = np.minimum(np.minimum(self._switch_GBps(channels), between), most)
        GBps = channels.count * channel * self._ring_share()
        climb_us = np.log2(groups.nodes) * self.tables.hw_us.net.nvls_tree
        used = np.full(groups.shape, self.collective == ALL_REDUCE and not groups.pcie)
        start_us = self._inside.nvls_tree + 2.0 * climb_us
        return [self._line("nvls_tree", SIMPLE, start_us, GBps, used)]

    def _line(
        self, algorithm: str, protocol: int, start_us: Array, GBps: Array, used: NDArray[np.bool_]
    ) -> Line:
        """Return a line; infinite where not `used`, zero for a ring of one rank."""
        groups, correction = self.groups, self.tables.tree_correction
        alone = groups.ranks <= 1
        used = used & (GBps > 0) & ~alone
        idle = np.where(alone & (algorithm == "ring"), 0.0, np.inf)
        per_byte = np.divide(1.0 / GB, GBps, out=np.zeros(used.shape), where=used)
        nvls_tree = groups.generation == correction.nvls_tree_generation
        nvls_tree = nvls_tree and groups.cpu in correction.nvls_tree_cpus
        return Line(
            algorithm=ALGORITHMS.index(algorithm),
            protocol=protocol,
            start_s=np.where(used, start_us * MICRO, idle),
            per_byte_s=per_byte,
            corrected=algorithm == "tree" or (algorithm == "nvls_tree" and nvls_tree),
        )

    def _with_plateau(self, ring: Line, channels: Channels) -> Line:
        """Return a ring that starts later with many bytes: all-reduce over nodes only."""
        groups, plateau = self.groups, self.tables.plateau
        if self.collective != ALL_REDUCE or not (groups.nodes > 1).any():
            return ring
        longer = np.where(groups.nodes > 1, plateau.of(self._generation) - 1.0, 0.0)
        later_s = np.where(np.isfinite(ring.start_s), ring.start_s * longer, 0.0)
        later_bytes = plateau.bytes_per_channel_rank * channels.count * groups.ranks
        return replace(ring, later=(later_s, later_bytes))

    # ------------------------------------------------------------------------------------ latency

    def _ring_us(self, protocol: int) -> Array:
        base, inside = self.tables.base_us.ring[protocol], self._inside.ring[protocol]
        nodes = self.groups.nodes
        if self.collective == BROADCAST:  # its rings share channels in one node only (inferred)
            return base + np.where(nodes > 1, self._steps, 1.0) * inside
        net = self.tables.hw_us.net
        alone = self.groups.per_node <= 1
        cross_us = np.where(alone, net.tree[protocol], net.ring[protocol])
        least_us = self.tables.net_overhead_us.of(self.groups.cpu)[protocol]
        step_us = np.where(nodes > 1, np.maximum(inside, least_us), inside)
        crossing = self._rounds * (nodes - 1.0)
        return base + (self._steps - crossing) * step_us + crossing * cross_us

    def _tree_us(self, protocol: int) -> Array:
        inside, net = self._inside.tree[protocol], self.tables.hw_us.net.tree[protocol]
        climb_us = (self.groups.per_node - 1.0) * inside + np.log2(self.groups.nodes) * net
        return self.tables.base_us.tree[protocol] + 2.0 * climb_us

    # ---------------------------------------------------------------------------------- bandwidth

    def _bus(self, channels: Channels) -> Array:
        near = self.groups.nodes <= 2
        return channels.count * np.where(near, channels.inside_GBps, channels.between_GBps)

    def _ring_share(self) -> Array:
        """Return the bytes of the tensor per byte that crosses a link of a ring."""
        return self.groups.ranks / np.maximum(self._steps, 1.0)

    def _switch_GBps(self, channels: Channels) -> Array:
        """Return what the node's switch reduces on one channel: nothing on a single one."""
        share = (channels.count - 1.0) / channels.count
        GBps = channels.inside_GBps * self.tables.nvls_efficiency.of(self._generation) * share
        per_node = self.groups.per_node
        return GBps * (2.0 if self.collective == ALL_REDUCE else (per_node - 1.0) / per_node)

    def _ll_max(self) -> Array:
        tables, groups = self.tables.ll_max_GBps, self.groups
        inside = tables.of(self._generation)[0]
        return np.where(groups.nodes > 1, self._by_nodes(tables.over_nodes(groups.cpu)), inside)

    # --------------------------------------------------------------------------------- small ones

    @property
    def _generation(self) -> str:
        return self.groups.generation

    @property
    def _inside(self) -> LinkSchema:
        return self.tables.hw_us.pci if self.groups.pcie else self.tables.hw_us.nvlink

    @property
    def _rounds(self) -> float:
        return 2.0 if self.collective == ALL_REDUCE else 1.0

    @property
    def _steps(self) -> Array:
        if self.collective == BROADCAST:
            return self.groups.ranks
        return self._rounds * (self.groups.ranks - 1.0)

    def _by_nodes(self, rates: Three) -> Array:
        """Return of three rates that of 1 node, 2 nodes or more."""
        return np.array(rates)[np.clip(self.groups.nodes, 1, len(rates)).astype(np.intp) - 1]

    def _enabled(self, protocol: int) -> NDArray[np.bool_]:
        """Return where NCCL allows a protocol: LL128 needs NVLink between ranks of a node."""
        if protocol == LL128 and self.groups.pcie:
            return np.asarray(self.groups.per_node <= 1)
        return np.ones(self.groups.ranks.shape, dtype=np.bool_)
