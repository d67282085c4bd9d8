"""The two kernel sets: what their element-wise operators move and launch.

*Eager* is plain Hugging Face modules, one kernel per torch operator, counted with a dispatch mode
over the real modules (``tests/oracles``). *Fused* is what Megatron-Core with TransformerEngine
runs: one kernel per operator that reads its inputs and writes its outputs once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Memory traffic of one element-wise operator.

    Parameters
    ----------
    nbytes
        Bytes read and written per element of the operator's input.
    launches
        Kernels started.
    """

    nbytes: float
    launches: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSet:
    """Element-wise operators of one kernel set, each a pair (forward, backward).

    Parameters
    ----------
    rms_norm, rms_wide_norm, rms_offset_norm, layer_norm, layer_offset_norm, layer_no_bias_norm
        Per element of the normalised tensor.
    unweighted_norm
        RMSNorm of heads without weights, per element.
    rotary, rotary_join
        Per element of queries and keys that rotates; where some do not, to put both together, per
        element of either.
    latent_join
        Latent attention's keys put together of their own and the shared columns, per element.
    joint_split
        Columns of one product that makes several tensors (GPT-2, Phi-3), per element: their
        gradients put together again.
    output_gate
        Attention's output times the sigmoid of a gate, per element.
    gated
        ``act(gate) * up``, per element of the product.
    activation, elementary_activation, squared_activation
        Activation without a gate, per element: one kernel, GPT-2's GELU from elementary ones, or
        the square of ReLU.
    residual
        Per element of the residual stream; backward is the accumulation of two gradients.
    loss
        Cross entropy, per logit.
    merge
        A ring's further block, per element: of the output forward (eager: what the scripted update
        of ring-flash-attention reads and writes), of a gradient backward.
    total
        The sum over a ring's blocks, per element: made from the first block, and handed over.
    sent
        Keys and values put together to be sent, per element of theirs.
    qkv_products, up_products
        Matrix products for q, k, v and for gate and up: 1 where one product makes all of them.
    input_reductions
        Tensor-parallel all-reduces of input gradients, attention and MLP, without tp_sp: one per
        column-parallel product (counted in torch's tensor parallelism over a fake process group).
    gathers_input_again
        Whether tp_sp keeps the shard of a product's input and gathers it again for the weight
        gradient, instead of keeping the gathered input.
    kv_gradient_bytes
        Bytes per element of the key and value gradients that travel along the ring
        (ring-flash-attention sends fp32, TransformerEngine the activations' type).
    homecoming_hops
        Hops beyond ``ring - 1`` that those gradients make to return to their owner; on a double
        ring, in each of its two rings.
    """

    rms_norm: tuple[Traffic, Traffic]
    rms_wide_norm: tuple[Traffic, Traffic]
    rms_offset_norm: tuple[Traffic, Traffic]
    layer_norm: tuple[Traffic, Traffic]
    layer_offset_norm: tuple[Traffic, Traffic]
    layer_no_bias_norm: tuple[Traffic, Traffic]
    unweighted_norm: tuple[Traffic, Traffic]
    rotary: tuple[Traffic, Traffic]
    rotary_join: tuple[Traffic, Traffic]
    latent_join: tuple[Traffic, Traffic]
    joint_split: tuple[Traffic, Traffic]
    output_gate: tuple[Traffic, Traffic]
    gated: tuple[Traffic, Traffic]
    activation: tuple[Traffic, Traffic]
    elementary_activation: tuple[Traffic, Traffic]
    squared_activation: tuple[Traffic, Traffic]
    residual: tuple[Traffic, Traffic]
    loss: tuple[Traffic, Traffic]
    merge: tuple[Traffic, Traffic]
    total: tuple[Traffic, Traffic]
    sent: tuple[Traffic, Traffic]
    qkv_products: int
    up_products: int
    input_reductions: tuple[int, int]
    gathers_input_again: bool
    kv_gradient_bytes: float
    homecoming_hops: int


EAGER = KernelSet(
    rms_norm=(Traffic(36, 8), Traffic(96, 16)),
    rms_wide_norm=(Traffic(40, 8), Traffic(104, 16)),
    rms_offset_norm=(Traffic(40, 10), Traffic(108, 17)),
    layer_norm=(Traffic(4, 1), Traffic(6, 1)),
    layer_offset_norm=(Traffic(4, 2), Traffic(6, 1)),
    layer_no_bias_norm=(Traffic(60, 12), Traffic(144, 24)),
    unweighted_norm=(Traffic(32, 7), Traffic(80, 13)),
    rotary=(Traffic(20, 10), Traffic(28, 14)),
    rotary_join=(Traffic(4, 2), Traffic(12, 6)),
    latent_join=(Traffic(4, 2), Traffic(12, 5)),
    joint_split=(Traffic(0, 0), Traffic(4, 1)),
    output_gate=(Traffic(10, 2), Traffic(18, 3)),
    gated=(Traffic(10, 2), Traffic(18, 3)),
    activation=(Traffic(4, 1), Traffic(6, 1)),
    elementary_activation=(Traffic(36, 8), Traffic(56, 11)),
    squared_activation=(Traffic(8, 2), Traffic(20, 4)),
    residual=(Traffic(6, 1), Traffic(6, 1)),
    loss=(Traffic(14, 3), Traffic(26, 3)),
    merge=(Traffic(10, 2), Traffic(10, 1)),
    total=(Traffic(12, 2), Traffic(12, 2)),
    sent=(Traffic(4, 1), Traffic(4, 1)),
    qkv_products=3,
    up_products=2,
    input_reductions=(3, 2),
    gathers_input_again=False,
    kv_gradient_bytes=4.0,
    homecoming_hops=1,
)

FUSED = KernelSet(
    rms_norm=(Traffic(4, 1), Traffic(6, 2)),
    rms_wide_norm=(Traffic(4, 1), Traffic(6, 2)),
    rms_offset_norm=(Traffic(4, 1), Traffic(6, 2)),
    layer_norm=(Traffic(4, 1), Traffic(6, 2)),
    layer_offset_norm=(Traffic(4, 1), Traffic(6, 2)),
    layer_no_bias_norm=(Traffic(4, 1), Traffic(6, 2)),
    unweighted_norm=(Traffic(4, 1), Traffic(6, 2)),
    rotary=(Traffic(4, 2), Traffic(4, 2)),
    rotary_join=(Traffic(0, 0), Traffic(0, 0)),
    latent_join=(Traffic(4, 1), Traffic(4, 1)),
    joint_split=(Traffic(0, 0), Traffic(0, 0)),
    output_gate=(Traffic(6, 1), Traffic(10, 1)),
    gated=(Traffic(6, 1), Traffic(10, 1)),
    activation=(Traffic(4, 1), Traffic(6, 1)),
    elementary_activation=(Traffic(4, 1), Traffic(6, 1)),
    squared_activation=(Traffic(4, 1), Traffic(6, 1)),
    residual=(Traffic(6, 1), Traffic(6, 1)),
    loss=(Traffic(10, 3), Traffic(6, 2)),
    merge=(Traffic(10, 2), Traffic(10, 2)),
    total=(Traffic(0, 0), Traffic(0, 0)),
    sent=(Traffic(0, 0), Traffic(0, 0)),
    qkv_products=1,
    up_products=1,
    input_reductions=(1, 1),
    gathers_input_again=True,
    kv_gradient_bytes=2.0,
    homecoming_hops=0,
)
