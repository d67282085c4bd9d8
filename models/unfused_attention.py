"""Attention as batched products with a softmax between, its scores in memory.

So Megatron-LM computed it before flash attention (Narayanan et al., arXiv:2104.04473 section 4.2):
scores of all pairs, masked ones too, one kernel that scales, masks and takes the softmax, dropout,
and the product with the values (Korthikanti et al., arXiv:2205.05198 figure 3). That kernel takes
the scores of four heads at a time, of up to 4,096 keys; where heads and sequences of a rank are no
multiple of four, torch's own kernels do its work in fp32, one after the other (Megatron-Core 0.8.0
``core/fusions/fused_softmax.py``: ``is_kernel_available``, ``forward_torch_softmax``). Its other
conditions (more than 16 keys, queries and keys in fours) hold for all that anyone trains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.operators import matrix_product, memory
from models.recompute_modules import RecomputeModules

if TYPE_CHECKING:
    from models.layout import Array, Bools
    from models.operation import Compute

#: Bytes of a dropout mask's element.
MASK = 1.0
#: Kept of a score: the softmax's output, what dropout left of it, and its mask
#: (Korthikanti et al., arXiv:2205.05198 section 4.1).
KEPT = 2.0 * BF16 + MASK
#: Moved by the softmax (one read, one write), by separate kernels in its place (to fp32, scaled,
#: masked, softmax, and back), and by dropout (as the first, and its mask) forward. Backward dropout
#: reads a gradient and its mask and writes a gradient, softmax reads it with its output.
FORWARD_MOVED = (
    2.0 * BF16,
    (BF16 + FP32) + 2.0 * FP32 + (2.0 * FP32 + MASK) + 2.0 * FP32 + (FP32 + BF16),
    2.0 * BF16 + MASK,
)
BACKWARD_MOVED = (
    3.0 * BF16,
    (BF16 + FP32) + 3.0 * FP32 + (2.0 * FP32 + MASK) + 2.0 * FP32 + (FP32 + BF16),
    2.0 * BF16 + MASK,
)
#: Kernels of the softmax where it is not one.
SEPARATE_KERNELS = 5.0
#: Heads and keys that the fused kernel takes.
TOGETHER, LONGEST_FUSED = 4.0, 4096.0
#: Scores and their gradient that are alive beside what is kept.
WORKING = 2.0 * BF16
#: Bytes at multiples of which rows have to start for tensor cores to be fed from memory (NVIDIA,
#: Matrix Multiplication Background User's Guide, "Requirements to Use Tensor Cores").
BOUNDARY = 16.0


def unfused_attention(
    name: str,
    *,
    backward: bool,
    heads: Array,
    queries: Array,
    keys: Array,
    width: float,
    value_width: float,
) -> tuple[Compute, ...]:
    """Return attention of some heads, their scores written to memory between kernels.

    Parameters
    ----------
    name
        Of all operations.
    backward
        Whether it is the backward pass: two products for each of the forward pass.
    heads
        Of all sequences.
    queries, keys
        Tokens of a head.
    width, value_width
        Columns of a query or key head, and of a value head.
    """
    once = np.ones_like(heads)
    of_keys, of_values = width * once, value_width * once
    sizes = [(queries, keys, of_keys), (queries, of_values, keys)]
    if backward:
        sizes = [
            (queries, keys, of_values),
            (keys, of_values, queries),
            (queries, of_keys, keys),
            (keys, of_keys, queries),
        ]
    # Heads lie side by side in a token's row: one of another width shifts all that follow.
    aligned = all(each * BF16 % BOUNDARY == 0.0 for each in (width, value_width))
    products = [
        replace(_batched(matrix_product(name, m, n, k, once), heads), aligned=aligned)
        for m, n, k in sizes
    ]
    scores, fused = heads * queries * keys, fuses_softmax(heads, keys)
    softmax, separate, dropout = BACKWARD_MOVED if backward else FORWARD_MOVED
    moved = np.where(fused, softmax, separate)
    between = [
        memory(name, scores * moved, np.where(fused, 1.0, SEPARATE_KERNELS), 0.0),
        memory(name, scores * dropout, 1.0, 0.0),
    ]
    modules = RecomputeModules.CORE_ATTN
    return tuple(replace(op, modules=modules) for op in (*products, *between))


def fuses_softmax(heads: Array, keys: Array) -> Bools:
    """Return whether one kernel scales, masks and takes the softmax of heads of all sequences."""
    fused: Bools = (heads % TOGETHER == 0.0) & (keys <= LONGEST_FUSED)
    return fused


def score_bytes(heads: Array, queries: Array, keys: Array) -> tuple[Array, Array]:
    """Return the bytes kept of scores, and those that they and their gradients take beside them.

    Separate kernels keep the softmax's output in fp32, and their gradients are.
    """
    scores, fused = heads * queries * keys, fuses_softmax(heads, keys)
    kept = np.where(fused, KEPT, KEPT - BF16 + FP32)
    return scores * kept, scores * np.where(fused, WORKING, WORKING / BF16 * FP32)


def _batched(one: Compute, many: Array) -> Compute:
    """Return so many products of one size as one kernel."""
    return replace(one, flop=one.flop * many, nbytes=one.nbytes * many, rows=one.rows * many)
