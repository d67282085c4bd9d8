"""What the groups of ranks that talk to each other keep of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array
    from models.prepared import Prepared
    from models.profile import Profile


def communicator_bytes(prepared: Prepared, profile: Profile) -> Array:
    """Return the buffers of all groups of a rank: of its axes, of a model's ranks, of all."""
    batch = prepared.batch
    axes = [batch.tp, batch.ulysses, batch.ring, batch.inner_ring, batch.pp, batch.dp]
    if prepared.parameters.has_experts:
        axes += [batch.ep, batch.etp]
    groups: Array = np.where(batch.gpus > 1, 1.0, 0.0) + ((batch.tp > 1) & (batch.pp > 1))
    for axis in axes:
        groups = groups + (axis > 1)
    return groups * prepared.workload.runs_on.group_sets * profile.group_bytes.value
