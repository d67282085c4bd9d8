"""A layer of experts of the *fused* kernel set, written to keep exactly what such kernels keep.

As Megatron-Core with TransformerEngine: a norm apart from the products behind it, a permutation
that keeps the order only, grouped products, and an activation that has the scores within it and
keeps its input. Nothing here is fast; only what is saved matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

if TYPE_CHECKING:
    from models.architecture import Moe

_BF16 = torch.bfloat16


class _Keeping(Function):
    """A kernel that makes a tensor of some rows and columns and keeps what it is given to keep."""

    @staticmethod
    def forward(ctx: Any, rows: int, columns: int, *kept: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*kept)
        return torch.zeros(rows, columns, dtype=_BF16)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        raise NotImplementedError


def saved_bytes(moe: Moe, tokens: int, hidden: int) -> int:
    """Return the bytes of bf16 activations that a gated mixture keeps, its norm's among them."""
    storages: dict[int, torch.UntypedStorage] = {}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype is _BF16 and tensor.requires_grad and not tensor.is_leaf:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        output = _mixture(moe, tokens, hidden)
    assert output.shape == (tokens, hidden)
    return sum(storage.nbytes() for storage in storages.values())


def _weight(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=_BF16, requires_grad=True)


def _mixture(moe: Moe, tokens: int, hidden: int) -> torch.Tensor:
    stream = _weight(tokens, hidden) * 1.0
    weight = _weight(hidden)
    normed = _Keeping.apply(tokens, hidden, stream, weight, torch.zeros(tokens))
    scores = torch.softmax((normed @ _weight(hidden, moe.experts)).float(), -1)
    weights, chosen = scores.topk(moe.top_k)
    order = chosen.flatten().argsort()
    rows, width = tokens * moe.top_k, moe.expert.intermediate
    # Rows in another order: the gradient needs the order, not the rows.
    permuted = normed.index_select(0, order // moe.top_k)
    first = _weight(moe.experts, hidden, 2 * width)
    up = _Keeping.apply(rows, 2 * width, permuted, first)
    active = _Keeping.apply(rows, width, up, weights.flatten()[order])
    _Keeping.apply(rows, hidden, active, _weight(moe.experts, width, hidden))
    summed = _Keeping.apply(tokens, hidden, order)
    return stream + summed + _shared(moe, normed)


def _shared(moe: Moe, normed: torch.Tensor) -> torch.Tensor:
    assert moe.shared is not None
    tokens, hidden = normed.shape
    width = moe.shared.intermediate
    up = normed @ _weight(hidden, 2 * width)
    output = _Keeping.apply(tokens, width, up) @ _weight(width, hidden)
    if not moe.shared_gate:
        return output
    return output * torch.sigmoid((normed @ _weight(hidden, 1)).float()).to(_BF16)
