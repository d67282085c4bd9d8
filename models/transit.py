"""Parameters and gradients that a rank holds only on their way between ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.state_bytes import expert_shard_ranks, gathers_each_pass, shard_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Array, Bools
    from models.prepared import Prepared

#: Layers whose parameters FSDP holds gathered: the running one and the next.
GATHERED_LAYERS = 2.0
#: Buckets of gradients where they are sent in such: one that fills and one that is sent (deepspeed
#: 0.12.6 runtime/zero/stage_1_and_2.py ``ipg_buffer``; stage3.py ``__ipg_bucket_flat_buffer`` and
#: what ``reduce_scatter_coalesced`` puts together).
BUCKETS = 2.0


def regathers(prepared: Prepared) -> Bools:
    """Return which layouts gather a layer's parameters for each of its passes.

    With pipeline stages all parameters stay gathered and are billed as parameters.
    """
    found: Bools = gathers_each_pass(prepared.batch) & (shard_ranks(prepared) > 1)
    return found


def layer_in_transit(
    prepared: Prepared, layers: Sequence[Array], experts: Sequence[Array] | None
) -> Array:
    """Return bytes of layers' parameters as they are gathered, and of gradients as they are sent.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    layers, experts
        Parameters of each kind of layer beside its experts, and those of its experts.
    """
    if experts is not None:
        # Experts that no other rank holds are never sent: they are whole where they are.
        sent = np.where(expert_shard_ranks(prepared) > 1, 1.0, 0.0)
        layers = [own + sent * each for own, each in zip(layers, experts, strict=True)]
    largest: Array = np.max(layers, axis=0)
    whole_bytes = prepared.workload.recipe.kept_bytes.value
    gathered = np.where(regathers(prepared), GATHERED_LAYERS * whole_bytes, 0.0)
    return largest * gathered + _sent_gradients(prepared, largest)


def _sent_gradients(prepared: Prepared, layer: Array) -> Array:
    """Return gradients as they are sent: those of a layer, or two buckets."""
    workload, zero = prepared.workload, prepared.batch.zero
    bucket, nbytes = workload.runs_on.gradient_bucket, workload.states.reduced_bytes
    if bucket:
        return np.where(zero >= 1, BUCKETS * bucket * nbytes, 0.0)
    return np.where((zero >= 2) & (shard_ranks(prepared) > 1), layer * nbytes, 0.0)
