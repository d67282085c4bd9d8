"""One block of attention, forward and backward: flash kernels that return their log-sum-exp.

No kernel here keeps anything of the size of queries times keys. Causal blocks are square: kernels
differ in which corner of others they align the mask with.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """What a block of attention gives.

    Parameters
    ----------
    out
        Shape ``[batch, heads, queries, width]``.
    lse
        Log-sum-exp of the scores, ``[batch, heads, queries]``, in fp32 (fp64 of fp64).
    rng
        What the CUDA kernel hands to its backward pass; empty elsewhere.
    """

    out: Tensor
    lse: Tensor
    rng: tuple[Tensor, ...] = ()


class BlockGradients(NamedTuple):
    """Gradients of a block's queries, keys and values, each in its shape."""

    queries: Tensor
    keys: Tensor
    values: Tensor


def forward(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Block:
    """Return attention over one block.

    Parameters
    ----------
    q, k, v
        Shape ``[batch, heads, tokens, width]``; queries may have a multiple of the others' heads.
    causal
        Whether queries attend to keys up to their own place; needs as many of both.
    scale
        Of the scores.
    """
    if q.device.type == "cuda":
        out, lse, _, _, _, _, *rng, _ = torch.ops.aten._scaled_dot_product_flash_attention(
            q, k, v, 0.0, causal, False, scale=scale
        )
        return Block(out, lse, tuple(rng))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, scale=scale
    )
    return Block(out, lse)


def backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    whole: Block,
    *,
    causal: bool,
    scale: float,
) -> BlockGradients:
    """Return what one block adds to the gradients.

    Parameters
    ----------
    gradient
        Of the output, for the block's queries.
    q, k, v, causal, scale
        As of the block's forward pass.
    whole
        Output and log-sum-exp of the block's queries over *all* keys: they, not the block's own,
        give its share (Liu et al., arXiv:2310.01889 appendix B).
    """
    if q.device.type == "cuda":
        rng, unused = whole.rng
        return BlockGradients(
            *torch.ops.aten._scaled_dot_product_flash_attention_backward(
                gradient, q, k, v, whole.out, whole.lse, None, None,
                q.shape[2], k.shape[2], 0.0, causal, rng, unused, scale=scale,
            )
        )  # fmt: skip
    return BlockGradients(
        *torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, q, k, v, whole.out, whole.lse, 0.0, causal, scale=scale
        )
    )
