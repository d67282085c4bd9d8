"""Attention to a sliding window of keys and values that are gathered along the ring axis.

Every chunk of a rank attends at once to its own keys and to those before that the window reaches.
All are gathered for that, however few they are, and their gradients are summed over ranks (as
TransformerEngine's ``all_gather`` does it). A ring of one rank has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.sequence_parallel.schedule import chunks
from validate.kernels import window
from validate.kernels.block import Block, BlockGradients
from validate.kernels.kv_gradients import joined
from validate.kernels.merge import accumulator_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from validate.kernels.axis import Axis
    from validate.kernels.ring import Local, Ring


def forward(axis: Axis, ring: Ring, own: Sequence[Local], size: int) -> list[Block]:
    """Return attention of every rank's queries to the last `size` keys up to their own."""
    found = []
    for each, place, kv in zip(own, axis.places, _gathered(axis, own), strict=True):
        blocks = [
            window.forward(part.q, *joined(views, -2), window=size, scale=part.scale)
            for part, views in zip(
                each.split(_lengths(axis, ring, each)),
                _reached(axis, ring, place, kv, size),
                strict=True,
            )
        ]
        outs, lses = [one.out for one in blocks], [one.lse for one in blocks]
        found.append(Block(joined(outs, -2), joined(lses, -1), blocks[-1].rng))
    return found


def backward(
    axis: Axis, ring: Ring, own: Sequence[Local], gradients: Sequence[Tensor], size: int
) -> list[BlockGradients]:
    """Return the gradients of every rank's own queries, keys and values."""
    dtype = ring.gradient_dtype or accumulator_dtype(own[0].k.dtype)
    queries, sums = [], []
    for each, place, kv, gradient in zip(
        own, axis.places, _gathered(axis, own), gradients, strict=True
    ):
        lengths = _lengths(axis, ring, each)
        found, total = [], torch.zeros_like(kv, dtype=dtype)
        for part, returned, views, totals in zip(
            each.split(lengths),
            gradient.split(lengths, -2),
            _reached(axis, ring, place, kv, size),
            _reached(axis, ring, place, total, size),
            strict=True,
        ):
            gradients_of = _gradients(part, returned, joined(views, -2), size)
            found.append(gradients_of.queries.to(each.q.dtype))
            _add(totals, gradients_of)
        queries.append(joined(found, -2))
        sums.append(total)
    home = axis.scatter_sum(sums) if axis.size > 1 else [total[0] for total in sums]
    return [
        BlockGradients(dq, dkv[0].to(each.k.dtype), dkv[1].to(each.v.dtype))
        for each, dq, dkv in zip(own, queries, home, strict=True)
    ]


def _gathered(axis: Axis, own: Sequence[Local]) -> list[Tensor]:
    """Return all ranks' keys and values to each, ``[ranks, 2, batch, heads, tokens, width]``."""
    held = [each.kv for each in own]
    return axis.gather(held) if axis.size > 1 else [kv.unsqueeze(0) for kv in held]


def _lengths(axis: Axis, ring: Ring, own: Local) -> list[int]:
    """Return the tokens of each chunk of each document that a rank holds."""
    many = len(chunks(ring.order, axis.size, 0))
    return [length // many for length in ring.lengths(axis, own.q.shape[-2]) for _ in range(many)]


def _reached(
    axis: Axis, ring: Ring, place: int, whole: Tensor, size: int
) -> Iterator[list[Tensor]]:
    """Yield, for each of these chunks, views of its own keys after the `size` before them.

    Parameters
    ----------
    axis, ring
        Along which they were gathered.
    place
        Of the rank whose chunks they are.
    whole
        All keys and values, or their gradients.
    size
        Of the window.
    """
    for document in whole.split(ring.lengths(axis, whole.shape[-2]), -2):
        parts: dict[int, Tensor] = {}
        for rank, held in enumerate(document):
            own = chunks(ring.order, axis.size, rank)
            parts.update(zip(own, held.chunk(len(own), -2), strict=True))
        length = parts[0].shape[-2]
        for chunk in chunks(ring.order, axis.size, place):
            first = max(chunk * length - size, 0)
            yield [
                parts[at][..., max(first - at * length, 0) :, :]
                for at in range(first // length, chunk + 1)
            ]


def _gradients(own: Local, gradient: Tensor, kv: Tensor, size: int) -> BlockGradients:
    if own.whole is None:
        raise RuntimeError("backward before forward")
    k, v = kv
    return window.backward(gradient, own.q, k, v, own.whole, window=size, scale=own.scale)


def _add(totals: list[Tensor], found: BlockGradients) -> None:
    """Add gradients of keys and values to the chunks that they are of."""
    lengths = [total.shape[-2] for total in totals]
    parts = found.keys.split(lengths, -2), found.values.split(lengths, -2)
    for total, dk, dv in zip(totals, *parts, strict=True):
        total[0] += dk
        total[1] += dv
