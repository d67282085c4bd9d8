"""The moments of a layer at which most is alive: what is kept then, gradients, buffers.

Autograd lets go of what an operator kept once its backward pass is done, so what is kept is not all
there while attention's gradients are: those of the MLP are gone. Each tensor is named where it is
counted; ``tests/models/test_layer_peak.py`` holds the sums to what torch has alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.sequence_parallel.heads import local_kv_elements, local_query_elements
from models.sequence_parallel.sent import backward_buffer_bytes, forward_buffer_bytes
from models.tensor_parallel import gather_buffer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.architecture import Attention, Layer
    from models.layout import Array
    from models.operation import Saved, Work
    from models.shape import Shapes

#: A norm's backward pass, bytes per element beside the gradient that passes it by: eager, its fp32
#: input and five fp32 tensors; in one kernel, its input and the gradients of output and input.
EAGER_NORM_WORKING, FUSED_NORM_WORKING = 6.0 * FP32, 3.0 * BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Bytes alive at one moment of a layer's passes, for one micro-batch on one rank.

    Parameters
    ----------
    name
        What runs.
    saved
        Of what the layer keeps, what is there.
    working
        Gradients and other tensors of this moment alone.
    buffers
        Those of communication.
    """

    name: str
    saved: Array
    working: Array
    buffers: Array | float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPeak:
    """What a layer needs at its fullest moment beyond all it keeps.

    Parameters
    ----------
    working
        If nothing were communicated.
    buffers
        What communication adds to that; less than its buffers where another moment is fuller.
    """

    working: Array
    buffers: Array


def layer_peak(part: Layer, hidden: int, saved: tuple[Saved, ...], shapes: Shapes) -> LayerPeak:
    """Return what a layer needs beyond what it keeps.

    Parameters
    ----------
    part, hidden, shapes
        The layer, the width of the residual stream, and the shapes of work to take it for.
    saved
        What its operators keep.
    """
    found = moments(part, hidden, saved, shapes)
    kept = _sum(item.nbytes for item in saved)
    alone = _largest(each.saved + each.working for each in found)
    with_buffers = _largest(each.saved + each.working + each.buffers for each in found)
    return LayerPeak(working=alone - kept, buffers=with_buffers - alone)


def moments(
    part: Layer, hidden: int, saved: tuple[Saved, ...], shapes: Shapes
) -> tuple[Moment, ...]:
    """Return the moments that may be a layer's fullest, in order."""
    kept = {item.name: item.nbytes for item in saved}
    mlp, post = kept["mlp"], kept.get("mlp post-norm", 0.0)
    whole = _sum(kept.values())
    before_post = whole - post
    attention = before_post - mlp - kept["mlp norm"] - kept.get("attention post-norm", 0.0)
    returned = np.where(shapes.ulysses > 1, kept["o"], 0.0)  # the output product's input
    # Until a ring has gone round, o is its sum in fp32.
    summed = np.where(shapes.ring > 1, shapes.pick(0.0, kept["o"]), 0.0)
    stream = BF16 * shapes.tokens * hidden
    passing = stream / shapes.norm_shard  # the gradient on the residual path
    width = BF16 * shapes.tokens * part.dense.intermediate / shapes.tp
    norm = passing + _norm_working(part, hidden, shapes)
    gathered = gather_buffer(hidden, shapes)
    found = (
        Moment(
            name="attention forward",
            saved=attention - returned - summed,
            working=np.zeros(len(shapes)),
            buffers=forward_buffer_bytes(part.attention, shapes),
        ),
        Moment(name="mlp down", saved=before_post, working=passing + width, buffers=gathered),
        Moment(
            name="mlp activation",
            # What the down product kept is gone; its gradient and its inputs' are there.
            saved=before_post - width,
            working=passing + width * (3.0 if _makes_two(part) else 2.0),
        ),
        Moment(
            name="mlp input",
            saved=before_post - mlp,
            working=passing + _input_gradients(part, stream, width, shapes),
            buffers=gathered,
        ),
        Moment(name="mlp norm", saved=attention, working=norm),
        Moment(
            name="attention backward",
            saved=attention - returned,
            working=passing + attention_gradients(part.attention, shapes),
            buffers=backward_buffer_bytes(part.attention, shapes),
        ),
    )
    return (
        found if part.norms == 2 else (*found, Moment(name="post", saved=before_post, working=norm))
    )


def forward_peak_bytes(work: Work) -> Array:
    """Return the most alive in a layer's forward pass, where the MLP is fullest: at its end.

    Beside what it keeps the residual, the MLP's output and their sum.
    """
    return work.saved_bytes() + 3.0 * work.input_bytes


def attention_gradients(attention: Attention, shapes: Shapes) -> Array:
    """Return gradients of core attention: do, dq, dk and dv, and dq summed up in fp32.

    The last is the flash kernel's own (FlashAttention-2's workspace): no storage of torch, but
    memory of the device.
    """
    queries, kv = local_query_elements(attention, shapes), local_kv_elements(attention, shapes)
    return (2.0 * BF16 + FP32) * queries + BF16 * kv


def _makes_two(part: Layer) -> bool:
    """Return whether the activation's backward pass makes two tensors of the MLP's width.

    A gate's and a value's gradients, or two terms of GELU from elementary operators.
    """
    return part.dense.gated or part.dense.activation == "gelu_new"


def _input_gradients(part: Layer, stream: Array, width: Array, shapes: Shapes) -> Array:
    """Return gradients around the MLP's first product, or products, whose gradients are added."""
    one = stream + width * (2.0 if part.dense.gated else 1.0)
    if not part.dense.gated:
        return one
    return shapes.pick(one, np.maximum(one, 3.0 * stream))


def _norm_working(part: Layer, hidden: int, shapes: Shapes) -> Array:
    eager = FUSED_NORM_WORKING if part.norm == "layer" else EAGER_NORM_WORKING
    return shapes.tokens * hidden / shapes.norm_shard * shapes.pick(FUSED_NORM_WORKING, eager)


def _sum(parts: Iterable[Array]) -> Array:
    return reduce(np.add, parts)


def _largest(parts: Iterable[Array]) -> Array:
    return reduce(np.maximum, parts)
