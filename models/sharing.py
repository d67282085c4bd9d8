"""Parameters that some ranks hold alike, and what these send each other of them."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from models.collectives import cost
from models.dtype import BF16
from models.expert_mesh import expert_data_ranks, expert_stride
from models.layout import strides
from models.state_bytes import expert_shard_ranks, gathers_each_pass, shard_ranks
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.collectives import Cost
    from models.layout import Array, Bools
    from models.prepared import Prepared
    from models.profile import Profile
    from topologies.fabric import Fabric
    from topologies.group_links import GroupLinks


#: What the ranks that shard do: sum gradients, whole or each its own, and hand out parameters.
_KINDS = (
    Collective.ALL_REDUCE,
    Collective.REDUCE_SCATTER,
    Collective.ALL_GATHER,
    Collective.BROADCAST,
)


class Sharing:
    """Parameters of a rank that the same other ranks hold; arrays over layouts.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    params
        How many.
    units
        Of how many parts of the model: layers, the embedding, the head.
    ranks
        Ranks over which ZeRO shards them, within a replica.
    shards, replicas
        Links, over meshes, of the ranks that shard, and of those that hold the same shard.
    profile
        What collectives add.
    layers
        Of them, those of layers, whose products may run in fewer bits; all if not said.
    """

    def __init__(
        self,
        prepared: Prepared,
        params: Array,
        units: Array,
        ranks: Array,
        shards: GroupLinks,
        replicas: GroupLinks,
        profile: Profile,
        layers: Array | None = None,
    ) -> None:
        self.prepared, self.ranks = prepared, ranks
        self.hold(params, units, layers)
        self.states, self.recipe = prepared.workload.states, prepared.workload.recipe
        self.shards, self.replicas = shards, replicas
        self.costs = {kind: cost(kind, shards, profile) for kind in _KINDS}
        self.across = cost(Collective.ALL_REDUCE, replicas, profile)

    def hold(self, params: Array, units: Array, layers: Array | None = None) -> None:
        """Take parameters of a pipeline rank; see the class."""
        self.params = params
        self.layers = params if layers is None else layers
        # In how many messages they are gathered or reduced: ZeRO-3's parts each have their own.
        self.messages = np.where(self.prepared.batch.zero == 3, np.maximum(units, 1.0), 1.0)

    def of_rank(self, params: Array, units: Array, layers: Array | None = None) -> Self:
        """Return the same of another pipeline rank, over the same links."""
        other = copy(self)
        other.hold(params, units, layers)
        return other

    @classmethod
    def by_all(
        cls,
        prepared: Prepared,
        fabric: Fabric,
        profile: Profile,
        params: Array,
        units: Array,
        layers: Array,
    ) -> Sharing:
        """Return the parameters that all data- and context-parallel ranks share."""
        meshes = prepared.meshes
        stride = strides(meshes)
        inner = meshes.dp / meshes.dp_replicate
        shards = fabric.links((meshes.cp * 1.0, stride.cp), (inner, stride.dp))
        replicas = fabric.links((meshes.dp_replicate * 1.0, stride.dp * inner))
        ranks = shard_ranks(prepared)
        return cls(prepared, params, units, ranks, shards, replicas, profile, layers)

    @classmethod
    def of_experts(
        cls, prepared: Prepared, fabric: Fabric, profile: Profile, params: Array, units: Array
    ) -> Sharing:
        """Return the parameters of experts, which fewer ranks hold."""
        meshes = prepared.meshes
        inner = expert_data_ranks(meshes) / meshes.dp_replicate
        apart = expert_stride(meshes, "edp") * 1.0
        shards = fabric.links((inner, apart))
        replicas = fabric.links((meshes.dp_replicate * 1.0, apart * inner))
        ranks = expert_shard_ranks(prepared)
        return cls(prepared, params, units, ranks, shards, replicas, profile)

    def scatter_s(self) -> Array:
        """Return the reduction of their gradients within a replica of the shards."""
        nbytes, whole = self.params * self.states.reduced_bytes, self.summed_for_all
        scattered = self.in_messages(~whole, self.costs[Collective.REDUCE_SCATTER], nbytes)
        return scattered + self.where(whole, self.costs[Collective.ALL_REDUCE], nbytes)

    def across_s(self) -> Array:
        """Return the all-reduce of a shard's gradients over the replicas."""
        shard = self.params * self.states.reduced_bytes / self.ranks
        return self.in_messages(self.prepared.batch.dp_replicate > 1, self.across, shard)

    @property
    def summed_for_all(self) -> Bools:
        """Where every rank has the sums of all gradients, not its own alone."""
        zero = self.prepared.batch.zero
        found: Bools = (zero == 0) | (self.prepared.workload.runs_on.reduces_to_all & (zero == 1))
        return found

    @property
    def in_turn(self) -> Bools:
        """Where parameters are gathered by a broadcast from each rank after the other."""
        found: Bools = (
            self.prepared.batch.zero == 1
        ) & self.prepared.workload.runs_on.gathers_in_turn
        return found

    def gather_s(self) -> Array:
        """Return their gathering."""
        zero, nbytes, in_turn = self.prepared.batch.zero, self.gathered_bytes(), self.in_turn
        all_at_once = (zero >= 1) & ~in_turn
        gathered = self.in_messages(all_at_once, self.costs[Collective.ALL_GATHER], nbytes)
        if not in_turn.any():
            return gathered
        each = self.where(in_turn, self.costs[Collective.BROADCAST], nbytes / self.ranks)
        return gathered + self.ranks * each

    def gathered_bytes(self) -> Array:
        """Return their bytes as they are gathered."""
        in_16_bits = self.states.parameter_bytes
        less = in_16_bits - self.recipe.gathered_bytes.value
        return self.params * in_16_bits - self.layers * less

    def cast_bytes(self) -> Array:
        """Return the bytes moved in a step to quantise weights.

        Those that are gathered in 16 bits are cast whole, once a step, or for every micro-batch
        where they are gathered anew or not kept; others as shards, and transposed once gathered.
        """
        batch, recipe = self.prepared.batch, self.recipe
        anew = gathers_each_pass(batch) & (self.ranks > 1)
        anew |= recipe.kept_bytes.value <= recipe.gathered_bytes.value
        times = np.where(anew, self.prepared.micro_batches, 1.0)
        whole = times * recipe.cast_bytes
        if recipe.gathers_quantised:
            gathered = recipe.gathered_bytes.value
            shard = (recipe.amax_bytes.value + BF16 + gathered) / self.ranks
            apart = shard + times * 2.0 * gathered
            whole = np.where(batch.zero >= 1, apart, recipe.cast_bytes)
        return self.layers * whole

    @property
    def share(self) -> Array:
        """Share of them that the optimizer of one rank updates."""
        return np.where(self.prepared.batch.zero >= 1, 1.0 / self.ranks, 1.0)

    def shard(self) -> Array:
        """Return how many of them the optimizer of one rank updates."""
        return self.params * self.share

    def in_messages(self, used: Bools, what: Cost, nbytes: Array) -> Array:
        """Return the seconds of a collective in as many messages for the layouts that use it."""
        return self.messages * self.where(used & (nbytes > 0), what, nbytes / self.messages)

    def where(self, used: Bools, what: Cost, nbytes: Array) -> Array:
        """Return the seconds of a collective for the layouts that use it, 0 for the others."""
        rows = np.flatnonzero(used)
        found = np.zeros_like(nbytes)
        found[rows] = what.seconds(nbytes[rows], self.prepared.mesh_index[rows])
        return found
