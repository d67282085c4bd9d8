"""Bytes a rank keeps of each parameter: ZeRO's shards, and forms of quantised weights.

Data- and context-parallel ranks hold the same weights and shard them together (ZeRO,
arXiv:1910.02054 section 3); experts are held by fewer ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.expert_mesh import expert_data_ranks

if TYPE_CHECKING:
    from models.layout import Array, Bools, LayoutBatch
    from models.prepared import Prepared


def shard_ranks(prepared: Prepared) -> Array:
    """Return the ranks over which ZeRO shards: data times context parallel, within a replica."""
    batch = prepared.batch
    return batch.dp * batch.cp / batch.dp_replicate


def expert_shard_ranks(prepared: Prepared) -> Array:
    """Return the ranks over which ZeRO shards experts: those that hold the same, in a replica."""
    return expert_data_ranks(prepared.batch) / prepared.batch.dp_replicate


def gathers_each_pass(batch: LayoutBatch) -> Bools:
    """Return where parameters are gathered for every pass: ZeRO-3 without pipeline stages.

    With stages all that a rank has stays gathered (torchtitan's default with pipelining).
    """
    found: Bools = (batch.zero == 3) & (batch.pp == 1)
    return found


def reduces_each_pass(batch: LayoutBatch) -> Bools:
    """Return where the gradients of every micro-batch are reduced, and only shards of them kept.

    That is ZeRO-2 and 3 without pipeline stages. Ranks of a pipeline keep them whole, as they are
    summed, until the last micro-batch has been (torch 2.13 ``distributed/pipelining/stage.py``
    ``backward_maybe_with_nosync``, ``fsdp/_fully_shard/_fsdp_param.py``
    ``unsharded_accumulated_grad``: the only software known to run both together).
    """
    found: Bools = (batch.zero >= 2) & (batch.pp == 1)
    return found


def state_bytes(prepared: Prepared, shards: Array) -> tuple[Array, Array, Array]:
    """Return bytes per parameter of a rank, sharded so many ways: parameters, gradients, optimizer.

    With ZeRO-3 and pipeline stages the parameters of a stage stay gathered from the first to the
    last micro-batch (torchtitan's default with pipelining), beside the shard.
    """
    batch, states = prepared.batch, prepared.workload.states
    share = 1.0 / shards
    whole, sharded = _held(prepared)
    parameters = whole + sharded * share
    gradients = np.where(reduces_each_pass(batch), share, 1.0)
    optimizer = np.where(batch.zero >= 1, share, 1.0)
    return (
        states.parameter_bytes * parameters,
        states.gradient_bytes * gradients,
        states.optimizer_bytes * optimizer,
    )


def _held(prepared: Prepared) -> tuple[Array, Array]:
    """Return how often a rank holds its parameters whole between layers, and how often as a shard.

    With ZeRO-3 and pipeline stages it does both. Shards of master weights alone are the
    optimizer's.
    """
    batch, work = prepared.batch, prepared.workload
    copies = not (work.runs_on.shards_masters and work.states.has_masters)
    whole = np.where(gathers_each_pass(batch), 0.0, 1.0)
    return whole, np.where((batch.zero == 3) & copies, 1.0, 0.0)


def weight_bytes(prepared: Prepared, shards: Array) -> Array:
    """Return bytes per parameter of a layer beyond those of :func:`state_bytes`.

    Passes hold every form of a quantised weight; shards are what is gathered.
    """
    recipe, usual = prepared.workload.recipe, prepared.workload.states.parameter_bytes
    whole, sharded = _held(prepared)
    forms = recipe.kept_bytes.value - usual
    return whole * forms + sharded / shards * (recipe.gathered_bytes.value - usual)


def end_bytes(prepared: Prepared) -> Array:
    """Return what the optimizer keeps more of each parameter of the embedding and the head."""
    share = np.where(prepared.batch.zero >= 1, 1.0 / shard_ranks(prepared), 1.0)
    return share * prepared.workload.states.end_bytes
