"""Models, shapes of work and machines that several tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.catalogue import CONFIGS, load_architecture, read_json
from models.compute import Device
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.layout import Layout, LayoutBatch
from models.prepared import Prepared
from models.profile import load_profile
from models.shape import Shapes
from models.workload import Workload
from topologies.catalogue import load_cluster
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.architecture import Architecture, Layer
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
    architecture: Architecture, *layouts: Layout, seq_len: int = 4096, global_batch: int = 64
) -> Prepared:
    """Return some layouts of a model with their inventory."""
    workload = Workload(seq_len=seq_len, global_batch=global_batch)
    return Prepared.of(architecture, workload, LayoutBatch.of(layouts))


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
