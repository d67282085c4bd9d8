"""Gradient reduction, parameter gathering and the optimizer's step.

Data- and context-parallel ranks hold the same weights and different tokens (of experts, fewer of
them: :mod:`models.expert_mesh`), so gradients are reduced over both together, in the dtype of the
workload's states. Per optimizer step and rank with ``P`` parameters:

* ZeRO-0: all-reduce of gradients;
* ZeRO-1: reduce-scatter of gradients (all-reduce where software sums them for every rank),
  all-gather of bf16 parameters;
* ZeRO-2: the reduce-scatter after every micro-batch;
* ZeRO-3 (FSDP): parameters gathered for the forward and again for the backward pass of every
  micro-batch, gradients reduce-scattered; with pipeline stages either is done once. Each layer, the
  embedding and the head have messages of their own. All parts are gathered again: FSDP2 keeps its
  root unit between the passes, which saves a gathering of the last norm and head and holds them
  meanwhile (torch 2.13, counted on a fake process group).

With HSDP the shards' gradients are then all-reduced over the replicas, as often as they are
scattered (frameworks that defer it to the last micro-batch save the difference). Reduction hides
behind the backward pass of the last micro-batch (of every one where each is reduced), gathering
behind the first forward pass, both layer by layer, so one layer's share is always exposed. The
gradients of a head tied to the embedding are summed between the first and the last pipeline rank
where these hold one each, and all gradients between ranks that hold the same stages where the
pipeline runs both ways (DualPipe).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Self

import numpy as np

from models.collectives import cost, steal
from models.layer_chain import LayerChain, Parts
from models.layout import strides
from models.muon import newton_schulz
from models.overlap import beside
from models.schedule import APART, BOTH_WAYS
from models.sharing import Sharing
from models.state_bytes import gathers_each_pass, reduces_each_pass
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.compute import Device
    from models.layout import Array
    from models.operation import Work
    from models.prepared import Prepared
    from models.rank_parts import RankParts
    from topologies.fabric import Fabric


@dataclass(frozen=True, slots=True)
class HidingPass:
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
    parts_s
        Of all of it, each layer's, the embedding's and the head's.
    """

    busy_s: Array
    edge_s: Array
    between_s: Array
    parts_s: Parts


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
        software = prepared.workload.runs_on
        self.hides_gradients = software.hides_gradients
        self.hides_parameters = software.hides_parameters
        profile, (common, *experts) = device.profile, self._held(parts)
        self.shared = Sharing.by_all(prepared, fabric, profile, *common)
        apart = [Sharing.of_experts(prepared, fabric, profile, *each) for each in experts]
        self.take(parts, [self.shared, *apart])
        self.steal, self.steal_across = (
            steal(links, profile, states=True)[prepared.mesh_index]
            for links in (self.shared.shards, self.shared.replicas)
        )
        meshes = prepared.meshes
        stride = strides(meshes)
        # Two ranks as far apart as a pipeline is long: in one block where it is.
        ends = fabric.links(
            (np.minimum(meshes.pp, 2) * 1.0, stride.pp * np.maximum(meshes.pp / 2, 1))
        )
        self.between = cost(Collective.ALL_REDUCE, ends, profile)

    def of_rank(self, parts: RankParts) -> Self:
        """Return the clock of another pipeline rank, over the same links."""
        other, held = copy(self), self._held(parts)
        pairs = zip(self.sharings, held, strict=True)
        other.take(parts, [sharing.of_rank(*each) for sharing, each in pairs])
        return other

    def _held(self, parts: RankParts) -> list[tuple[Array, ...]]:
        """Return what a rank shares with all, and of experts: parameters and parts of the model.

        Of what all share the layers' parameters too.
        """
        prepared, table, shape = self.prepared, self.prepared.parameters, self.prepared.shape_index
        layers = parts.sum_layers([each[shape] for each in table.layers])
        common = layers + sum(self._ends(parts))
        # A head tied to the embedding of the same rank goes with that.
        together = prepared.architecture.tied * parts.first * parts.last
        held: list[tuple[Array, ...]] = [
            (common, parts.layers + parts.first + parts.last - together, layers)
        ]
        if table.has_experts:
            experts = parts.sum_layers([each[shape] for each in table.experts])
            mixed = parts.sum_layers([(each[shape] > 0) * 1.0 for each in table.experts])
            # Where every rank has all experts they go with the rest of their layer.
            held.append((experts, np.where(prepared.batch.ep > 1, mixed, 1.0)))
        return held

    def take(self, parts: RankParts, sharings: list[Sharing]) -> None:
        """Be the clock of a rank of some parts, and of what it shares of them."""
        self.parts, self.sharings = parts, sharings
        self.shared = sharings[0]
        self.params: Array = reduce(np.add, (each.params for each in sharings))
        embedding, head = self._ends(parts)
        # The embedding's parameters are with the first layer's.
        first = (self.params - embedding - head) / parts.layers + embedding
        self.first_share = first / self.params

    def optimizer(self) -> Array:
        """Return the seconds of the optimizer's step."""
        updated: Array = reduce(np.add, (each.shard() for each in self.sharings))
        moved = updated * self.states.traffic_bytes
        if self.states.end_bytes:
            ends = self.shared.share * (self.shared.params - self.shared.layers)
            moved = moved + ends * (2.0 * self.states.end_bytes)
        return moved / self.device.streaming_Bps + self._orthogonalising()

    def casting(self) -> Array:
        """Return the seconds in which the layers' weights are quantised, which hide nowhere."""
        moved: Array = reduce(np.add, (each.cast_bytes() for each in self.sharings))
        return moved / self.device.streaming_Bps

    def _orthogonalising(self) -> Array | float:
        """Return what an optimizer of matrices computes for the rank's share of its own."""
        iterations = self.states.iterations
        if not iterations:
            return 0.0
        shape, total = self.prepared.shape_index, np.zeros(len(self.prepared))
        for sharing in self.sharings:
            each = [
                np.sum([np.zeros(len(work.input_bytes)), *self._iterated(work, sharing)], axis=0)
                for work in self.prepared.layers
            ]
            total += self.parts.sum_layers([seconds[shape] for seconds in each]) * sharing.share
        return total

    def _iterated(self, work: Work, sharing: Sharing) -> list[Array]:
        """Return the seconds of all products for the matrices of a part that some ranks share."""
        products = newton_schulz(work, self.states.iterations, experts=sharing is not self.shared)
        return [self.device.seconds(op) for op in products]

    def exposed(
        self, forward: HidingPass, backward: HidingPass, computing: Array
    ) -> tuple[Array, Array, Array]:
        """Return communication that nothing hides: of parameters, and of gradients.

        And by how much hidden reductions slow the rank's last pass, which ranks of a pipeline run
        one after the other.

        Parameters
        ----------
        forward, backward
            One micro-batch's passes over the rank, to hide behind.
        computing
            Share of them in which kernels run: while others wait there is nothing to steal.
        """
        prepared = self.prepared
        batch, many = prepared.batch, prepared.micro_batches
        scatter, across, gather = self.scatter_s(), self.across_s(), self.gather_s()
        reducing = scatter + across
        # What is hidden steals as much as the links it travels on do.
        weight = np.where(reducing > 0, reducing, 1.0)
        near = self.steal * computing
        steal = near + (self.steal_across - self.steal) * computing * across / weight
        every = gathers_each_pass(batch)
        left = np.where(batch.zero >= 1, self._once(gather, forward, near), 0.0)
        reduced = self._once(reducing, backward, steal)
        if not self.hides_parameters:
            left = np.where(batch.zero == 1, gather, left)
        if not self.hides_gradients:
            reduced = reducing
        if (each_pass := reduces_each_pass(batch)).any():
            apart = reducing * self.first_share
            room = backward.busy_s - backward.edge_s
            waiting = many * (apart + beside(reducing - apart, room, steal))
            reduced = np.where(each_pass, waiting, reduced)
        if every.any():
            chain = self._chain()
            waiting = many * chain.backward(gather, reducing, backward.parts_s, steal)
            reduced = np.where(every, waiting, reduced)
            left = np.where(every, many * chain.forward(gather, forward.parts_s, near), left)
        beside_once = self.hides_gradients & ~each_pass
        slowed = np.where(beside_once, self._slowed(reducing, backward, steal), 0.0)
        return left, reduced + self.between_s(), slowed

    def _once(self, time: Array, beyond: HidingPass, steal: Array) -> Array:
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

    def _slowed(self, time: Array, beyond: HidingPass, steal: Array) -> Array:
        """Return what a step's reduction takes of the rank's last pass through its first stage.

        Where gradients of weights are apart they fill the end, and no other rank waits for them.
        """
        batch = self.prepared.batch
        room = np.maximum(beyond.busy_s / batch.vp - beyond.edge_s, 0.0)
        hidden, left = time / batch.vp, 1.0 - steal
        # The pass gets longer by what is taken of it, and more of the reduction is beside it.
        hidden = np.divide(room, left, out=hidden, where=hidden * left > room)
        return np.where(APART.take(batch.schedule), 0.0, steal * hidden)

    def _chain(self) -> LayerChain:
        """Return the layers of a rank that holds the whole model."""
        embedding, head = self._ends(self.parts)
        shares = Parts(
            layers=tuple(whole / self.params for whole in self._wholes()),
            embedding=embedding / self.params,
            head=head / self.params,
        )
        return LayerChain(self.prepared.architecture.kind_of_layer, shares)

    def apart_s(self) -> Array:
        """Return what of it software hides nothing of and does once, when all else is done."""
        batch, nothing = self.prepared.batch, np.zeros(len(self.prepared))
        reduced = nothing if self.hides_gradients else self.scatter_s() + self.across_s()
        gathered = nothing if self.hides_parameters else (batch.zero == 1) * self.gather_s()
        return np.where(reduces_each_pass(batch), 0.0, reduced + gathered)

    def between_s(self) -> Array:
        """Return the sum of gradients that ranks at both ends of the pipeline have of one tensor.

        That is a head tied to the embedding; with a pipeline both ways, all that is left of their
        gradients after sharding.
        """
        prepared = self.prepared
        nbytes = prepared.copied_head() * self.states.reduced_bytes
        mirrored = BOTH_WAYS.take(prepared.batch.schedule)
        if mirrored.any():
            left: Array = reduce(np.add, (each.shard() for each in self.sharings))
            nbytes = np.where(mirrored, left * self.states.reduced_bytes, nbytes)
        return self.shared.where(nbytes > 0, self.between, nbytes)

    def scatter_s(self) -> Array:
        """Return the reduction of the rank's gradients within a replica of the shards."""
        seconds: Array = reduce(np.add, (each.scatter_s() for each in self.sharings))
        return seconds

    def across_s(self) -> Array:
        """Return the all-reduce of a shard's gradients over the replicas."""
        seconds: Array = reduce(np.add, (each.across_s() for each in self.sharings))
        return seconds

    def gather_s(self) -> Array:
        """Return the gathering of the rank's parameters."""
        seconds: Array = reduce(np.add, (each.gather_s() for each in self.sharings))
        return seconds

    def gathered_bytes(self) -> Array:
        """Return the bytes of the rank's parameters as they are gathered."""
        nbytes: Array = reduce(np.add, (each.gathered_bytes() for each in self.sharings))
        return nbytes

    def params_of(self, parts: RankParts) -> Array:
        """Return how many parameters another pipeline rank has."""
        return parts.sum_layers(self._wholes()) + sum(self._ends(parts))

    def _wholes(self) -> list[Array]:
        """Return the parameters of a layer of each kind, its experts' too."""
        table, shape = self.prepared.parameters, self.prepared.shape_index
        pairs = zip(table.layers, table.experts, strict=True)
        return [(own + experts)[shape] for own, experts in pairs]

    def _ends(self, parts: RankParts) -> tuple[Array, Array]:
        """Return the parameters of the embedding and of the head, where a rank has them."""
        table, shape = self.prepared.parameters, self.prepared.shape_index
        head = table.head[shape] + self.prepared.copied_head()
        return parts.first * table.embedding[shape], parts.last * head
