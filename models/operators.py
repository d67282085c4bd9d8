"""Compute operations by their kind: matrix products, element-wise operators, norms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.kernel_set import EAGER, FUSED, KernelSet, Traffic
from models.operation import WEIGHT_GRADIENT, Compute, Kind

if TYPE_CHECKING:
    from models.architecture import Layer, NormKind
    from models.layout import Array
    from models.precision import Precision
    from models.shape import Shapes


def product(
    name: str,
    shapes: Shapes,
    rows: Array,
    columns: Array | float,
    depth: Array | float,
    launches: Array | float = 1.0,
) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
    """Return a matrix product forward, and backward its input and weight gradients.

    Before each pass what weights are multiplied with is quantised, if the precision does so.
    """
    used = shapes.precision.of_product(name)
    outer, own = used.input_gradient, used.weight_gradient
    forward = gemm(name, shapes, rows, columns, depth, launches, used.forward)
    data = gemm(f"{name} dgrad", shapes, rows, depth, columns, launches, outer)
    weight = gemm(f"{name}{WEIGHT_GRADIENT}", shapes, columns, depth, rows, launches, own)
    inputs = cast(f"{name} cast", shapes, used, rows * depth, launches)
    gradients = cast(f"{name} gradient cast", shapes, used, rows * columns, launches)
    return (*inputs, forward), (*gradients, data, weight)


def cast(
    name: str,
    shapes: Shapes,
    precision: Precision,
    elements: Array | float,
    launches: Array | float,
) -> tuple[Compute, ...]:
    """Return what quantises a tensor in all forms that products read; nothing in 16 bits."""
    if not precision.quantised:
        return ()
    nbytes = np.broadcast_to(elements * precision.cast_bytes, (len(shapes),))
    return (memory(name, shapes, nbytes, launches * precision.cast_kernels.value),)


def gemm(
    name: str,
    shapes: Shapes,
    rows: Array | float,
    columns: Array | float,
    depth: Array | float,
    launches: Array | float,
    peak: str = "bf16",
) -> Compute:
    """Return one matrix product of ``rows x depth`` by ``depth x columns``.

    `peak` is the dense peak it runs at: that of its operands' dtype.
    """
    m, n, k, started = (
        np.broadcast_to(np.asarray(x, float), (len(shapes),))
        for x in (rows, columns, depth, launches)
    )
    # torchtitan's per-operator policy keeps every other product's output.
    selective = shapes.pick(0.0, 0.5)
    operand_bytes = shapes.precision.bytes_at(peak)
    return matrix_product(name, m, n, k, started, selective, operand_bytes, peak)


def matrix_product(
    name: str,
    m: Array,
    n: Array,
    k: Array,
    launches: Array,
    selective: Array | float = 0.0,
    operand_bytes: float = BF16,
    peak: str = "bf16",
) -> Compute:
    """Return products of ``m x k`` by ``k x n`` into bf16; parameters as of :class:`Compute`.

    `operand_bytes` are those of an element of either operand.
    """
    return Compute(
        name=name,
        kind=Kind.GEMM,
        flop=2.0 * m * n * k,
        nbytes=(m * k + k * n) * operand_bytes + m * n * BF16,
        launches=launches,
        rows=m,
        columns=n,
        depth=k,
        selective=selective,
        peak=peak,
    )


def memory(
    name: str,
    shapes: Shapes,
    nbytes: Array,
    launches: Array | float,
    selective: tuple[float, float] = (0.0, 1.0),
) -> Compute:
    """Return an operation that only moves memory.

    `selective` is the share that runs again under selective recomputation, fused and eager.
    """
    return streaming(name, nbytes, launches, shapes.pick(*selective))


def streaming(
    name: str, nbytes: Array, launches: Array | float, selective: Array | float = 0.0
) -> Compute:
    """Return what only moves memory; parameters as of :class:`Compute`."""
    none = np.zeros_like(nbytes)
    return Compute(
        name=name,
        kind=Kind.MEMORY,
        flop=none,
        nbytes=nbytes,
        launches=np.where(nbytes > 0, launches, 0.0),
        rows=none,
        columns=none,
        depth=none,
        selective=selective,
    )


def elementwise(
    name: str, operator: str, shapes: Shapes, elements: Array
) -> tuple[Compute, Compute]:
    """Return one operator of the kernel set, forward and backward."""
    pairs: list[tuple[Traffic, Traffic]] = list(
        zip(_traffic(FUSED, operator), _traffic(EAGER, operator), strict=True)
    )
    forward, backward = (
        memory(
            name,
            shapes,
            elements * shapes.pick(fused.nbytes, eager.nbytes),
            shapes.pick(fused.launches, eager.launches),
        )
        for fused, eager in pairs
    )
    return forward, backward


def _traffic(kernels: KernelSet, operator: str) -> tuple[Traffic, Traffic]:
    pair: tuple[Traffic, Traffic] = getattr(kernels, operator)
    return pair


def norm_pair(name: str, kind: NormKind, hidden: int, shapes: Shapes) -> tuple[Compute, Compute]:
    """Return a norm over the residual stream, forward and backward."""
    elements = shapes.tokens * hidden / shapes.norm_shard
    return elementwise(name, f"{kind}_norm", shapes, elements)


def residual(
    layer: Layer, name: str, hidden: int, shapes: Shapes, phase: int
) -> tuple[Compute, ...]:
    """Return the residual addition, after a post-norm where the layer has one."""
    elements = shapes.tokens * hidden / shapes.norm_shard
    add = elementwise(f"{name} residual", "residual", shapes, elements)[phase]
    if layer.norms == 2:
        return (add,)
    return norm_pair(f"{name} post-norm", layer.norm, hidden, shapes)[phase], add
