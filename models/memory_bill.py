"""The lines of the memory bill, and the three sums that tools report.

What ``torch.cuda.max_memory_allocated`` reports are tensors alone; ``max_memory_reserved`` adds
what the caching allocator holds beyond them; ``nvidia-smi`` adds what is no memory of the allocator
at all: the context, communicators, workspaces of libraries (torch documentation, *CUDA semantics*,
section on memory management).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.layout import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBill:
    """Bytes on the fullest rank; arrays over layouts.

    Parameters
    ----------
    parameters, gradients, optimizer
        Model states, after sharding. Gradients are those that are there at the peak: none while a
        loss is taken where they come only with the backward pass.
    activations
        Saved tensors of all micro-batches in flight; where the end of a backward pass is the peak,
        those of its last layer.
    logits
        What the loss needs at its peak beyond its saved tensors.
    working
        What one layer's backward pass needs beyond `logits` and what the loss keeps, which is gone
        by then: gradients, repeated activations.
    buffers
        Communication: ring and all-to-all buffers, gathered keys and values, FSDP's gathered
        layers and gradients as they are sent, before they are sharded: those of a layer (ZeRO-2, 3)
        or of two buckets.
    step
        What the optimizer's step needs beyond all that passes needed.
    fragmentation
        What the allocator holds beyond what is asked for.
    context
        The device's context.
    communicators
        Buffers of collectives, of every group that a rank is in.
    workspaces
        What libraries of products and attention keep for themselves.
    stage
        Pipeline rank of the fullest rank.
    least
        All lines together with no more in reserve than the allocator cannot give back.
    """

    parameters: Array
    gradients: Array
    optimizer: Array
    activations: Array
    logits: Array
    working: Array
    buffers: Array
    step: Array
    fragmentation: Array
    context: Array
    communicators: Array
    workspaces: Array
    stage: Array
    least: Array

    @property
    def allocated(self) -> Array:
        """Tensors alone."""
        return self._sum(SUMS["allocated"])

    @property
    def reserved(self) -> Array:
        """All that the allocator holds."""
        return self._sum(SUMS["reserved"])

    @property
    def device(self) -> Array:
        """All that a job takes of a device; what must fit."""
        return self._sum(SUMS["device"])

    @property
    def total(self) -> Array:
        """All lines together."""
        return self.device

    def _sum(self, lines: Iterable[str]) -> Array:
        parts: Iterable[Array] = (getattr(self, line) for line in lines)
        return reduce(np.add, parts)


#: The lines of the bill, in the order people read them.
LINES: tuple[str, ...] = tuple(
    f.name for f in fields(MemoryBill) if f.name not in ("stage", "least")
)
#: What each sum adds up: the lines up to one of them.
SUMS: dict[str, tuple[str, ...]] = {
    name: LINES[: LINES.index(last) + 1]
    for name, last in (("allocated", "step"), ("reserved", "fragmentation"), ("device", LINES[-1]))
}
