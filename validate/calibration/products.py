"""Matrix products: forward, and those of both gradients."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from models.operation import WEIGHT_GRADIENT
from models.operators import matrix_product
from validate.calibration.item import Item, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from models.operation import Compute
    from validate.calibration.bench import Bench

KIND, OF_WEIGHTS = "gemm", "gemm of weights"
#: Sets of inputs that take turns.
SETS = 6


def items(scale: Scale) -> list[Item]:
    """Return every product with every weight and number of tokens, each of its three ways."""
    found: dict[Item, None] = {}
    for tokens in scale.rows:
        for columns, depth in scale.weights:
            found[Item.of(KIND, m=tokens, n=columns, k=depth, way="forward")] = None
            if tokens > 1:
                found[Item.of(KIND, m=tokens, n=depth, k=columns, way="dgrad")] = None
                found[Item.of(OF_WEIGHTS, m=columns, n=depth, k=tokens, way="wgrad")] = None
    return list(found)


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the product as a layer or its backward pass makes it, on other inputs each time.

    A layer's product finds weights and activations where other operators have left them, not in a
    cache that it filled itself.
    """
    m, n, k = (item.number(name) for name in "mnk")
    shapes = {"forward": ((m, k), (n, k)), "dgrad": ((m, k), (k, n)), "wgrad": ((k, m), (k, n))}
    sets = itertools.cycle(
        [tuple(bench.tensor(*shape) for shape in shapes[str(item["way"])]) for _ in range(SETS)]
    )
    if item["way"] == "forward":
        return lambda: functional.linear(*next(sets))
    if item["way"] == "dgrad":
        return lambda: torch.matmul(*next(sets))

    def weight_gradient() -> Tensor:
        gradient, rows = next(sets)
        return gradient.t() @ rows

    return weight_gradient


def work(found: Sequence[Item]) -> Compute:
    """Return products of one kind as the inventory counts them, arrays over items."""
    m, n, k = (np.array([float(item[name]) for item in found]) for name in "mnk")
    name = KIND + WEIGHT_GRADIENT if found[0].kind == OF_WEIGHTS else KIND
    return matrix_product(name, m, n, k, np.ones(len(found)))
