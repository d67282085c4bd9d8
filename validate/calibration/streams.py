"""What only moves memory: operators of a layer, merges of a ring, packing, the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from models.kernel_set import EAGER
from models.mixers.core_attention import PACK_BYTES
from models.model_states import USUAL_STATES
from models.operators import memory
from models.sequence_parallel.schedule import Part
from validate.calibration.item import Item, Scale
from validate.kernels.block import Block
from validate.kernels.merge import Merged
from validate.llama import Norm, rotary_tables, rotated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from models.operation import Compute
    from validate.calibration.bench import Bench

    #: A forward pass, and what its backward pass gives gradients of.
    _Passes = tuple[Callable[[], tuple[Tensor, ...]], list[Tensor]]

KIND = "memory"
#: Channels of the residual stream, and of a head.
HIDDEN, WIDTH = 512, 64
#: Operators of the eager kernel set, which have a forward and a backward pass.
OPERATORS = ("rms_norm", "rotary", "gated", "residual", "loss")
#: What a ring does in both of its passes, each of them without a graph.
RING_OPERATORS = ("merge", "total", "sent")
#: Bytes per element and kernels of what has one pass; the optimizer's weights have no copy here.
SINGLE = {
    "pack": (PACK_BYTES, 2.0),
    "optimizer": (USUAL_STATES.traffic_bytes - USUAL_STATES.parameter_bytes, 1.0),
}


def items(scale: Scale) -> list[Item]:
    """Return every operator over every number of elements."""
    named = (*OPERATORS, *RING_OPERATORS)
    both = [(operator, phase) for operator in named for phase in ("forward", "backward")]
    single = [(operator, "forward") for operator in SINGLE]
    return [
        Item.of(KIND, operator=operator, phase=phase, elements=elements)
        for elements in scale.elements
        for operator, phase in (*both, *single)
    ]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the operator as plain modules run it."""
    operator, elements = str(item["operator"]), item.number("elements")
    if operator not in OPERATORS:
        name = "add" if (operator, item["phase"]) == ("merge", "backward") else operator
        return _DIRECT[name](elements, bench)
    forward, inputs = _OPERATORS[operator](elements, bench)
    if item["phase"] == "forward":
        return forward
    outputs = forward()
    gradients = [
        torch.ones_like(each) if each.dim() == 0 else bench.tensor(*each.shape) for each in outputs
    ]
    return lambda: torch.autograd.grad(outputs, inputs, gradients, retain_graph=True)


def work(found: Sequence[Item]) -> Compute:
    """Return the operators as the inventory counts them, arrays over items."""
    elements = np.array([float(item["elements"]) for item in found])
    per_element, launches = np.array([_traffic(item) for item in found]).T
    return memory(KIND, per_element * elements, launches)


def _traffic(item: Item) -> tuple[float, float]:
    operator = str(item["operator"])
    if operator in SINGLE:
        return SINGLE[operator]
    traffic = getattr(EAGER, operator)[item["phase"] == "backward"]
    return traffic.nbytes, traffic.launches


def _leaf(bench: Bench, *shape: int) -> Tensor:
    return bench.tensor(*shape).detach().requires_grad_()


def _norm(elements: int, bench: Bench) -> _Passes:
    norm = Norm(HIDDEN).to(device=bench.device, dtype=bench.pool.dtype)
    hidden = _leaf(bench, 1, elements // HIDDEN, HIDDEN)
    return lambda: (norm(hidden),), [hidden, norm.weight]


def _rotary(elements: int, bench: Bench) -> _Passes:
    """Return the embedding of queries and of as many keys, half the elements each."""
    tokens = elements // HIDDEN
    both = [_leaf(bench, 1, tokens, HIDDEN // WIDTH // 2, WIDTH) for _ in range(2)]
    places = torch.arange(tokens, device=bench.device)
    tables = rotary_tables(places, WIDTH, bench.pool.dtype)
    return lambda: tuple(rotated(each.transpose(1, 2), *tables) for each in both), both


def _gated(elements: int, bench: Bench) -> _Passes:
    gate, up = (_leaf(bench, 1, elements // HIDDEN, HIDDEN) for _ in range(2))
    return lambda: (functional.silu(gate) * up,), [gate, up]


def _residual(elements: int, bench: Bench) -> _Passes:
    """Return the addition; backward two gradients of one tensor are added."""
    hidden = _leaf(bench, 1, elements // HIDDEN, HIDDEN)
    return lambda: (hidden.view_as(hidden) + hidden,), [hidden]


def _loss(elements: int, bench: Bench) -> _Passes:
    logits = _leaf(bench, elements // HIDDEN, HIDDEN)
    labels = torch.arange(elements // HIDDEN, device=bench.device) % HIDDEN
    return lambda: (functional.cross_entropy(logits.to(torch.float32), labels),), [logits]


def _merge(elements: int, bench: Bench) -> Callable[[], object]:
    rows = elements // WIDTH
    first, second = (
        Block(bench.tensor(1, 1, rows, WIDTH), bench.tensor(1, 1, rows).float()) for _ in range(2)
    )
    merged = Merged(first)
    return lambda: merged.add(second, Part.WHOLE)


def _add(elements: int, bench: Bench) -> Callable[[], object]:
    """Return a block's gradients added to the sum over blocks."""
    total, gradients = bench.tensor(elements).float(), bench.tensor(elements)
    return lambda: total.add_(gradients)


def _total(elements: int, bench: Bench) -> Callable[[], object]:
    """Return the sum over blocks as it begins, and as it is handed over."""
    first = bench.tensor(elements)
    return lambda: first.to(torch.float32).to(first.dtype)


def _sent(elements: int, bench: Bench) -> Callable[[], object]:
    keys, values = (bench.heads(1, elements // 2 // WIDTH, WIDTH) for _ in range(2))
    return lambda: torch.stack((keys, values))


def _pack(elements: int, bench: Bench) -> Callable[[], object]:
    """Return the copies around an exchange: heads outermost to send, tokens outermost after."""
    tokens = bench.tensor(elements // HIDDEN, 2, HIDDEN // 2)
    return lambda: tokens.transpose(0, 1).contiguous().transpose(0, 1).contiguous()


def _optimizer(elements: int, bench: Bench) -> Callable[[], object]:
    weights = bench.tensor(elements).float().requires_grad_()
    weights.grad = torch.zeros_like(weights)
    step: Callable[[], object] = torch.optim.AdamW([weights], fused=True).step
    return step


_OPERATORS = {
    "rms_norm": _norm,
    "rotary": _rotary,
    "gated": _gated,
    "residual": _residual,
    "loss": _loss,
}
_DIRECT = {
    "merge": _merge,
    "add": _add,
    "total": _total,
    "sent": _sent,
    "pack": _pack,
    "optimizer": _optimizer,
}
