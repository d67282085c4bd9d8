"""Muon's step: the momentum of every matrix of a layer is orthogonalised (arXiv:2502.16982).

A Newton-Schulz iteration of an ``m x n`` matrix, m the smaller side, is three products:
``A = X X^T``, ``A A`` and ``(b A + c A A) X``. Matrices are those that products of the inventory
have gradients of: with tensor parallelism each rank's own part (Megatron's ``--muon-tp-mode
blockwise``); query, key and value, or gate and up, as one where they are one product. With ZeRO
whole matrices are dealt out to ranks, so each has its share of all; what gathers them is not
counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.operators import matrix_product

#: What names of routed experts' products begin with.
EXPERTS = "experts "

if TYPE_CHECKING:
    from models.layout import Array
    from models.operation import Compute, Work


def newton_schulz(work: Work, iterations: float, *, experts: bool) -> tuple[Compute, ...]:
    """Return the products that orthogonalise the matrices of one part of a model, in bf16.

    `experts` is whether of routed experts, or of all else.
    """
    found: list[Compute] = []
    for op in work.backward_compute():
        if op.of_weights and op.name.startswith(EXPERTS) == experts:
            found += _iterated(op, iterations)
    return tuple(found)


def _iterated(gradient: Compute, iterations: float) -> list[Compute]:
    """Return all iterations of one matrix; FLOP and bytes of one product times their number."""
    short = np.minimum(gradient.rows, gradient.columns)
    long = np.maximum(gradient.rows, gradient.columns)
    shapes: list[tuple[Array, Array, Array]] = [
        (short, short, long),
        (short, short, short),
        (short, long, short),
    ]
    once = np.ones_like(short)
    products = [matrix_product("newton-schulz", *shape, once) for shape in shapes]
    return [
        replace(
            each,
            flop=each.flop * iterations * gradient.groups,
            nbytes=each.nbytes * iterations * gradient.groups,
            launches=each.launches * iterations * gradient.groups,
        )
        for each in products
    ]
