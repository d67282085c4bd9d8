"""Gradient reduction, parameter gathering and the optimizer's step.

Data- and context-parallel ranks hold the same weights and different tokens, so gradients are
reduced over both together. Per optimizer step and rank with ``P`` parameters:

* ZeRO-0: all-reduce of fp32 gradients;
* ZeRO-1: reduce-scatter of gradients, all-gather of bf16 parameters;
* ZeRO-2: the reduce-scatter after every micro-batch;
* ZeRO-3 (FSDP): parameters gathered for the forward and again for the backward pass of every
  micro-batch, gradients reduce-scattered; with pipeline stages parameters are gathered once.

With HSDP the shards' gradients are then all-reduced over the replicas, as often as they are
scattered (frameworks that defer it to the last micro-batch save the difference). Reduction hides
behind the backward pass of the last micro-batch (of every one with ZeRO-2 and 3), gathering behind
the first forward pass, both layer by layer, so one layer's share is always exposed. Of a pipeline
the first rank counts: it starts first and ends last. The gradients of a head tied to the embedding
are summed between the first and the last pipeline rank where these hold one each, and all gradients
between ranks that hold the same stages where the pipeline runs both ways (DualPipe).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.collectives import cost, steal
from models.layout import strides
from models.memory import GRADIENT_BYTES, OPTIMIZER_BYTES, PARAMETER_BYTES, shard_ranks
from models.overlap import along_blocks, beside
from models.schedule import BOTH_WAYS
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.collectives import Cost
    from models.compute import Device
    from models.layout import Array, Bools
    from models.prepared import Prepared
    from models.rank_parts import RankParts
    from topologies.fabric import Fabric

#: Bytes per parameter that Adam moves: fp32 master and two moments read and written, the fp32
#: gradient read, the bf16 parameter written.
ADAM_TRAFFIC_BYTES = 2.0 * OPTIMIZER_BYTES + GRADIENT_BYTES + PARAMETER_BYTES


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch's pass over a rank, to hide communication behind.

    Parameters
    ----------
    busy_s
        Seconds of all of it.
    edge_s
        Of those, its last layer and the head: forward nothing is gathered any more while they run,
        backward nothing is ready to be reduced.
    """

    busy_s: Array
    edge_s: Array


class DataParallelClock:
    """Seconds that data parallelism adds to a step, on the pipeline ranks named.

    Parameters
    ----------
    prepared, device, fabric
        Layouts, accelerator with profile, links.
    parts
        What the rank is made of.
    """

    def __init__(
        self, prepared: Prepared, device: Device, fabric: Fabric, parts: RankParts
    ) -> None:
        self.prepared, self.device = prepared, device
        self.layers = parts.layers
        self.params, self.first_share, self.last_share = self._buckets(parts)
        meshes, profile = prepared.meshes, device.profile
        stride = strides(meshes)
        inner = meshes.dp / meshes.dp_replicate
        shards = fabric.links((meshes.cp * 1.0, stride.cp), (inner, stride.dp))
        replicas = fabric.links((meshes.dp_replicate * 1.0, stride.dp * inner))
        self.steal, self.steal_across = (
            steal(links, profile)[prepared.mesh_index] for links in (shards, replicas)
        )
        self.costs = {
            kind: cost(kind, shards, profile)
            for kind in (Collective.ALL_REDUCE, Collective.REDUCE_SCATTER, Collective.ALL_GATHER)
        }
        self.across = cost(Collective.ALL_REDUCE, replicas, profile)
        # Two ranks as far apart as a pipeline is long: in one block where it is.
        ends = fabric.links(
            (np.minimum(meshes.pp, 2) * 1.0, stride.pp * np.maximum(meshes.pp / 2, 1))
        )
        self.between = cost(Collective.ALL_REDUCE, ends, profile)

    def optimizer(self) -> Array:
        """Return the seconds of the optimizer's step."""
        batch = self.prepared.batch
        share = np.where(batch.zero >= 1, 1.0 / shard_ranks(self.prepared), 1.0)
        moved = self.params * share * ADAM_TRAFFIC_BYTES
        return moved / self.device.streaming_Bps

    def exposed(self, forward: Pass, backward: Pass) -> Array:
        """Return communication that nothing hides.

        Parameters
        ----------
        forward, backward
            One micro-batch's passes over the rank, to hide behind.
        """
        batch, many = self.prepared.batch, self.prepared.micro_batches
        scatter, across, gather = self._reduce(), self._across(), self._gather()
        reduce = scatter + across
        # What is hidden steals as much as the links it travels on do.
        weight = np.where(reduce > 0, reduce, 1.0)
        steal = self.steal + (self.steal_across - self.steal) * across / weight
        every = (batch.zero == 3) & (batch.pp == 1)
        reductions = np.where(batch.zero >= 2, many, 1.0)
        gathers = np.where(every, many, np.where(batch.zero >= 1, 1.0, 0.0))
        left = gathers * self._one_way(gather, forward, self.steal)
        turned = self._both_ways(gather, reduce, backward, steal) if every.any() else 0.0
        reduced = np.where(every, turned, self._one_way(reduce, backward, steal))
        total: Array = left + reductions * reduced + self._between_ends()
        return total

    def _one_way(self, time: Array, beyond: Pass, steal: Array) -> Array:
        """Return what of a gathering or reduction is exposed: the first bucket, and what is left.

        The first layer's gradients (with the embedding's) are ready last and its parameters needed
        first; all others hide behind the rest of the pass.
        """
        apart = time * self.first_share
        return apart + beside(time - apart, beyond.busy_s - beyond.edge_s, steal)

    def _both_ways(self, gather: Array, reduce: Array, backward: Pass, steal: Array) -> Array:
        """Return what a backward pass waits for that gathers its parameters, layer by layer."""
        ahead, behind = gather * self.last_share, reduce * self.first_share
        hops = np.maximum(self.layers - 1.0, 1.0)
        chain = along_blocks(
            self.layers,
            backward.busy_s / self.layers,
            (gather - ahead) / hops,
            (reduce - behind) / hops,
            steal,
        )
        return ahead + behind + chain

    def _between_ends(self) -> Array:
        """Return the sum of gradients that ranks at both ends of the pipeline have of one tensor.

        That is a head tied to the embedding; with a pipeline both ways, all that is left of their
        gradients after sharding.
        """
        prepared = self.prepared
        nbytes = prepared.copied_head() * GRADIENT_BYTES
        mirrored = BOTH_WAYS.take(prepared.batch.schedule)
        if mirrored.any():
            shards = np.where(prepared.batch.zero >= 1, shard_ranks(prepared), 1.0)
            nbytes = np.where(mirrored, self.params * GRADIENT_BYTES / shards, nbytes)
        return self._where(nbytes > 0, self.between, nbytes)

    def _reduce(self) -> Array:
        nbytes = self.params * GRADIENT_BYTES
        whole = self.prepared.batch.zero == 0
        scattered = self._where(~whole, self.costs[Collective.REDUCE_SCATTER], nbytes)
        return scattered + self._where(whole, self.costs[Collective.ALL_REDUCE], nbytes)

    def _across(self) -> Array:
        """Return the all-reduce of a shard's gradients over the replicas."""
        shard = self.params * GRADIENT_BYTES / shard_ranks(self.prepared)
        return self._where(self.prepared.batch.dp_replicate > 1, self.across, shard)

    def _gather(self) -> Array:
        sharded = self.prepared.batch.zero >= 1
        return self._where(
            sharded, self.costs[Collective.ALL_GATHER], self.params * PARAMETER_BYTES
        )

    def _where(self, used: Bools, what: Cost, nbytes: Array) -> Array:
        """Return the seconds of a collective for the layouts that use it, 0 for the others."""
        rows = np.flatnonzero(used)
        found = np.zeros_like(nbytes)
        found[rows] = what.seconds(nbytes[rows], self.prepared.mesh_index[rows])
        return found

    def _buckets(self, parts: RankParts) -> tuple[Array, Array, Array]:
        """Return parameters of the rank, and the shares of its first and of its last bucket.

        A bucket is a layer's; the embedding's parameters are in the first, the head's in the last.
        """
        prepared, shape = self.prepared, self.prepared.shape_index
        table = prepared.parameters
        layers = parts.sum_layers([each[shape] for each in table.layers])
        embedding = parts.first * table.embedding[shape]
        head = parts.last * (table.head[shape] + prepared.copied_head())
        total = layers + embedding + head
        each = layers / self.layers
        return total, (each + embedding) / total, (each + head) / total
