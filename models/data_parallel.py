"""Gradient reduction, parameter gathering and the optimizer's step.

Data- and context-parallel ranks hold the same weights and different tokens, so gradients are
reduced over both together, in the dtype of the workload's states. Per optimizer step and rank with
``P`` parameters:

* ZeRO-0: all-reduce of gradients;
* ZeRO-1: reduce-scatter of gradients, all-gather of bf16 parameters;
* ZeRO-2: the reduce-scatter after every micro-batch;
* ZeRO-3 (FSDP): parameters gathered for the forward and again for the backward pass of every
  micro-batch, gradients reduce-scattered; with pipeline stages parameters are gathered once. All
  parts are: FSDP2 keeps its root unit between the passes, which saves a gathering of the last norm
  and head and holds them meanwhile (torch 2.13, counted on a fake process group).

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
from models.dtype import BF16
from models.layout import strides
from models.memory import shard_ranks
from models.muon import newton_schulz
from models.overlap import beside
from models.schedule import BOTH_WAYS
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.collectives import Cost
    from models.compute import Device
    from models.layout import Array, Bools
    from models.prepared import Prepared
    from models.rank_parts import RankParts
    from topologies.fabric import Fabric


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
    between_s
        From one stage of the rank to its next, where it has several.
    """

    busy_s: Array
    edge_s: Array
    between_s: Array


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
        self.prepared, self.device, self.states = prepared, device, prepared.workload.states
        self.recipe, self.parts = prepared.workload.recipe, parts
        self.layers = parts.layers
        self.params, self.first_share, self.layer_share, self.last_share = self._buckets(parts)
        self.layer_params = parts.sum_layers(
            [each[prepared.shape_index] for each in prepared.parameters.layers]
        )
        meshes, profile = prepared.meshes, device.profile
        stride = strides(meshes)
        inner = meshes.dp / meshes.dp_replicate
        self.shards = fabric.links((meshes.cp * 1.0, stride.cp), (inner, stride.dp))
        self.replicas = fabric.links((meshes.dp_replicate * 1.0, stride.dp * inner))
        self.steal, self.steal_across = (
            steal(links, profile)[prepared.mesh_index] for links in (self.shards, self.replicas)
        )
        self.costs = {
            kind: cost(kind, self.shards, profile)
            for kind in (Collective.ALL_REDUCE, Collective.REDUCE_SCATTER, Collective.ALL_GATHER)
        }
        self.across = cost(Collective.ALL_REDUCE, self.replicas, profile)
        # Two ranks as far apart as a pipeline is long: in one block where it is.
        ends = fabric.links(
            (np.minimum(meshes.pp, 2) * 1.0, stride.pp * np.maximum(meshes.pp / 2, 1))
        )
        self.between = cost(Collective.ALL_REDUCE, ends, profile)

    def optimizer(self) -> Array:
        """Return the seconds of the optimizer's step."""
        batch = self.prepared.batch
        share = np.where(batch.zero >= 1, 1.0 / shard_ranks(self.prepared), 1.0)
        ends = self.params - self.layer_params
        moved = self.params * self.states.traffic_bytes + ends * (2.0 * self.states.end_bytes)
        return moved * share / self.device.streaming_Bps + self._orthogonalising() * share

    def casting(self) -> Array:
        """Return the seconds in which the layers' weights are quantised, which hide nowhere.

        Those that are gathered in 16 bits are cast whole, once a step, or for every micro-batch
        where they are gathered anew or not kept; others as shards, and transposed once gathered.
        """
        batch, recipe = self.prepared.batch, self.recipe
        shards = shard_ranks(self.prepared)
        anew = (batch.zero == 3) & (batch.pp == 1) & (shards > 1)
        anew |= recipe.kept_bytes.value <= recipe.gathered_bytes.value
        times = np.where(anew, self.prepared.micro_batches, 1.0)
        whole = times * recipe.cast_bytes
        if recipe.gathers_quantised:
            gathered = recipe.gathered_bytes.value
            shard = (recipe.amax_bytes.value + BF16 + gathered) / shards
            apart = shard + times * 2.0 * gathered
            whole = np.where(batch.zero >= 1, apart, recipe.cast_bytes)
        return self.layer_params * whole / self.device.streaming_Bps

    def _orthogonalising(self) -> Array | float:
        """Return what an optimizer of matrices computes for all that the rank holds."""
        iterations = self.states.iterations
        if not iterations:
            return 0.0
        shape = self.prepared.shape_index
        each: list[Array] = []
        for work in self.prepared.layers:
            seconds = [self.device.seconds(op) for op in newton_schulz(work, iterations)]
            each.append(np.sum(seconds, axis=0)[shape])
        return self.parts.sum_layers(each)

    def exposed(self, forward: Pass, backward: Pass, computing: Array) -> Array:
        """Return communication that nothing hides.

        Parameters
        ----------
        forward, backward
            One micro-batch's passes over the rank, to hide behind.
        computing
            Share of them in which kernels run: while others wait there is nothing to steal.
        """
        batch, many = self.prepared.batch, self.prepared.micro_batches
        scatter, across, gather = self.scatter_s(), self.across_s(), self.gather_s()
        reduce = scatter + across
        # What is hidden steals as much as the links it travels on do.
        weight = np.where(reduce > 0, reduce, 1.0)
        near = self.steal * computing
        steal = near + (self.steal_across - self.steal) * computing * across / weight
        every = (batch.zero == 3) & (batch.pp == 1)
        left = np.where(batch.zero >= 1, self._once(gather, forward, near), 0.0)
        reduced = self._once(reduce, backward, steal)
        if (batch.zero >= 2).any():
            # A pass that waits for its gradients holds up the ranks behind it, as it fills and
            # drains the pipeline too.
            passes = many + (batch.pp - 1.0) / batch.vp
            waiting = passes * self._each_time(reduce, backward, steal)
            reduced = np.where(batch.zero >= 2, waiting, reduced)
        if every.any():
            both = many * self._both_ways(gather, reduce, backward, steal)
            reduced = np.where(every, both, reduced)
            left = np.where(every, many * self._gathered(gather, forward, near), left)
        total: Array = left + reduced + self.between_s()
        return total

    def _once(self, time: Array, beyond: Pass, steal: Array) -> Array:
        """Return what of a step's gathering or reduction is exposed: the first bucket and more.

        The first layer's gradients (with the embedding's) are ready last and its parameters needed
        first. The other buckets of its stage hide behind the rest of its pass, all of the rank's
        behind that and what it does between its stages.
        """
        batch = self.prepared.batch
        stage_s = beyond.busy_s / batch.vp
        stages = np.where(BOTH_WAYS.take(batch.schedule), 2.0, batch.vp)
        apart = time * self.first_share
        own = time / stages - apart - (stage_s - beyond.edge_s)
        between_s = (stages - 1.0) * beyond.between_s
        everything = time - apart - (between_s + stage_s - beyond.edge_s)
        return apart + np.maximum(np.maximum(own, everything), steal * (time - apart))

    def _each_time(self, time: Array, beyond: Pass, steal: Array) -> Array:
        """Return what of a reduction is exposed if every pass waits for it, chunk by chunk."""
        further = self.prepared.batch.vp - 1.0
        apart = time * (self.first_share + further * self.layer_share)
        room = beyond.busy_s - (1.0 + further) * beyond.edge_s
        return apart + beside(time - apart, room, steal)

    def _gathered(self, gather: Array, forward: Pass, steal: Array) -> Array:
        """Return what a forward pass waits for its parameters, gathered a layer ahead."""
        first, layer, last = self._of_buckets(gather)
        layer_s, several = self._layer_s(forward), self.layers > 1
        chain: Array = np.maximum(self.layers - 2.0, 0.0) * beside(layer, layer_s, steal)
        chain += np.where(several, beside(last, layer_s, steal), 0.0)
        chain += np.where(several, first, gather)
        return chain

    def _both_ways(self, gather: Array, reduce: Array, backward: Pass, steal: Array) -> Array:
        """Return what a backward pass waits for that gathers its parameters, layer by layer.

        Beside every layer run the gathering of the next one's and the reduction of the last one's.
        """
        ahead_first, ahead, ahead_last = self._of_buckets(gather)
        behind_first, behind, behind_last = self._of_buckets(reduce)
        layers, layer_s = self.layers, self._layer_s(backward)

        def wait(sent_s: Array) -> Array:
            return beside(sent_s, layer_s, steal)

        ends = beside(np.where(layers > 2, ahead, ahead_first), backward.edge_s, steal)
        ends = ends + wait(np.where(layers > 2, behind, behind_last))
        many = wait(ahead + behind_last) + wait(ahead_first + behind)
        many = many + np.maximum(layers - 4.0, 0.0) * wait(ahead + behind)
        middle = np.where(
            layers > 3, many, np.where(layers > 2, wait(ahead_first + behind_last), 0)
        )
        first_and_last = np.where(layers > 1, ahead_last + behind_first, gather + reduce)
        return first_and_last + np.where(layers > 1, ends + middle, 0.0)

    def _of_buckets(self, time: Array) -> tuple[Array, Array, Array]:
        """Return the seconds of the first, of any and of the last bucket."""
        return time * self.first_share, time * self.layer_share, time * self.last_share

    def _layer_s(self, beyond: Pass) -> Array:
        """Return the seconds of one layer of a pass."""
        layer_s: Array = (beyond.busy_s - beyond.edge_s) / np.maximum(self.layers - 1.0, 1.0)
        return layer_s

    def between_s(self) -> Array:
        """Return the sum of gradients that ranks at both ends of the pipeline have of one tensor.

        That is a head tied to the embedding; with a pipeline both ways, all that is left of their
        gradients after sharding.
        """
        prepared = self.prepared
        nbytes = prepared.copied_head() * self.states.reduced_bytes
        mirrored = BOTH_WAYS.take(prepared.batch.schedule)
        if mirrored.any():
            shards = np.where(prepared.batch.zero >= 1, shard_ranks(prepared), 1.0)
            nbytes = np.where(mirrored, self.params * self.states.reduced_bytes / shards, nbytes)
        return self._where(nbytes > 0, self.between, nbytes)

    def scatter_s(self) -> Array:
        """Return the reduction of the rank's gradients within a replica of the shards."""
        nbytes = self.params * self.states.reduced_bytes
        whole = self.prepared.batch.zero == 0
        scattered = self._where(~whole, self.costs[Collective.REDUCE_SCATTER], nbytes)
        return scattered + self._where(whole, self.costs[Collective.ALL_REDUCE], nbytes)

    def across_s(self) -> Array:
        """Return the all-reduce of a shard's gradients over the replicas."""
        shard = self.params * self.states.reduced_bytes / shard_ranks(self.prepared)
        return self._where(self.prepared.batch.dp_replicate > 1, self.across, shard)

    def gather_s(self) -> Array:
        """Return the gathering of the rank's parameters."""
        sharded = self.prepared.batch.zero >= 1
        return self._where(sharded, self.costs[Collective.ALL_GATHER], self.gathered_bytes())

    def gathered_bytes(self) -> Array:
        """Return the bytes of the rank's parameters as they are gathered."""
        in_16_bits = self.states.parameter_bytes
        less = in_16_bits - self.recipe.gathered_bytes.value
        return self.params * in_16_bits - self.layer_params * less

    def _where(self, used: Bools, what: Cost, nbytes: Array) -> Array:
        """Return the seconds of a collective for the layouts that use it, 0 for the others."""
        rows = np.flatnonzero(used)
        found = np.zeros_like(nbytes)
        found[rows] = what.seconds(nbytes[rows], self.prepared.mesh_index[rows])
        return found

    def _buckets(self, parts: RankParts) -> tuple[Array, Array, Array, Array]:
        """Return parameters of the rank, and the shares of its first, any and its last bucket.

        A bucket is a layer's; the embedding's parameters are in the first, the head's in the last.
        """
        prepared, shape = self.prepared, self.prepared.shape_index
        table = prepared.parameters
        layers = parts.sum_layers([each[shape] for each in table.layers])
        embedding = parts.first * table.embedding[shape]
        head = parts.last * (table.head[shape] + prepared.copied_head())
        total = layers + embedding + head
        each = layers / self.layers
        return total, (each + embedding) / total, each / total, (each + head) / total
