"""What autograd keeps from the forward to the backward pass, operator by operator.

*Eager* follows the Hugging Face modules in bf16 (an RMSNorm keeps its fp32 copy, the normalised and
the scaled tensor; flash attention keeps q, k, v, o and the fp32 log-sum-exp; a gated MLP four
tensors of its width). *Fused* follows Megatron-Core with TransformerEngine: a norm fused with its
product keeps its input and its output; the activation keeps only the first product's output.
Neither keeps anything for a residual addition.

Under *selective* recomputation fused kernels repeat modules (Megatron's ``--recompute-modules``):
of core attention q, k, v and the output projection's input stay, of a norm its input, of a dense
MLP the input of its norm. Eager kernels keep what torchtitan's per-operator policy keeps: every
other product's output and the attention's.

Every line equals torch's own saved tensors; ``tests/models/test_saved_tensors.py`` compares them.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.operation import Saved
from models.recompute_modules import RecomputeModules
from models.sequence_parallel.heads import (
    kv_heads_of_tp_rank,
    local_kv_elements,
    query_heads,
    score_matrices,
)
from models.unfused_attention import score_bytes

if TYPE_CHECKING:
    from models.architecture import Architecture, Attention, Layer, Mlp, NormKind
    from models.layout import Array
    from models.sequence_parallel.heads import AttentionHeads
    from models.shape import Shapes

#: Eager norms before a mixer, bytes per element: what stays sharded, and the mixer's input.
EAGER_NORM: dict[NormKind, tuple[float, float]] = {
    "rms": (6.0, 2.0),
    "rms_wide": (8.0, 2.0),
    "rms_offset": (8.0, 2.0),
    "layer": (2.0, 2.0),
    "layer_offset": (2.0, 2.0),
    "layer_no_bias": (12.0, 2.0),
}
#: An eager norm of queries or keys without weights (Llama 4), bytes per element.
EAGER_UNWEIGHTED_NORM = 4.0
#: fp32 statistics per token: the reciprocal deviation, and LayerNorm's mean.
STATISTICS: dict[NormKind, float] = {
    "rms": FP32,
    "rms_wide": FP32,
    "rms_offset": FP32,
    "layer": 2.0 * FP32,
    "layer_offset": 2.0 * FP32,
    "layer_no_bias": FP32,
}
#: Loss, bytes per logit: kept until backward, and alive beside that at the peak.
LOSS_KEPT = FP32
EAGER_LOSS_WORKING, FUSED_LOSS_WORKING = 8.0, 2.0
#: The same of a loss that reads logits in bf16: those, and their gradient.
BF16_LOSS_KEPT, BF16_LOSS_WORKING = BF16, BF16
#: Tensors of its width that an eager MLP without a gate keeps: most activations their input, GELU
#: from elementary operators (GPT-2) five, ReLU its output alone, which the next product reads.
UNGATED_TENSORS = {"gelu_new": 5.0, "relu": 1.0}


def embedding(architecture: Architecture, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what the embedding keeps: the token numbers, eight bytes each, and its norm's part."""
    numbers = 8.0 * shapes.tokens
    kept = (Saved(name="token numbers", nbytes=numbers, selective_nbytes=numbers),)
    if not architecture.embedding_norm:
        return kept
    norm = _after_bytes(architecture.layers[0].norm, architecture.hidden, shapes)
    return (*kept, Saved(name="embedding norm", nbytes=norm, selective_nbytes=norm))


def head(architecture: Architecture, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what the last norm, the head and the loss keep."""
    kind = architecture.layers[-1].norm
    norm = _norm_bytes(kind, architecture.hidden, shapes, BF16)
    logits = (
        shapes.tokens
        * np.ceil(architecture.vocab / shapes.tp)
        * (BF16_LOSS_KEPT if shapes.software.bf16_loss else LOSS_KEPT)
    )
    return (
        Saved(name="final norm", nbytes=norm, selective_nbytes=norm),
        Saved(name="loss", nbytes=logits, selective_nbytes=logits),
    )


def loss_working_bytes(architecture: Architecture, shapes: Shapes) -> Array:
    """Return what the loss needs at its peak beyond what it keeps."""
    logits = shapes.tokens * np.ceil(architecture.vocab / shapes.tp)
    if shapes.software.bf16_loss:
        return logits * BF16_LOSS_WORKING
    return logits * shapes.pick(FUSED_LOSS_WORKING, EAGER_LOSS_WORKING)


def _norm_bytes(
    kind: NormKind,
    hidden: int,
    shapes: Shapes,
    input_bytes: Array | float,
    *,
    shared: bool = False,
) -> Array:
    """Return what a norm and the input of the product behind it keep.

    With tp_sp the norm's part is sharded; eager kernels keep the gathered input beside it, fused
    ones their shard of it, of `input_bytes` an element. A `shared` input is kept by another norm
    already.
    """
    kept, output = EAGER_NORM[kind]
    again = BF16 * hidden if shared else 0.0
    copied = kind not in ("layer", "layer_offset")  # to fp32, in plain modules
    own = kept * hidden + STATISTICS[kind] - (0.0 if copied else again)
    eager = own / shapes.norm_shard + output * hidden
    kept_bytes = (BF16 + input_bytes) * hidden + STATISTICS[kind] - again
    fused = kept_bytes / shapes.norm_shard
    return shapes.tokens * shapes.pick(fused, eager)


def norm_input(
    name: str,
    kind: NormKind,
    hidden: int,
    shapes: Shapes,
    input_bytes: Array | float,
    *,
    selective_input: bool,
    modules: RecomputeModules,
    shared: bool = False,
) -> Saved:
    """Return what a norm before a mixer keeps, and the mixer's input, of `input_bytes` an element.

    `selective_input` is whether eager selective recomputation keeps the norm's input, `modules` are
    those with which fused kernels keep nothing else, `shared` is whether an earlier norm of the
    layer reads the same and keeps it.
    """
    nbytes = _norm_bytes(kind, hidden, shapes, input_bytes, shared=shared)
    layer_input = shapes.tokens * hidden * BF16 / shapes.norm_shard
    return Saved(
        name=name,
        nbytes=nbytes,
        selective_nbytes=shapes.pick(
            0.0 if shared else layer_input, layer_input if selective_input else 0.0
        ),
        modules=modules,
    )


def stream_input(name: str, hidden: int, shapes: Shapes, *, selective_input: bool) -> Saved:
    """Return what a mixer without a norm before it keeps: the residual stream it reads.

    Parameters as of :func:`norm_input`; with tp_sp eager kernels keep the gathered stream.
    """
    stream = shapes.tokens * hidden * BF16
    sharded = stream / shapes.norm_shard
    selective = shapes.pick(sharded, sharded if selective_input else 0.0)
    return Saved(name=name, nbytes=shapes.pick(sharded, stream), selective_nbytes=selective)


def post_norm(name: str, part: Layer, hidden: int, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what a norm after a mixer keeps, where the layer has one."""
    if not part.normed_after:
        return ()
    nbytes = _after_bytes(part.norm, hidden, shapes)
    return (Saved(name=name, nbytes=nbytes, selective_nbytes=shapes.pick(nbytes, 0.0)),)


def _after_bytes(kind: NormKind, hidden: int, shapes: Shapes) -> Array:
    """Return what a norm keeps whose output no product reads."""
    kept, _ = EAGER_NORM[kind]
    per_token = shapes.pick(BF16 * hidden, kept * hidden) + STATISTICS[kind]
    return shapes.tokens * per_token / shapes.norm_shard


def _head_norms(mixer: Attention, norm: NormKind, shapes: Shapes) -> tuple[Saved, ...]:
    if not mixer.qk_norm:
        return ()
    heads = mixer.heads / shapes.tp + kv_heads_of_tp_rank(mixer, shapes)
    eager = EAGER_UNWEIGHTED_NORM if mixer.qk_weights == "none" else EAGER_NORM[norm][0]
    rows = 2.0 if mixer.whole_row_norms(norm) else heads
    elements = heads * mixer.head_dim
    nbytes = shapes.tokens * (elements * shapes.pick(BF16, eager) + rows * STATISTICS[norm])
    return (Saved(name="head norms", nbytes=nbytes, selective_nbytes=shapes.pick(nbytes, 0.0)),)


def attention(mixer: Attention, norm: NormKind, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what attention keeps; `norm` is the kind of its heads' norms, if they have any."""
    queries = shapes.tokens * mixer.q_width / shapes.tp
    keys = shapes.tokens * kv_heads_of_tp_rank(mixer, shapes) * mixer.head_dim
    exchanged = np.where(shapes.ulysses > 1, 1.0, 0.0)
    # Values are part of what one joint product made, which lives on beside rotated q and k.
    uncut = np.where(shapes.batch.cp > 1, 0.0, 1.0)
    beside = uncut * shapes.pick(0.0, (queries + keys) * (mixer.joint and mixer.rotary))
    # Queries put together of rotated and other columns lie by heads, and so does the output.
    assembled = mixer.rotary and (mixer.joint or mixer.rotary_share < 1)
    inputs = shapes.input_bytes * queries
    # The core keeps its output in bf16; that and the output product's input are one tensor where
    # neither an exchange nor a cast is between them.
    apart = (exchanged > 0) | (shapes.input_bytes != BF16)
    projections = shapes.pick(queries + 2.0 * keys, queries + keys * _products_kept(mixer))
    return (
        *_head_norms(mixer, norm, shapes),
        *_output_gate(mixer, shapes),
        Saved(
            name="q, k, v",
            nbytes=BF16 * (queries + local_kv_elements(mixer, shapes) + beside),
            selective_nbytes=BF16 * projections,
            modules=RecomputeModules.CORE_ATTN,
        ),
        Saved(
            name="o before it is transposed",
            nbytes=uncut * shapes.pick(0.0, BF16 * queries * assembled),
            selective_nbytes=np.zeros(len(shapes)),
        ),
        Saved(name="o", nbytes=inputs, selective_nbytes=inputs),
        Saved(
            name="o of the core",
            nbytes=np.where(apart, BF16 * queries, 0.0),
            selective_nbytes=BF16 * queries * exchanged * shapes.pick(0.0, 1.0),
            modules=RecomputeModules.CORE_ATTN,
        ),
        attention_weights(mixer, shapes),
    )


def attention_weights(mixer: AttentionHeads, shapes: Shapes) -> Saved:
    """Return what is kept of attention's scores: flash attention, a number for every row."""
    modules = RecomputeModules.CORE_ATTN
    if shapes.software.unfused:
        kept, _ = score_bytes(*score_matrices(mixer, shapes))
        none = np.zeros(len(shapes))
        return Saved(name="scores", nbytes=kept, selective_nbytes=none, modules=modules)
    statistics = FP32 * shapes.ring_tokens * query_heads(mixer, shapes)
    return Saved(
        name="log-sum-exp",
        nbytes=statistics,
        selective_nbytes=shapes.pick(0.0, statistics),
        modules=modules,
    )


def _output_gate(mixer: Attention, shapes: Shapes) -> tuple[Saved, ...]:
    """Return the sigmoid (fused: the gate) and the product that an output's gate keeps."""
    if not mixer.gated:
        return ()
    output = BF16 * shapes.tokens * mixer.q_width / shapes.tp
    return (
        Saved(
            name="output gate",
            nbytes=2.0 * output,
            selective_nbytes=shapes.pick(2.0 * output, output),
        ),
    )


def _products_kept(mixer: Attention) -> float:
    """Return how many of k and v torchtitan's every-other-product policy keeps.

    With separate products q, k, v the first and third are kept; one joint product (GPT-2) is kept
    whole.
    """
    return 2.0 if mixer.joint else 1.0


def down_input(part: Mlp, shapes: Shapes) -> Array:
    """Return what is kept of the last product's input."""
    return shapes.input_bytes * shapes.tokens * part.intermediate / shapes.tp


def mlp(part: Mlp, hidden: int, shapes: Shapes, products_before: int = 0) -> tuple[Saved, ...]:
    """Return what a dense channel mixer keeps, behind so many other products of its layer."""
    width = BF16 * shapes.tokens * part.intermediate / shapes.tp
    down = down_input(part, shapes)
    stream = BF16 * shapes.tokens * hidden
    if part.gated:
        products = [2.0 * width, stream] if part.joint else [width, width, stream]
        kept = shapes.pick(2.0 * width + down, 4.0 * width)
    else:
        products = [width, stream]
        kept = shapes.pick(width + down, UNGATED_TENSORS.get(part.activation, 2.0) * width)
    every_other = shapes.pick(0.0, reduce(np.add, products[products_before % 2 :: 2]))
    modules = RecomputeModules.MLP
    return (Saved(name="mlp", nbytes=kept, selective_nbytes=every_other, modules=modules),)
