"""What the inventory counts of measured kernels, arrays over rows."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.decode_attention import decode_attention
from models.dtype import BF16, FP8
from models.flash_attention import flash_attention
from models.operation import Kind
from models.operators import matrix_product, memory
from validate.fitting.sample import (
    BACKWARD,
    DECODE,
    FORWARD,
    GROUPED,
    MEMORY,
    NARROW_PRODUCT,
    PRODUCT,
    WITH_FORWARD,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from models.compute import Device
    from models.operation import Compute
    from validate.fitting.sample import Floats, Sample

    Shapes = Mapping[str, Floats]

#: Bytes per element that casting an input to fp8 moves: read for its scale, read again, written.
CAST_BYTES = 5.0


def seconds(sample: Sample, device: Device) -> Floats:
    """Return how long a device takes for each row."""
    if sample.kind == DECODE:
        shapes = sample.shapes
        return decode_attention(
            device,
            sequences=shapes["b"],
            keys=shapes["keys"],
            heads=shapes["heads"],
            kv_heads=shapes["kv_heads"],
            width=shapes["width"],
        )
    return _both(sample, device.seconds)


def flop(sample: Sample) -> Floats:
    """Return the FLOP of each row; none of decode attention, which memory limits."""
    if sample.kind == DECODE:
        return np.zeros(len(sample))
    return _both(sample, lambda each: np.asarray(each.flop))


def moved_bytes(sample: Sample) -> Floats:
    """Return the bytes each row has to move, where memory limits it; none of others."""
    shapes = sample.shapes
    if sample.kind == DECODE:
        return 2.0 * BF16 * shapes["b"] * shapes["keys"] * shapes["kv_heads"] * shapes["width"]
    if sample.kind == MEMORY:
        return shapes["nbytes"] * shapes["elements"]
    return np.zeros(len(sample))


def _product(shapes: Shapes) -> list[Compute]:
    """Take ``m, n, k``."""
    return [matrix_product(PRODUCT, shapes["m"], shapes["n"], shapes["k"], _ones(shapes["m"]))]


def _narrow_product(shapes: Shapes) -> list[Compute]:
    """Take ``m, n, k`` and ``cast``: 1 where the time has the input's quantisation in it."""
    m, n, k = shapes["m"], shapes["n"], shapes["k"]
    return [
        memory("cast", CAST_BYTES * m * k * shapes["cast"], shapes["cast"]),
        matrix_product(NARROW_PRODUCT, m, n, k, _ones(m), operand_bytes=FP8, peak="fp8"),
    ]


def _grouped(shapes: Shapes) -> list[Compute]:
    """Take ``groups``, ``m`` of each, ``n, k`` and ``weights``: 1 for gradients of weights."""
    groups, m, n, k = (shapes[name] for name in ("groups", "m", "n", "k"))
    one = matrix_product(GROUPED, m, n, k, _ones(m))
    return [replace(one, flop=one.flop * groups, nbytes=one.nbytes * groups, groups=groups)]


def _attention(shapes: Shapes, *, backward: bool) -> list[Compute]:
    """Take ``b, tokens, heads, kv_heads, width, value_width`` and ``causal``."""
    tokens, width, value_width = shapes["tokens"], shapes["width"], shapes["value_width"]
    rows = shapes["b"] * tokens * shapes["heads"]
    seen = np.where(shapes["causal"] > 0.0, 0.5, 1.0)
    key_rows = shapes["b"] * tokens * shapes["kv_heads"]
    return [
        flash_attention(
            Kind.ATTENTION,
            backward=backward,
            pairs=rows * tokens * seen,
            rows=rows,
            inner=tokens * seen,
            width=width,
            value_width=value_width,
            elements=(rows + key_rows) * (width + value_width),
            calls=_ones(rows),
            masked_rows=np.where(shapes["causal"] > 0.0, rows, 0.0),
            masked_keys=tokens,
        )
    ]


def _memory(shapes: Shapes) -> list[Compute]:
    """Take ``elements``, and ``nbytes`` moved of each."""
    elements = shapes["elements"]
    return [memory(MEMORY, shapes["nbytes"] * elements, _ones(elements))]


def _both(sample: Sample, told: Callable[[Compute], Floats]) -> Floats:
    """Return what is told of a sample's kernels, with the forward ones where rows have them."""
    shapes = sample.shapes
    found = _sum(told(each) for each in _WORKS[sample.kind](shapes))
    if WITH_FORWARD not in shapes:
        return found
    return found + shapes[WITH_FORWARD] * _sum(told(each) for each in _WORKS[FORWARD](shapes))


def _sum(parts: Iterable[Floats]) -> Floats:
    return reduce(np.add, parts)


def _ones(like: Floats) -> Floats:
    return np.ones(len(like))


_WORKS: dict[str, Callable[[Shapes], list[Compute]]] = {
    PRODUCT: _product,
    NARROW_PRODUCT: _narrow_product,
    GROUPED: _grouped,
    FORWARD: lambda shapes: _attention(shapes, backward=False),
    BACKWARD: lambda shapes: _attention(shapes, backward=True),
    MEMORY: _memory,
}
