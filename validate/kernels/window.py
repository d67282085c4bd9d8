"""Attention to a sliding window of keys, by causal flash kernels alone.

The sequence is cut into tiles as long as the window. A query attends to its own tile causally, and
to those keys of the tile before that are later in it than itself in its own: read backwards that is
a causal block too, one token shorter. No mask is kept, and no other kernel is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from validate.kernels import block
from validate.kernels.block import Block, BlockGradients
from validate.kernels.merge import Merged, accumulator_dtype, merge

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Band:
    """A block of a window.

    Parameters
    ----------
    queries, keys
        Which of the sequence.
    causal
        Whether it is.
    backwards
        Whether it is so read from the last token to the first.
    """

    queries: slice
    keys: slice
    causal: bool
    backwards: bool = False

    def of(self, tensor: Tensor, tokens: slice) -> Tensor:
        """Return the tokens of a tensor ``[batch, heads, tokens, ...]`` as the block reads them."""
        own = tensor[:, :, tokens]
        return own.flip(2) if self.backwards else own


def bands(tokens: int, window: int) -> Iterator[Band]:
    """Yield the blocks of a sequence, those of a tile one after the other, its own first.

    >>> [(b.queries, b.keys, b.causal) for b in bands(5, 4)][1:]
    [(slice(4, 5, None), slice(4, 5, None), True), (slice(4, 5, None), slice(1, 4, None), False)]
    """
    for start in range(0, tokens, window):
        end = min(start + window, tokens)
        yield Band(slice(start, end), slice(start, end), causal=True)
        if not start:
            continue
        before, many = start - window, end - start
        if many < window:  # all of a short tile is earlier in it than these
            yield Band(slice(start, end), slice(before + many, start), causal=False)
        if many > 1:
            keys = slice(before + 1, before + many)
            yield Band(slice(start, end - 1), keys, causal=True, backwards=True)


def forward(q: Tensor, k: Tensor, v: Tensor, *, window: int, scale: float) -> Block:
    """Return attention of every query to the last `window` keys up to its own.

    Parameters
    ----------
    q, k, v
        Shape ``[batch, heads, tokens, width]``, as many tokens of each.
    window
        Keys, 1 or more.
    scale
        Of the scores.
    """
    tiles: list[tuple[slice, Merged]] = []
    rng: tuple[Tensor, ...] = ()
    for band in bands(q.shape[2], window):
        inputs = band.of(q, band.queries), band.of(k, band.keys), band.of(v, band.keys)
        found = block.forward(*inputs, causal=band.causal, scale=scale)
        rng = found.rng
        if band.queries == band.keys:
            tiles.append((band.queries, Merged(found)))
            continue
        tile, merged = tiles[-1]
        inside = slice(0, band.queries.stop - tile.start)
        out, lse = (band.of(each, slice(None)) for each in found[:2])
        merge(merged.out[:, :, inside], merged.lse[:, :, inside], Block(out, lse))
    outs = torch.cat([merged.out for _, merged in tiles], 2).to(q.dtype)
    return Block(outs, torch.cat([merged.lse for _, merged in tiles], 2), rng)


def backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    whole: Block,
    *,
    window: int,
    scale: float,
) -> BlockGradients:
    """Return the gradients of queries, keys and values.

    Parameters
    ----------
    gradient
        Of the output.
    q, k, v, window, scale
        As of the forward pass.
    whole
        What it returned.
    """
    dtype = accumulator_dtype(q.dtype)
    sums = BlockGradients(*(torch.zeros_like(each, dtype=dtype) for each in (q, k, v)))
    for band in bands(q.shape[2], window):
        own, keys = band.queries, band.keys
        found = block.backward(
            band.of(gradient, own),
            band.of(q, own),
            band.of(k, keys),
            band.of(v, keys),
            Block(band.of(whole.out, own), band.of(whole.lse, own), whole.rng),
            causal=band.causal,
            scale=scale,
        )
        for total, tokens, added in zip(sums, (own, keys, keys), found, strict=True):
            total[:, :, tokens] += band.of(added, slice(None))
    return BlockGradients(*(each.to(q.dtype) for each in sums))
