"""The one inventory of work: every FLOP, byte sent and byte kept, per layer kind and phase.

Both clocks and the memory bill read this and nothing else. Everything is for one micro-batch on
one rank, as arrays over :class:`~models.shape.Shapes`; the busiest rank where ranks differ.

Conventions: a product of ``M x K`` by ``K x N`` is ``2 M N K`` FLOP; causal attention counts half
the square of the sequence; attention's backward pass is 2.5 times its forward one (the flash
kernels compute the scores again, arXiv:2205.14135), chunked scans' what their kernels compute
(:mod:`models.mixers.mamba2`, :mod:`models.mixers.delta_net`), every other product's twice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from models import saved_tensors
from models.architecture import Attention, LatentAttention, Moe, SideBySide
from models.dtype import BF16
from models.layer_peak import layer_peak
from models.layout import Layout, LayoutBatch
from models.mixers.halves import halves
from models.named_axes import CpMethod
from models.operation import Compute, Kind, Work
from models.operators import elementwise, memory, norm_pair, product
from models.prediction import Prediction
from models.sequence_parallel.blocks import pairs_of, sight
from models.shape import Shapes
from models.tensor_parallel import (
    column_input,
    gather_again,
    gather_buffer,
    loss_reductions,
    row_output,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.architecture import Architecture, Layer
    from models.mixers.half import Half
    from models.operation import Operation
    from models.recompute_modules import RecomputeModules
    from models.workload import Workload


def layer_work(layer: Layer, hidden: int, shapes: Shapes) -> Work:
    """Return the work of one decoder layer.

    Parameters
    ----------
    layer
        Its mixers and norms.
    hidden
        Width of the residual stream.
    shapes
        Shapes of work to take it for.

    Returns
    -------
    Work
        Arrays over `shapes`.
    """
    hides = layer.hides_tokens(shapes.seq_len)
    shapes = shapes.with_method(CpMethod.ALL_GATHER if hides else CpMethod.P2P)
    parts = halves(layer, hidden, shapes)
    peak = layer_peak(parts)
    work = Work(
        forward=_forward(layer, parts, shapes),
        backward=tuple(op for part in reversed(parts) for op in part.backward()),
        saved=tuple(kept for part in parts for kept in part.saved()),
        input_bytes=shapes.tokens * hidden * BF16 / shapes.norm_shard,
        working_bytes=peak.working,
        buffer_bytes=peak.buffers,
        fused=shapes.fused,
    )
    return _predicting(work, Prediction(layer, hidden, shapes)) if layer.predicts else work


def _forward(layer: Layer, parts: Sequence[Half], shapes: Shapes) -> tuple[Operation, ...]:
    """Return a layer's forward operations, and which of them no recomputation needs.

    Autograd keeps a product's input before it runs, so that nothing is kept of what follows the
    last product: torch's checkpoints without reentrance stop there (``torch/utils/checkpoint.py``,
    early stop). Experts are left whole, whose outputs may be weighted once more.
    """
    operations = tuple(op for part in parts for op in part.forward())
    if shapes.software.repeats_last or layer.normed_after or isinstance(layer.mlp, Moe):
        return operations
    products = (
        at for at, op in enumerate(operations) if isinstance(op, Compute) and op.kind is Kind.GEMM
    )
    last = max(products)
    return *operations[:last], *(replace(op, repeats=False) for op in operations[last:])


def _predicting(work: Work, prediction: Prediction) -> Work:
    """Return the work of a layer with what multi-token prediction does around it."""
    return replace(
        work,
        forward=(*prediction.joined(0), *work.forward, *prediction.asked(0)),
        backward=(*prediction.asked(1), *work.backward, *prediction.joined(1)),
        saved=(*work.saved, *prediction.saved()),
        working_bytes=np.maximum(work.working_bytes, prediction.working_bytes()),
    )


def embedding_work(architecture: Architecture, shapes: Shapes) -> Work:
    """Return the work of the token embedding (and learned positions) on the first stage."""
    width = shapes.tokens * architecture.hidden
    tables = 2.0 if architecture.learned_positions else 1.0
    zero = np.zeros(len(shapes))
    into = row_output("embedding", architecture.hidden, shapes, forward=True)
    back = row_output("embedding", architecture.hidden, shapes, forward=False)
    look_up = memory("embedding", width * tables * 2.0 * BF16, tables)
    add = memory("embedding", width * tables * 3.0 * BF16, 2.0 * tables)
    kind = architecture.layers[0].norm
    norm = norm_pair("embedding norm", kind, architecture.hidden, shapes)
    normed = architecture.embedding_norm
    return Work(
        forward=(look_up, *into, *norm[:normed]),
        backward=(*norm[1 : 1 + normed], *back, add),
        saved=saved_tensors.embedding(architecture, shapes),
        input_bytes=zero,
        working_bytes=width * BF16,
        buffer_bytes=zero,
        fused=shapes.fused,
    )


def head_work(architecture: Architecture, shapes: Shapes) -> Work:
    """Return the work of the last norm, the vocabulary-parallel head and the loss."""
    hidden = architecture.hidden
    kind = architecture.layers[-1].norm
    columns = np.ceil(architecture.vocab / shapes.tp)
    logits = shapes.tokens * columns
    forward, backward = product("head", shapes, shapes.tokens, columns, hidden)
    norm_forward, norm_backward = norm_pair("final norm", kind, hidden, shapes)
    gather, scatter = column_input("head", hidden, shapes, reductions=1.0)
    loss_forward, loss_backward = elementwise("loss", "loss", shapes, logits)
    return Work(
        forward=(norm_forward, *gather, *forward, loss_forward, loss_reductions(shapes)),
        backward=(loss_backward, *gather_again(gather, shapes), *backward, *scatter, norm_backward),
        saved=saved_tensors.head(architecture, shapes),
        input_bytes=shapes.tokens * hidden * BF16 / shapes.norm_shard,
        working_bytes=saved_tensors.loss_working_bytes(architecture, shapes),
        buffer_bytes=gather_buffer(hidden, shapes),
        fused=shapes.fused,
    )


@cache
def repeatable_modules(architecture: Architecture) -> RecomputeModules:
    """Return the modules of a model that selective recomputation can repeat."""
    shapes = Shapes(batch=LayoutBatch.of([Layout()]), seq_len=1)  # the same at any length
    works = (layer_work(kind, architecture.hidden, shapes) for kind in architecture.kinds)
    return reduce(or_, (work.repeatable() for work in works))


def model_flop(architecture: Architecture, workload: Workload) -> float:
    """Return the FLOP of one optimizer step that MFU counts.

    Three times the forward pass: causal attention as half, the head but not the embedding look-up,
    nothing for recomputation (PaLM, arXiv:2204.02311 appendix B, with causal attention halved).
    """
    return _sequence_flop(architecture, _of_one(workload))[0] * workload.global_batch


def full_attention_flop(architecture: Architecture, workload: Workload) -> float:
    """Return :func:`model_flop` with attention counted as if nothing were masked.

    Megatron-LM's convention (arXiv:2104.04473 equation 3), for comparison with published figures.
    """
    return _sequence_flop(architecture, _of_one(workload))[1] * workload.global_batch


def _of_one(workload: Workload) -> Workload:
    """Return a workload of one sequence: FLOP are counted once for all sizes of the batch."""
    return replace(workload, global_batch=1)


@cache
def _sequence_flop(architecture: Architecture, workload: Workload) -> tuple[float, float]:
    """Return the FLOP of a step over one sequence, with masks and as if there were none."""
    shapes = Shapes.single(workload)
    masked = unmasked = head_work(architecture, shapes).forward_flop()
    for kind, layer in enumerate(architecture.kinds):
        count = architecture.kind_of_layer.count(kind)
        for op in layer_work(layer, architecture.hidden, shapes).forward_compute():
            attends = op.kind is Kind.ATTENTION
            share = _full_over_causal(layer, shapes) if attends else 1.0
            masked = masked + count * op.flop
            unmasked = unmasked + count * op.flop * share
    return float(masked[0]) * 3.0, float(unmasked[0]) * 3.0


def _full_over_causal(layer: Layer, shapes: Shapes) -> float:
    mixer = layer.mixer.attention if isinstance(layer.mixer, SideBySide) else layer.mixer
    if not isinstance(mixer, Attention | LatentAttention):
        return 1.0
    whole = shapes.seq_len
    return whole * min(sight(mixer) or whole, whole) / pairs_of(mixer, shapes)
