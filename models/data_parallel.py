"""Gradient reduction, parameter gathering and the optimizer's step.

Data- and context-parallel ranks hold the same weights and different tokens, so gradients are
reduced over both together. Per optimizer step and rank with ``P`` parameters:

* ZeRO-0: all-reduce of fp32 gradients;
* ZeRO-1: reduce-scatter of gradients, all-gather of bf16 parameters;
* ZeRO-2: the reduce-scatter after every micro-batch;
* ZeRO-3 (FSDP): parameters gathered for the forward and again for the backward pass of every
  micro-batch, gradients reduce-scattered; with pipeline stages parameters are gathered once.

With HSDP the shards' gradients are then all-reduced over the replicas. Reduction hides behind the
backward pass of the last micro-batch (of every one with ZeRO-2 and 3), gathering behind the first
forward pass, both layer by layer, so one layer's share is always exposed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models import collectives
from models.layout import strides
from models.memory import GRADIENT_BYTES, OPTIMIZER_BYTES, PARAMETER_BYTES, shard_ranks
from models.operation import Collective
from models.shape import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared
    from topologies.fabric import Fabric, GroupLinks

#: Bytes per parameter that Adam moves: fp32 master and two moments read and written, the fp32
#: gradient read, the bf16 parameter written.
ADAM_TRAFFIC_BYTES = 2.0 * OPTIMIZER_BYTES + GRADIENT_BYTES + PARAMETER_BYTES


class DataParallelClock:
    """Seconds that data parallelism adds to a step."""

    def __init__(self, prepared: Prepared, device: Device, fabric: Fabric) -> None:
        self.prepared, self.device = prepared, device
        self.shards, self.replicas = _links(prepared, fabric)

    def optimizer(self, rank: NDArray[np.intp]) -> Array:
        """Return the seconds of the optimizer's step on the named ranks."""
        batch = self.prepared.batch
        share = np.where(batch.zero >= 1, 1.0 / shard_ranks(self.prepared), 1.0)
        moved = self._params(rank) * share * ADAM_TRAFFIC_BYTES
        return moved / self.device.streaming_Bps

    def exposed(
        self, rank: NDArray[np.intp], layers: Array, forward: Array, backward: Array
    ) -> Array:
        """Return communication that nothing hides.

        Parameters
        ----------
        rank
            Kind of pipeline rank that sets the pace.
        layers
            Layers of that rank.
        forward, backward
            Seconds of one micro-batch's passes on it, to hide behind.
        """
        batch, many = self.prepared.batch, self.prepared.micro_batches
        params = self._params(rank)
        reduce, gather = self._reduce(params), self._gather(params)
        sharded = batch.zero == 3
        every = sharded & (batch.pp == 1)
        reductions = np.where(batch.zero >= 2, many, 1.0)
        behind_backward = reduce + np.where(every, gather, 0.0)
        gathers = np.where(every, many, np.where(batch.zero >= 1, 1.0, 0.0))
        return reductions * self._left(behind_backward, backward, layers) + gathers * self._left(
            gather, forward, layers
        )

    def _left(self, time: Array, room: Array, layers: Array) -> Array:
        """Return what of `time` is exposed: one layer's share, and what does not fit in `room`."""
        hidden = np.minimum(time * (1.0 - 1.0 / layers), room)
        profile = self.device.profile
        steal = np.where(
            self.shards.scale_out, profile.steal_scale_out.value, profile.steal_scale_up.value
        )
        return time - hidden + hidden * steal

    def _reduce(self, params: Array) -> Array:
        batch, profile = self.prepared.batch, self.device.profile
        nbytes = params * GRADIENT_BYTES
        whole = collectives.seconds(Collective.ALL_REDUCE, nbytes, self.shards, profile)
        scatter = collectives.seconds(Collective.REDUCE_SCATTER, nbytes, self.shards, profile)
        shard = nbytes / shard_ranks(self.prepared)
        across = collectives.seconds(Collective.ALL_REDUCE, shard, self.replicas, profile)
        return np.where(batch.zero == 0, whole, scatter + across)

    def _gather(self, params: Array) -> Array:
        nbytes = params * PARAMETER_BYTES
        return collectives.seconds(
            Collective.ALL_GATHER, nbytes, self.shards, self.device.profile
        )

    def _params(self, rank: NDArray[np.intp]) -> Array:
        prepared, cut, shape = self.prepared, self.prepared.stage_index, self.prepared.shape_index
        table, stages = prepared.parameters, prepared.stages
        last = table.head[shape] + table.tied_head[shape] * (prepared.batch.pp > 1)
        params = stages.first[cut, rank] * table.embedding[shape]
        params = params + stages.last[cut, rank] * last
        for kind, each in enumerate(table.layers):
            params = params + stages.counts[cut, rank, kind] * each[shape]
        return params


def _links(prepared: Prepared, fabric: Fabric) -> tuple[GroupLinks, GroupLinks]:
    """Return the links of the sharding groups and of their replicas, once per distinct mesh."""
    batch = prepared.batch
    columns = [batch.tp, batch.cp, batch.dp, batch.dp_replicate, batch.pp, batch.rank_order]
    first, index = distinct(columns)
    mesh = batch.take(first)
    stride = strides(mesh)
    inner = mesh.dp / mesh.dp_replicate
    shards = fabric.links((mesh.cp * 1.0, stride.cp), (inner, stride.dp))
    replicas = fabric.links((mesh.dp_replicate * 1.0, stride.dp * inner))
    return shards.take(index), replicas.take(index)
