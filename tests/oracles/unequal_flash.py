"""A flash operator for values narrower than keys, on fake tensors: what it keeps and costs.

GPUs have such kernels (scaled dot-product attention takes its memory-efficient one, and
FlashAttention-3 and cuDNN have others); on a CPU torch falls back to plain products that keep all
scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from torch import nn

UNEQUAL = "unequal_flash"


@torch.library.custom_op("oracles::unequal_flash", mutates_args=())
def unequal_flash(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp; there is a kernel for fake tensors only."""
    raise NotImplementedError


@unequal_flash.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    rows = query.shape[:-1]
    return query.new_empty(*rows, value.shape[-1]), query.new_empty(rows, dtype=torch.float32)


@torch.library.custom_op("oracles::unequal_flash_backward", mutates_args=())
def unequal_flash_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values."""
    raise NotImplementedError


@unequal_flash_backward.register_fake
def _(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    query, key, value, *_rest = ctx.saved_tensors
    found: tuple[Tensor, ...] = unequal_flash_backward(gradient, query, key, value)
    return found


unequal_flash.register_autograd(_backward, setup_context=_keep)

FORWARD = torch.ops.oracles.unequal_flash
BACKWARD = torch.ops.oracles.unequal_flash_backward


def forward_flop(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    """Return the FLOP of two products of every query with every key."""
    batch, heads, tokens, width = query
    return int(2 * batch * heads * tokens * key[-2] * (width + value[-1]))


def backward_flop(_: object, query: Any, key: Any, value: Any, **__: object) -> int:
    """Return the FLOP of five: scores again, gradients of weights, values, keys and queries."""
    batch, heads, tokens, width = query
    return int(2 * batch * heads * tokens * key[-2] * (3 * width + 2 * value[-1]))


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
) -> tuple[Tensor, None]:
    output, _statistics = unequal_flash(query, key, value)
    return output.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(UNEQUAL, _attend)
