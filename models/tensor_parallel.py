"""Tensor parallelism: what column- and row-parallel products send.

Megatron-LM (arXiv:1909.08053) and its sequence parallelism (Korthikanti et al., arXiv:2205.05198
section 4.2): with tp_sp an all-gather before each column-parallel product and a reduce-scatter
after each row-parallel one; without it one all-reduce in their place. Fused kernels gather what a
product reads, quantised where it is (:mod:`models.precision`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.kernel_set import FUSED
from models.operation import WEIGHT_GRADIENT, Axis, Communication
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.layout import Array
    from models.shape import Shapes

#: The column-parallel product whose gradients a part's communication may hide behind.
_COLUMN_PRODUCT = {
    "attention": "qkv",
    "latent": "latent up",
    "mamba": "mamba in",
    "delta net": "delta net in",
    "mlp": "mlp up",
    "shared": "shared up",
    "head": "head",
}


def column_input(
    name: str, hidden: Array | float, shapes: Shapes, reductions: Array | float
) -> tuple[tuple[Communication, ...], tuple[Communication, ...]]:
    """Return what a column-parallel product needs: its input gathered, its gradient reduced.

    With tp_sp an all-gather before and a reduce-scatter of the input gradient (Korthikanti et
    al., arXiv:2205.05198 section 4.2); without it nothing before and an all-reduce after.
    """
    elements = shapes.tokens * hidden
    nbytes = elements * BF16
    many = np.where(shapes.tp > 1, 1.0, 0.0)
    gather = Communication(
        name=f"{name} gather",
        collective=Collective.ALL_GATHER,
        axis=Axis.TP,
        nbytes=elements * _gathered_bytes(name, shapes),
        calls=many * shapes.sharded,
        selective=1.0,
    )
    hidden_by = f"{_COLUMN_PRODUCT[name]}{WEIGHT_GRADIENT}"
    scatter = Communication(
        name=f"{name} gradient scatter",
        collective=Collective.REDUCE_SCATTER,
        axis=Axis.TP,
        nbytes=nbytes,
        calls=many * shapes.sharded,
        hidden_by=hidden_by,
    )
    reduce = Communication(
        name=f"{name} gradient reduce",
        collective=Collective.ALL_REDUCE,
        axis=Axis.TP,
        nbytes=nbytes,
        calls=many * (1.0 - shapes.sharded) * reductions,
        hidden_by=hidden_by,
    )
    return (gather,), (scatter, reduce)


def gather_again(gather: tuple[Communication, ...], shapes: Shapes) -> tuple[Communication, ...]:
    """Return the gathers repeated for the weight gradient, behind the input gradient's product.

    Fused kernels keep the shard of a product's input and gather it again; eager ones keep the
    gathered input.
    """
    (op,) = gather
    part = op.name.removesuffix(" gather")
    calls = op.calls * shapes.pick(float(FUSED.gathers_input_again), 0.0)
    return (
        Communication(
            name=f"{op.name} again",
            collective=op.collective,
            axis=op.axis,
            nbytes=op.nbytes,
            calls=calls,
            hidden_by=f"{_COLUMN_PRODUCT[part]} dgrad",
        ),
    )


def row_output(
    name: str, hidden: int, shapes: Shapes, *, forward: bool
) -> tuple[Communication, ...]:
    """Return how a row-parallel product's output is joined: reduced forward, gathered backward."""
    elements = shapes.tokens * hidden
    nbytes = elements * BF16
    many = np.where(shapes.tp > 1, 1.0, 0.0)
    scattered = Communication(
        name=f"{name} output scatter" if forward else f"{name} output gradient gather",
        collective=Collective.REDUCE_SCATTER if forward else Collective.ALL_GATHER,
        axis=Axis.TP,
        nbytes=nbytes if forward else elements * _gathered_bytes(name, shapes),
        calls=many * shapes.sharded,
    )
    if not forward:
        return (scattered,)
    reduced = Communication(
        name=f"{name} output reduce",
        collective=Collective.ALL_REDUCE,
        axis=Axis.TP,
        nbytes=nbytes,
        calls=many * (1.0 - shapes.sharded),
        selective=1.0,
    )
    return scattered, reduced


def _gathered_bytes(part: str, shapes: Shapes) -> Array:
    """Return bytes per element of what is gathered for a product of a part of the model."""
    return shapes.pick(shapes.precision.of_product(part).input_bytes, BF16)


def gather_buffer(hidden: int, shapes: Shapes) -> Array:
    """Return the gathered input of one tensor-parallel product."""
    return np.where(shapes.norm_shard > 1, shapes.tokens * hidden * BF16, 0.0)


def head_norm_sums(name: str, shapes: Shapes) -> Communication:
    """Return what norms of queries and keys over all heads sum up: an fp32 number each, a token.

    Ranks have some of the heads; the sum of squares, or backward of gradients, is over all. (Plain
    modules under transformers' own plan gather whole queries and keys instead, which is more.)
    """
    return Communication(
        name=name,
        collective=Collective.ALL_REDUCE,
        axis=Axis.TP,
        nbytes=shapes.tokens * 2.0 * FP32,
        calls=np.where(shapes.tp > 1, 1.0, 0.0),
        selective=1.0,
    )


def loss_reductions(shapes: Shapes) -> Communication:
    """Return what the loss over a cut vocabulary sums up: three fp32 numbers of each token.

    The largest logit, the sum of exponentials and the right word's logit (Megatron-LM
    ``tensor_parallel/cross_entropy.py``; torch's loss parallel does the same).
    """
    return Communication(
        name="loss reductions",
        collective=Collective.ALL_REDUCE,
        axis=Axis.TP,
        nbytes=shapes.tokens * FP32,
        calls=np.where(shapes.tp > 1, 3.0, 0.0),
    )
