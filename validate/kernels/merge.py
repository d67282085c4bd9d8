"""Putting blocks of attention together, in place and in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.sequence_parallel.schedule import Part

if TYPE_CHECKING:
    from validate.kernels.block import Block


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what sums over blocks are kept in."""
    return torch.promote_types(dtype, torch.float32)


def rows(tensor: Tensor, part: Part, dim: int = 2) -> Tensor:
    """Return a part of the tokens, without a copy."""
    if part is Part.WHOLE:
        return tensor
    half = tensor.shape[dim] // 2
    return tensor.narrow(dim, 0 if part is Part.FIRST else half, half)


class Merged:
    """Attention over the blocks seen so far.

    Parameters
    ----------
    first
        The first of them, over all queries.
    dtype
        What they are summed in; fp32 (fp64 of fp64) if None.
    """

    def __init__(self, first: Block, dtype: torch.dtype | None = None) -> None:
        dtype = dtype or accumulator_dtype(first.out.dtype)
        self.out, self.lse, self.rng = first.out.to(dtype), first.lse.clone(), first.rng

    def add(self, block: Block, queries: Part) -> None:
        """Add a block over some of the queries."""
        merge(rows(self.out, queries), rows(self.lse, queries), block)


def merge(out: Tensor, lse: Tensor, block: Block) -> None:
    """Add a block to what others gave the same queries, in place.

    With ``w`` the block's share of the summed weights, ``out += w (block - out)``; ``w`` is the
    logistic function of the difference of the log-sum-exps (Milakov and Gimelshein,
    arXiv:1805.02867, for two blocks).
    """
    weight = torch.sigmoid(block.lse - lse).unsqueeze(-1).to(out.dtype)
    out.lerp_(block.out.to(out.dtype), weight)
    torch.logaddexp(lse, block.lse, out=lse)
