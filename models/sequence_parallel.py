"""Sequence parallelism of attention: who computes what, and what is sent.

These methods and their products, over ``cp = ulysses * ring`` ranks:

* **Ulysses** (Jacobs et al., arXiv:2309.14509): all-to-all turns a rank's tokens of all heads into
  all tokens of some heads, and back after attention. Key/value heads are replicated when the
  degree exceeds them (DeepSpeed ``ulysses_sp.py``).
* **Ring** (Liu et al., arXiv:2310.01889): keys and values travel ``ring - 1`` hops; backward their
  gradients travel too. Causal work is even if every rank holds a chunk from both ends (zigzag) and
  ``2 - 1/ring`` times the mean on the last rank if it holds one run.
* **Double ring** (LoongTrain, Gu et al., arXiv:2406.18485): a ring of ``R`` ranks in windows of
  ``w``. Blocks go round the window in ``w - 1`` hops, then every rank's moves to the same place of
  the next window, ``R / w - 1`` times in all. That hop starts with the round before it. Windows
  inside a node use all its network cards at once; a flat ring crosses through one.
* **All-gather of keys and values** (Llama 3, arXiv:2407.21783 section 3.3.2) on the ring axis.

The hybrid runs the ring on ``1 / ulysses`` of the heads and ``1 / ring`` of the tokens (USP,
arXiv:2405.07719). Volumes are those of the implementations named in :class:`KernelSet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.kernel_set import EAGER, FUSED
from models.operation import Axis, Communication
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.architecture import Attention
    from models.layout import Array
    from models.shape import Shapes

#: Name of the compute operation that ring hops may hide behind.
CORE_ATTENTION = "core attention"
#: Name of Ulysses' exchange of queries, keys and values.
EXCHANGE = "ulysses q, k, v"


def query_heads(attention: Attention, shapes: Shapes) -> Array:
    """Return query heads one rank attends with: ``H / (tp * ulysses)``."""
    return attention.heads / (shapes.tp * shapes.ulysses)


def kv_heads_of_tp_rank(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads a tensor-parallel rank projects; replicated where tp exceeds them."""
    return np.maximum(attention.kv_heads / shapes.tp, 1.0)


def kv_heads_on_wire(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads that enter Ulysses' all-to-all, replicas included."""
    return np.maximum(kv_heads_of_tp_rank(attention, shapes), shapes.ulysses)


def kv_heads_in_attention(attention: Attention, shapes: Shapes) -> Array:
    """Return key/value heads one rank attends with."""
    return kv_heads_on_wire(attention, shapes) / shapes.ulysses


def causal_pairs(seq_len: float, window: int | None) -> float:
    """Return query-key pairs of one causal sequence, the diagonal counted as half.

    ``S^2 / 2`` without a window (the convention of MFU figures), ``S w - w^2 / 2`` with one.

    >>> causal_pairs(8.0, None), causal_pairs(8.0, 2)
    (32.0, 14.0)
    """
    seen = float(min(window or seq_len, seq_len))
    return seq_len * seen - seen * seen / 2.0


def busiest_over_mean(attention: Attention, shapes: Shapes) -> Array:
    """Return the busiest ring rank's share of causal work over the mean share.

    A contiguous rank ``r`` of ``P`` computes ``r`` full blocks and half of its own, the last one
    ``P - 1/2`` of ``P^2 / 2``. With a window, every query sees about as many keys, and the shares
    are taken as even.
    """
    contiguous = 2.0 - 1.0 / shapes.ring
    if attention.window is not None and attention.window < shapes.seq_len:
        contiguous = np.ones(len(shapes))
    return np.where(shapes.zigzag, 1.0, contiguous)


def queries_attended(attention: Attention, shapes: Shapes) -> Array:
    """Return how often a rank's queries attend on a ring: once for every block, or less.

    With zigzag a rank attends with all its queries to half of an earlier rank's block and with half
    of them to all of a later rank's: of ``P`` blocks three quarters but for its own (ring-flash-
    attention, ``zigzag_ring_flash_attn.py``).
    """
    halved = shapes.zigzag & (attention.window is None or attention.window >= shapes.seq_len)
    attended: Array = 1.0 + (shapes.ring - 1.0) * np.where(halved, 0.75, 1.0)
    return attended


def keys_of_a_kernel(attention: Attention, shapes: Shapes) -> Array:
    """Return the tokens over which a causal kernel has as many keys per query as a ring's blocks.

    Blocks of other ranks are full, so that on average a query has more keys than the causal kernel
    of a rank's own tokens gives it. A window's are taken as they come.
    """
    seq_len = float(shapes.seq_len)
    if attention.window is not None and attention.window < seq_len:
        windowed: Array = np.minimum(seq_len / _steps(shapes), float(attention.window))
        return windowed
    mean = seq_len * busiest_over_mean(attention, shapes) / queries_attended(attention, shapes)
    return np.where(shapes.gathers_kv, seq_len, mean)


def _steps(shapes: Shapes) -> Array:
    """Return the kernels in which a rank attends, one for each block."""
    return np.where(shapes.gathers_kv, 1.0, shapes.ring)


def first_block_share(attention: Attention, shapes: Shapes) -> Array:
    """Return the busiest rank's first block of a ring over each later one.

    A contiguous rank's own block is causal, half of the full ones it receives; with zigzag (and
    with a window, taken as even) all are alike.
    """
    return np.where(busiest_over_mean(attention, shapes) > 1.0, 0.5, 1.0)


def local_kv_elements(attention: Attention, shapes: Shapes) -> Array:
    """Return elements of the keys and values that one rank attends with at a time."""
    return 2.0 * shapes.ring_tokens * kv_heads_in_attention(attention, shapes) * attention.head_dim


def local_query_elements(attention: Attention, shapes: Shapes) -> Array:
    """Return elements of one rank's queries inside attention."""
    return shapes.ring_tokens * query_heads(attention, shapes) * attention.head_dim


def exchanged_elements(attention: Attention, shapes: Shapes) -> tuple[Array, Array]:
    """Return elements of one rank in Ulysses' exchanges: of q, k and v together, and of o."""
    queries = shapes.tokens * attention.heads / shapes.tp * attention.head_dim
    keys_values = 2.0 * shapes.tokens * kv_heads_on_wire(attention, shapes) * attention.head_dim
    active = shapes.ulysses > 1
    return np.where(active, queries + keys_values, 0.0), np.where(active, queries, 0.0)


def forward_communication(attention: Attention, shapes: Shapes) -> tuple[Communication, ...]:
    """Return what attention sends forward, in order."""
    into, out = exchange(attention, shapes)
    return (into, *_blocks_forward(attention, shapes), out)


def backward_communication(attention: Attention, shapes: Shapes) -> tuple[Communication, ...]:
    """Return what attention sends backward, in order: exchanges mirror the forward ones."""
    into, out = exchange(attention, shapes)
    return (out, *_blocks_backward(attention, shapes), into)


def exchange(attention: Attention, shapes: Shapes) -> tuple[Communication, Communication]:
    """Return Ulysses' all-to-all of q, k, v (three calls) and of o (one)."""
    qkv, output = exchanged_elements(attention, shapes)
    active = np.where(shapes.ulysses > 1, 1.0, 0.0)
    again = np.where(shapes.fused, 1.0, 0.0)
    into = Communication(
        name=EXCHANGE,
        collective=Collective.ALL_TO_ALL,
        axis=Axis.ULYSSES,
        nbytes=qkv * BF16 / 3.0,
        calls=3.0 * active,
        selective=again,
    )
    out = Communication(
        name="ulysses o",
        collective=Collective.ALL_TO_ALL,
        axis=Axis.ULYSSES,
        nbytes=output * BF16,
        calls=active,
        selective=again,
    )
    return into, out


def _blocks_forward(attention: Attention, shapes: Shapes) -> tuple[Communication, ...]:
    elements = local_kv_elements(attention, shapes)
    again = np.where(shapes.fused, 1.0, 0.0)
    hops = _hops("k, v", elements * BF16, shapes, selective=again)
    gather = Communication(
        name="all-gather k, v",
        collective=Collective.ALL_GATHER,
        axis=Axis.RING,
        nbytes=elements * BF16 * shapes.ring / 2.0,
        calls=np.where(shapes.gathers_kv, 2.0, 0.0),
        selective=again,
    )
    return *hops, gather


def _blocks_backward(attention: Attention, shapes: Shapes) -> tuple[Communication, ...]:
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
        nbytes=elements * gradient_bytes * shapes.ring / 2.0,
        calls=gather.calls,
    )
    return *hops, *gradients, gather, scatter


def _hops(
    what: str,
    nbytes: Array,
    shapes: Shapes,
    *,
    homecoming: Array | float = 0.0,
    behind: bool = False,
    selective: Array | float = 0.0,
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
            selective=selective,
        ),
        Communication(
            name=f"inner ring {what}",
            collective=Collective.SHIFT,
            axis=Axis.INNER_RING,
            nbytes=nbytes,
            calls=np.where(ringing & (inside > 0), inside + homecoming, 0.0),
            hidden_by=CORE_ATTENTION,
            behind=behind,
            selective=selective,
        ),
    )


def buffer_bytes(attention: Attention, shapes: Shapes) -> Array:
    """Return the largest communication buffers of one layer's attention.

    Ring, eager (ring-flash-attention): two key/value buffers and fp32 accumulators of o, or
    backward of dq, dk, dv. Ring, fused (TransformerEngine ``context_parallel.py``): the forward
    pass keeps every received key/value block and partial output until it returns. Double ring: a
    block more, on its way to the next window (forward of fused kernels, one of those kept), and
    backward its gradients. All-gather: the gathered keys and values, and backward their gradients
    beside them. Ulysses: one staging copy.
    """
    kv, queries = local_kv_elements(attention, shapes), local_query_elements(attention, shapes)
    ringing = (shapes.ring > 1) & ~shapes.gathers_kv
    blocks = np.where(shapes.inner_ring > 1, 3.0, 2.0) * kv
    accumulating = np.maximum(
        blocks * BF16 + 4.0 * queries, blocks * (BF16 + EAGER.kv_gradient_bytes) + 4.0 * queries
    )
    keeping = shapes.ring * (kv + queries) * BF16
    passing = np.maximum(keeping, blocks * (BF16 + FUSED.kv_gradient_bytes))
    ring = np.where(ringing, shapes.pick(passing, accumulating), 0.0)
    gradient_bytes = shapes.pick(FUSED.kv_gradient_bytes, EAGER.kv_gradient_bytes)
    gathered = np.where(shapes.gathers_kv, shapes.ring * kv * (BF16 + gradient_bytes), 0.0)
    staging = sum(exchanged_elements(attention, shapes)) * BF16
    return ring + gathered + staging
