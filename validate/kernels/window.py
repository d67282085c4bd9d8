"""Attention to a sliding window of keys, by causal flash kernels alone.

Queries are cut into tiles as long as the window. A query attends to its own tile causally, and to
those keys of the tile before that are later in it than itself in its own: read backwards that is a
causal block too, one token shorter. No mask is kept, and no other kernel is needed. Keys may begin
before the queries, which are a run of the sequence then.
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
        Which of each.
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


def bands(queries: int, window: int, before: int = 0) -> Iterator[Band]:
    """Yield the blocks of a run of queries, those of a tile one after the other, its own first.

    Parameters
    ----------
    queries, window
        How many.
    before
        Keys before the first query's own: all there are, or as many as the window.

    Examples
    --------
    >>> [(b.queries, b.keys, b.causal) for b in bands(5, 4)][1:]
    [(slice(4, 5, None), slice(4, 5, None), True), (slice(4, 5, None), slice(1, 4, None), False)]
    """
    tokens = before + queries
    for start in (before, *range(before - before % window + window, tokens, window)):
        end = min(start - start % window + window, tokens)
        own, many = slice(start - before, end - before), end - start
        yield Band(own, slice(start, end), causal=True)
        if start < window:  # it reaches all that is before this tile
            if start:
                yield Band(own, slice(0, start), causal=False)
            continue
        behind = start - window
        if many < window:  # all of a short tile is earlier in it than these
            yield Band(own, slice(behind + many, start), causal=False)
        if many > 1:
            keys = slice(behind + 1, behind + many)
            yield Band(slice(own.start, own.stop - 1), keys, causal=True, backwards=True)


def forward(q: Tensor, k: Tensor, v: Tensor, *, window: int, scale: float) -> Block:
    """Return attention of every query to the last `window` keys up to its own.

    Parameters
    ----------
    q, k, v
        Shape ``[batch, heads, tokens, width]``. Keys and values may begin before the queries, with
        all there are or as many as the window; they end together.
    window
        Keys, 1 or more.
    scale
        Of the scores.
    """
    tiles: list[tuple[int, Merged]] = []
    rng: tuple[Tensor, ...] = ()
    for band in bands(q.shape[2], window, k.shape[2] - q.shape[2]):
        inputs = band.of(q, band.queries), band.of(k, band.keys), band.of(v, band.keys)
        found = block.forward(*inputs, causal=band.causal, scale=scale)
        rng = found.rng
        start = band.queries.start
        if not tiles or start > tiles[-1][0]:
            tiles.append((start, Merged(found)))
            continue
        merged, inside = tiles[-1][1], slice(0, band.queries.stop - start)
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
    """Return the gradients of queries, keys and values, as they are summed: in fp32 or more.

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
    for band in bands(q.shape[2], window, k.shape[2] - q.shape[2]):
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
    return sums
