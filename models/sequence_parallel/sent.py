"""What sequence parallelism of attention sends, and the buffers it needs for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.kernel_set import EAGER, FUSED
from models.operation import Axis, Communication
from models.recompute_modules import RecomputeModules
from models.sequence_parallel.heads import (
    exchanged_elements,
    local_kv_elements,
    local_output_elements,
    local_query_elements,
)
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.layout import Array
    from models.sequence_parallel.heads import AttentionHeads
    from models.shape import Shapes

#: Name of the compute operation that ring hops may hide behind.
CORE_ATTENTION = "core attention"
#: Name of Ulysses' exchange of queries, keys and values.
EXCHANGE = "ulysses q, k, v"
#: What names of hops inside windows begin with.
INSIDE = "inner ring"


def forward_communication(attention: AttentionHeads, shapes: Shapes) -> tuple[Communication, ...]:
    """Return what attention sends forward, in order."""
    into, out = exchange(attention, shapes)
    return (into, *_blocks_forward(attention, shapes), out)


def backward_communication(attention: AttentionHeads, shapes: Shapes) -> tuple[Communication, ...]:
    """Return what attention sends backward, in order: exchanges mirror the forward ones."""
    into, out = exchange(attention, shapes)
    return (out, *_blocks_backward(attention, shapes), into)


def exchange(attention: AttentionHeads, shapes: Shapes) -> tuple[Communication, Communication]:
    """Return Ulysses' all-to-all of q, k, v (three calls) and of o (one)."""
    qkv, output = exchanged_elements(attention, shapes)
    active = np.where(shapes.ulysses > 1, 1.0, 0.0)
    into = Communication(
        name=EXCHANGE,
        collective=Collective.ALL_TO_ALL,
        axis=Axis.ULYSSES,
        nbytes=qkv * BF16 / 3.0,
        calls=3.0 * active,
        modules=RecomputeModules.CORE_ATTN,
    )
    out = Communication(
        name="ulysses o",
        collective=Collective.ALL_TO_ALL,
        axis=Axis.ULYSSES,
        nbytes=output * BF16,
        calls=active,
        modules=RecomputeModules.CORE_ATTN,
    )
    return into, out


def _blocks_forward(attention: AttentionHeads, shapes: Shapes) -> tuple[Communication, ...]:
    elements = local_kv_elements(attention, shapes)
    hops = _hops("k, v", elements * BF16, shapes)
    apart = _gathers(shapes)
    gather = Communication(
        name="all-gather k, v",
        collective=Collective.ALL_GATHER,
        axis=Axis.RING,
        nbytes=elements * BF16 * shapes.ring / apart,
        calls=np.where(shapes.gathers_kv, apart, 0.0),
        modules=RecomputeModules.CORE_ATTN,
    )
    return *hops, gather


def _blocks_backward(attention: AttentionHeads, shapes: Shapes) -> tuple[Communication, ...]:
    elements = local_kv_elements(attention, shapes)
    gradient_bytes = shapes.pick(FUSED.kv_gradient_bytes, EAGER.kv_gradient_bytes)
    homecoming = shapes.pick(FUSED.homecoming_hops, EAGER.homecoming_hops)
    *hops, gather = _blocks_forward(attention, shapes)
    gradients = _hops(
        "dk, dv", elements * gradient_bytes, shapes, homecoming=homecoming, behind=True
    )
    scatter = Communication(
        name="reduce-scatter dk, dv",
        collective=Collective.REDUCE_SCATTER,
        axis=Axis.RING,
        nbytes=elements * gradient_bytes * shapes.ring / _gathers(shapes),
        calls=gather.calls,
    )
    return *hops, *gradients, gather, scatter


def _gathers(shapes: Shapes) -> Array:
    """Return how many collectives move keys and values: TransformerEngine has two, torch one."""
    return shapes.pick(2.0, 1.0)


def _hops(
    what: str,
    nbytes: Array,
    shapes: Shapes,
    *,
    homecoming: Array | float = 0.0,
    behind: bool = False,
) -> tuple[Communication, Communication]:
    """Return the hops of every rank's block from window to window, and inside windows.

    Of ``W`` windows of ``w`` ranks: ``W - 1`` and ``W (w - 1)`` hops, together the ``ring - 1`` of
    a flat ring, whose windows are single ranks. Gradients travel with their blocks: those of one
    round go round the window, then what earlier windows summed is added and sent on. They end one
    hop from home in both rings, or at home in both if the backward pass goes the forward one's way
    back, and make `homecoming` more hops in each.
    """
    between, inside = shapes.windows - 1.0, shapes.windows * (shapes.inner_ring - 1.0)
    ringing = ~shapes.gathers_kv
    return (
        Communication(
            name=f"ring {what}",
            collective=Collective.SHIFT,
            axis=Axis.RING,
            nbytes=nbytes,
            calls=np.where(ringing & (between > 0), between + homecoming, 0.0),
            hidden_by=CORE_ATTENTION,
            behind=behind,
            modules=RecomputeModules.CORE_ATTN,
        ),
        Communication(
            name=f"{INSIDE} {what}",
            collective=Collective.SHIFT,
            axis=Axis.INNER_RING,
            nbytes=nbytes,
            calls=np.where(ringing & (inside > 0), inside + homecoming, 0.0),
            hidden_by=CORE_ATTENTION,
            behind=behind,
            modules=RecomputeModules.CORE_ATTN,
        ),
    )


def forward_buffer_bytes(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return the largest buffers of one layer's attention in the forward pass.

    Ring, eager (ring-flash-attention): two key/value buffers, the sum of o in fp32, and a block's o
    in bf16 and raised to fp32. Ring, fused (TransformerEngine ``context_parallel.py``): every
    received key/value block and partial output until it returns. Double ring: a block more, on its
    way to the next window (of fused kernels, one of those kept). All-gather: the gathered keys and
    values; eager, o as of the ring. Ulysses: q, k, v as before their exchange, then o as after it.
    """
    kv, output = local_kv_elements(attention, shapes), local_output_elements(attention, shapes)
    summing = (FP32 + BF16 + FP32) * output
    keeping = shapes.ring * (kv + output) * BF16
    ring = shapes.pick(keeping, _blocks(shapes) * kv * BF16 + summing)
    gathered = shapes.ring * kv * BF16 + shapes.pick(0.0, summing)
    into, out = (each * BF16 for each in exchanged_elements(attention, shapes))
    held: Array = into + np.maximum(_along_ring(ring, gathered, shapes), out)
    return held


def backward_buffer_bytes(attention: AttentionHeads, shapes: Shapes) -> Array:
    """Return the largest buffers of one layer's attention in the backward pass.

    Ring: two key/value buffers and their gradients', in fp32 if eager, where dq is summed in fp32
    as well. Double ring: a block more with its gradients. All-gather: the gathered keys and values
    and their gradients; eager, dq in fp32. Ulysses: do as before its exchange, then dq, dk, dv as
    after theirs.
    """
    kv, queries = local_kv_elements(attention, shapes), local_query_elements(attention, shapes)
    gradient_bytes = shapes.pick(FUSED.kv_gradient_bytes, EAGER.kv_gradient_bytes)
    both, summing = kv * (BF16 + gradient_bytes), shapes.pick(0.0, FP32 * queries)
    ring, gathered = _blocks(shapes) * both + summing, shapes.ring * both + summing
    into, out = (each * BF16 for each in exchanged_elements(attention, shapes))
    held: Array = out + np.maximum(_along_ring(ring, gathered, shapes), into)
    return held


def _blocks(shapes: Shapes) -> Array:
    """Return blocks of keys and values that a rank holds as they travel."""
    return np.where(shapes.inner_ring > 1, 3.0, 2.0)


def _along_ring(ring: Array, gathered: Array, shapes: Shapes) -> Array:
    return np.where(shapes.gathers_kv, gathered, np.where(shapes.ring > 1, ring, 0.0))
