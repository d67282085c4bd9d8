"""Blocks of attention: exactly those that schedules of sequence parallelism are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from models.flash_attention import flash_attention
from models.named_axes import SequenceOrder
from models.sequence_parallel.schedule import Part, schedule
from validate.calibration.item import Item, Scale
from validate.kernels import block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.operation import Compute
    from validate.calibration.bench import Bench

FORWARD, BACKWARD = "attention", "attention_backward"
#: Ranks of the rings whose tasks are taken; longer ones have no others.
RING = 3


def items(scale: Scale) -> list[Item]:
    """Return every task of every schedule, for every length and kind of heads."""
    shapes = {
        (_share(task.queries), _share(task.keys), task.causal)
        for order in SequenceOrder
        for rank in range(RING)
        for causal in (True, False)
        for task in schedule(order, RING, rank, causal=causal)
    }
    return [
        Item.of(
            kind,
            q=tokens // rows,
            k=tokens // keys,
            causal=causal,
            heads=heads,
            kv_heads=kv_heads,
            d=width,
        )
        for tokens in scale.tokens
        for heads, kv_heads, width in scale.heads
        for rows, keys, causal in sorted(shapes)
        for kind in (FORWARD, BACKWARD)
    ]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the kernel, forward or backward."""
    heads, kv_heads, width = (item.number(name) for name in ("heads", "kv_heads", "d"))
    q = bench.heads(heads, item.number("q"), width)
    k, v = (bench.heads(kv_heads, item.number("k"), width) for _ in range(2))
    causal, scale = bool(item["causal"]), 1.0 / math.sqrt(width)
    if item.kind == FORWARD:
        return lambda: block.forward(q, k, v, causal=causal, scale=scale)
    whole = block.forward(q, k, v, causal=causal, scale=scale)
    gradient = bench.heads(heads, item.number("q"), width)
    return lambda: block.backward(gradient, q, k, v, whole, causal=causal, scale=scale)


def work(found: Sequence[Item]) -> Compute:
    """Return the blocks as the inventory counts them, arrays over items of one kind."""
    queries, keys, heads, kv_heads, width = (
        np.array([float(item[name]) for item in found])
        for name in ("q", "k", "heads", "kv_heads", "d")
    )
    causal = np.array([bool(item["causal"]) for item in found])
    rows, seen = queries * heads, np.where(causal, 0.5, 1.0)
    return flash_attention(
        found[0].kind,
        backward=found[0].kind == BACKWARD,
        pairs=rows * keys * seen,
        rows=rows,
        inner=(queries if found[0].kind == BACKWARD else keys) * seen,
        width=width,
        value_width=width,
        elements=2.0 * rows * width + 2.0 * keys * kv_heads * width,
        calls=np.ones(len(found)),
        masked_rows=np.where(causal, rows, 0.0),
        masked_keys=keys,
    )


def _share(part: Part) -> int:
    """Return into how many such parts a rank's tokens are cut."""
    return round(1.0 / part.share)
