"""Compute operations by their kind: matrix products, element-wise operators, norms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.kernel_set import EAGER, FUSED, KernelSet, Traffic
from models.operation import WEIGHT_GRADIENT, Compute, Kind
from models.recompute_modules import NOTHING

if TYPE_CHECKING:
    from models.architecture import Layer, NormKind
    from models.layout import Array
    from models.precision import Precision
    from models.recompute_modules import RecomputeModules
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
    nbytes = _over(shapes, elements * precision.cast_bytes)
    return (memory(name, nbytes, launches * precision.cast_kernels.value),)


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
    m, n, k, started = (_over(shapes, x) for x in (rows, columns, depth, launches))
    # torchtitan's per-operator policy keeps every other product's output.
    operand_bytes = shapes.precision.bytes_at(peak)
    return matrix_product(name, m, n, k, started, 0.5, operand_bytes, peak)


def _over(shapes: Shapes, value: Array | float) -> Array:
    """Return a value for each shape."""
    array = np.asarray(value, float)
    return array if array.shape == (len(shapes),) else np.full(len(shapes), array)


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


def grouped_product(
    name: str,
    shapes: Shapes,
    rows: Array,
    columns: Array | float,
    depth: Array | float,
    groups: Array,
) -> tuple[tuple[Compute, ...], tuple[Compute, ...]]:
    """Return products of several weights with a part of the rows each, forward and backward.

    Parameters
    ----------
    name, shapes
        As of :func:`product`.
    rows
        Of all products together.
    columns, depth
        Of each.
    groups
        How many there are. Eager kernels run them as one (``torch._grouped_mm``), fused ones start
        each (TransformerEngine's GroupedLinear).
    """
    each = rows / groups
    used = shapes.precision.of_product(name)

    def grouped(
        name: str, m: Array | float, n: Array | float, k: Array | float, peak: str
    ) -> Compute:
        one = gemm(name, shapes, m, n, k, shapes.pick(groups, 1.0), peak)
        return replace(one, flop=one.flop * groups, nbytes=one.nbytes * groups, groups=groups)

    forward = grouped(name, each, columns, depth, used.forward)
    data = grouped(f"{name} dgrad", each, depth, columns, used.input_gradient)
    own = used.weight_gradient
    weight = grouped(f"{name}{WEIGHT_GRADIENT}", columns, depth, each, own)
    inputs = cast(f"{name} cast", shapes, used, rows * depth, 1.0)
    gradients = cast(f"{name} gradient cast", shapes, used, rows * columns, 1.0)
    return (*inputs, forward), (*gradients, data, weight)


def memory(
    name: str,
    nbytes: Array,
    launches: Array | float,
    selective: Array | float = 1.0,
    modules: RecomputeModules = NOTHING,
) -> Compute:
    """Return an operation that only moves memory; parameters as of :class:`Compute`."""
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
        modules=modules,
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
    if not layer.normed_after:
        return (add,)
    return norm_pair(f"{name} post-norm", layer.norm, hidden, shapes)[phase], add
