"""Models, shapes of work and machines that several tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.catalogue import CONFIGS, load_architecture, read_json
from models.compute import Device
from models.data_parallel import DataParallelClock, HidingPass
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.layer_chain import Parts
from models.layout import Layout, LayoutBatch
from models.model_states import USUAL_STATES
from models.prepared import Prepared
from models.profile import load_profile
from models.rank_parts import RankParts
from models.shape import Shapes
from models.workload import Workload
from topologies.catalogue import load_cluster
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from models.architecture import Architecture, Layer
    from models.layout import Array
    from models.model_states import ModelStates
    from models.operation import Axis, Communication, Work
    from models.profile import Profile

#: One model of every family whose layers differ in what they save.
FAMILIES = ("llama-3.1-8b", "qwen3-8b", "gemma-3-27b", "megatron-22b")

TOY: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}

#: The same with experts: Mixtral's, or with shared ones Qwen2-MoE's.
TOY_MOE: dict[str, Any] = {
    **TOY,
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 256,
    "sliding_window": None,
    "norm_topk_prob": False,
}


def config(name: str) -> dict[str, Any]:
    """Return the catalogue's ``config.json`` of a model."""
    return read_json(CONFIGS / f"{name}.json")


def toy(**fields: Any) -> Architecture:
    """Return a small Llama with some fields changed."""
    return architecture_from_config({**TOY, **fields}, "toy")


def unwindowed(architecture: Architecture) -> Layer:
    """Return a layer that attends over the whole sequence."""
    return next(layer for layer in architecture.kinds if layer.mixer.window is None)


def shapes(seq_len: int, **axes: Any) -> Shapes:
    """Return the one shape of work of a layout."""
    return Shapes(batch=LayoutBatch.of([Layout(**axes)]), seq_len=seq_len)


def work_of(name: str, seq_len: int, **axes: Any) -> Work:
    """Return the work of an unwindowed layer of a catalogue model."""
    architecture = load_architecture(name)
    return layer_work(unwindowed(architecture), architecture.hidden, shapes(seq_len, **axes))


def prepared(
    architecture: Architecture,
    *layouts: Layout,
    seq_len: int = 4096,
    global_batch: int = 64,
    states: ModelStates = USUAL_STATES,
    **workload: Any,
) -> Prepared:
    """Return some layouts of a model with their inventory; more fields as of a workload."""
    asked = Workload(seq_len=seq_len, global_batch=global_batch, states=states, **workload)
    return Prepared.of(architecture, asked, LayoutBatch.of(layouts))


def machine(cluster: str = "h100-dgx:4", **profile: float) -> tuple[Device, Fabric]:
    """Return a device and a fabric, with some parameters of the profile replaced."""
    loaded = load_cluster(cluster)
    accelerator = loaded.accelerator
    return Device(accelerator, tuned(load_profile(accelerator.name), **profile)), Fabric(loaded)


def tuned(profile: Profile, **values: float) -> Profile:
    """Return a profile with other numbers for some of its parameters."""
    made_up = {
        name: Figure(value=value, kind=Provenance.ASSUMED, source="this test")
        for name, value in values.items()
    }
    return replace(profile, **made_up)


def sent_bytes(
    operations: Iterable[Communication], axis: Axis, ranks: int, *collectives: Collective
) -> float:
    """Return what one rank sends on one axis, by the ring algorithm of each collective.

    A shift sends its whole message to the neighbour; an all-gather, a reduce-scatter and an
    all-to-all leave one share of `ranks` at home; an all-reduce goes round twice.
    """
    share = (ranks - 1) / ranks
    factor = {
        Collective.SHIFT: 1.0,
        Collective.ALL_GATHER: share,
        Collective.REDUCE_SCATTER: share,
        Collective.ALL_TO_ALL: share,
        Collective.ALL_REDUCE: 2 * share,
    }
    return sum(
        factor[op.collective] * float(op.nbytes[0]) * float(op.calls[0])
        for op in operations
        if op.axis is axis and (not collectives or op.collective in collectives)
    )


@dataclass(frozen=True, slots=True)
class _Sent:
    """Stands for what a collective costs: the bytes that a rank sends, instead of seconds."""

    share: Array

    def seconds(self, nbytes: Array, group: NDArray[np.intp]) -> Array:
        return self.share[group] * nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SentForWeights:
    """Bytes that one rank sends for parameters and gradients: one time, and in a whole step."""

    gather: float
    scatter: float
    across: float
    step: float


def sent_for_weights(work: Prepared) -> SentForWeights:
    """Return what the clock takes one rank to send where nothing hides behind computing."""
    ranks = int(work.batch.gpus[0])
    device, fabric = machine(f"h100-dgx:{-(-ranks // 8)}")
    clock = DataParallelClock(work, device, fabric, RankParts.of(work, 0))
    shared = clock.shared
    shards, replicas = ((n - 1) / n for n in (shared.shards.size, shared.replicas.size))
    shared.costs = {
        Collective.ALL_REDUCE: _Sent(2 * shards),
        Collective.ALL_GATHER: _Sent(shards),
        Collective.REDUCE_SCATTER: _Sent(shards),
    }
    shared.across = _Sent(2 * replicas)
    none = np.zeros(len(work))
    parts = Parts(layers=(none,) * len(work.layers), embedding=none, head=none)
    nothing = HidingPass(busy_s=none, edge_s=none, between_s=none, parts_s=parts)
    sums = clock.gather_s(), clock.scatter_s(), clock.across_s()
    gather, scatter, across = (float(each[0]) for each in sums)
    step = float(sum(clock.exposed(nothing, nothing, none))[0])
    return SentForWeights(gather=gather, scatter=scatter, across=across, step=step)
