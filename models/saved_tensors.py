"""What autograd keeps from the forward to the backward pass, operator by operator.

*Eager* follows the Hugging Face modules in bf16 (an RMSNorm keeps its fp32 copy, the normalised and
the scaled tensor; flash attention keeps q, k, v, o and the fp32 log-sum-exp; a gated MLP four
tensors of its width). *Fused* follows Megatron-Core with TransformerEngine: a norm fused with its
product keeps its input and its output; the activation keeps only the first product's output.
Neither keeps anything for a residual addition.

Under *selective* recomputation fused kernels repeat the core attention (Megatron's ``core_attn``):
q, k, v and the output projection's input stay. Eager kernels keep what torchtitan's per-operator
policy keeps: every other product's output and the attention's.

Every line equals torch's own saved tensors; ``tests/models/test_saved_tensors.py`` compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.operation import Saved
from models.sequence_parallel.heads import (
    kv_heads_of_tp_rank,
    local_kv_elements,
    query_heads,
)

if TYPE_CHECKING:
    from models.architecture import Architecture, Attention, Layer, Mlp, NormKind
    from models.layout import Array
    from models.shape import Shapes

#: Eager norms before a mixer, bytes per element: what stays sharded, and the mixer's input.
EAGER_NORM = {"rms": (6.0, 2.0), "rms_offset": (8.0, 2.0), "layer": (2.0, 2.0)}
#: Eager norms over each head, bytes per element.
EAGER_HEAD_NORM = {"rms": 6.0, "rms_offset": 8.0, "layer": 2.0}
#: fp32 statistics per token: the reciprocal deviation, and LayerNorm's mean.
STATISTICS = {"rms": FP32, "rms_offset": FP32, "layer": 2.0 * FP32}
#: Loss, bytes per logit: kept until backward, and alive beside that at the peak.
LOSS_KEPT = FP32
EAGER_LOSS_WORKING, FUSED_LOSS_WORKING = 8.0, 2.0
#: Tensors of the MLP's width that GELU built from elementary operators keeps.
ELEMENTARY_GELU_TENSORS = 5.0


def embedding(shapes: Shapes) -> tuple[Saved, ...]:
    """Return what the embedding keeps: the token numbers, eight bytes each."""
    numbers = 8.0 * shapes.tokens
    return (Saved(name="token numbers", nbytes=numbers, selective_nbytes=numbers),)


def head(architecture: Architecture, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what the last norm, the head and the loss keep."""
    kind = architecture.layers[-1].norm
    norm = _norm_bytes(kind, architecture.hidden, shapes, BF16)
    logits = shapes.tokens * np.ceil(architecture.vocab / shapes.tp) * LOSS_KEPT
    return (
        Saved(name="final norm", nbytes=norm, selective_nbytes=norm),
        Saved(name="loss", nbytes=logits, selective_nbytes=logits),
    )


def loss_working_bytes(architecture: Architecture, shapes: Shapes) -> Array:
    """Return what the loss needs at its peak beyond what it keeps."""
    logits = shapes.tokens * np.ceil(architecture.vocab / shapes.tp)
    return logits * shapes.pick(FUSED_LOSS_WORKING, EAGER_LOSS_WORKING)


def _norm_bytes(kind: NormKind, hidden: int, shapes: Shapes, input_bytes: Array | float) -> Array:
    """Return what a norm and the input of the product behind it keep.

    With tp_sp the norm's part is sharded; eager kernels keep the gathered input beside it, fused
    ones their shard of it, of `input_bytes` an element.
    """
    kept, output = EAGER_NORM[kind]
    eager = (kept * hidden + STATISTICS[kind]) / shapes.norm_shard + output * hidden
    fused = ((BF16 + input_bytes) * hidden + STATISTICS[kind]) / shapes.norm_shard
    return shapes.tokens * shapes.pick(fused, eager)


def norm_input(
    name: str, kind: NormKind, hidden: int, shapes: Shapes, *, selective_input: bool
) -> Saved:
    """Return what a norm before a mixer keeps, and the mixer's input.

    `selective_input` is whether eager selective recomputation keeps the norm's input.
    """
    nbytes = _norm_bytes(kind, hidden, shapes, shapes.input_bytes)
    layer_input = shapes.tokens * hidden * BF16 / shapes.norm_shard
    return Saved(
        name=name,
        nbytes=nbytes,
        selective_nbytes=shapes.pick(nbytes, layer_input if selective_input else 0.0),
    )


def post_norm(name: str, part: Layer, hidden: int, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what a norm after a mixer keeps, where the layer has one."""
    if part.norms == 2:
        return ()
    kept, _ = EAGER_NORM[part.norm]
    per_token = shapes.pick(BF16 * hidden, kept * hidden) + STATISTICS[part.norm]
    nbytes = shapes.tokens * per_token / shapes.norm_shard
    return (Saved(name=name, nbytes=nbytes, selective_nbytes=shapes.pick(nbytes, 0.0)),)


def _head_norms(mixer: Attention, norm: NormKind, shapes: Shapes) -> tuple[Saved, ...]:
    if not mixer.qk_norm:
        return ()
    heads = mixer.heads / shapes.tp + kv_heads_of_tp_rank(mixer, shapes)
    element = shapes.pick(BF16, EAGER_HEAD_NORM[norm])
    nbytes = shapes.tokens * heads * (mixer.head_dim * element + FP32)
    return (Saved(name="head norms", nbytes=nbytes, selective_nbytes=shapes.pick(nbytes, 0.0)),)


def attention(mixer: Attention, norm: NormKind, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what attention keeps; `norm` is the kind of its heads' norms, if they have any."""
    queries = shapes.tokens * mixer.q_width / shapes.tp
    keys = shapes.tokens * kv_heads_of_tp_rank(mixer, shapes) * mixer.head_dim
    exchanged = np.where(shapes.ulysses > 1, 1.0, 0.0)
    statistics = FP32 * shapes.ring_tokens * query_heads(mixer, shapes)
    inputs = shapes.input_bytes * queries
    # The core keeps its output in bf16; that and the output product's input are one tensor where
    # neither an exchange nor a cast is between them.
    apart = (exchanged > 0) | (shapes.input_bytes != BF16)
    projections = shapes.pick(queries + 2.0 * keys, queries + keys * _products_kept(mixer))
    return (
        *_head_norms(mixer, norm, shapes),
        Saved(
            name="q, k, v",
            nbytes=BF16 * (queries + local_kv_elements(mixer, shapes)),
            selective_nbytes=BF16 * projections,
        ),
        Saved(name="o", nbytes=inputs, selective_nbytes=inputs),
        Saved(
            name="o of the core",
            nbytes=np.where(apart, BF16 * queries, 0.0),
            selective_nbytes=BF16 * queries * exchanged * shapes.pick(0.0, 1.0),
        ),
        Saved(
            name="log-sum-exp",
            nbytes=statistics,
            selective_nbytes=shapes.pick(0.0, statistics),
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


def mlp(part: Mlp, hidden: int, shapes: Shapes) -> tuple[Saved, ...]:
    """Return what a dense channel mixer keeps."""
    width = BF16 * shapes.tokens * part.intermediate / shapes.tp
    down = down_input(part, shapes)
    stream = BF16 * shapes.tokens * hidden
    if part.gated:
        kept = shapes.pick(2.0 * width + down, 4.0 * width)
        selective = shapes.pick(kept, width + stream)
    else:
        eager = ELEMENTARY_GELU_TENSORS if part.activation == "gelu_new" else 2.0
        kept = shapes.pick(width + down, eager * width)
        selective = shapes.pick(kept, width)
    return (Saved(name="mlp", nbytes=kept, selective_nbytes=selective),)
