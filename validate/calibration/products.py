"""Matrix products: forward, and those of both gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional

from models.operators import matrix_product
from validate.calibration.item import Item, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.operation import Compute
    from validate.calibration.bench import Bench

KIND = "gemm"


def items(scale: Scale) -> list[Item]:
    """Return every product with every weight and number of tokens, each of its three ways."""
    found: dict[Item, None] = {}
    for tokens in scale.rows:
        for columns, depth in scale.weights:
            found[Item.of(KIND, m=tokens, n=columns, k=depth, way="forward")] = None
            if tokens > 1:
                found[Item.of(KIND, m=tokens, n=depth, k=columns, way="dgrad")] = None
                found[Item.of(KIND, m=columns, n=depth, k=tokens, way="wgrad")] = None
    return list(found)


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the product as a linear layer or its backward pass makes it."""
    m, n, k = (item.number(name) for name in "mnk")
    if item["way"] == "forward":
        rows, weight = bench.tensor(m, k), bench.tensor(n, k)
        return lambda: functional.linear(rows, weight)
    if item["way"] == "dgrad":
        rows, weight = bench.tensor(m, k), bench.tensor(k, n)
        return lambda: rows @ weight
    gradient, rows = bench.tensor(k, m), bench.tensor(k, n)
    return lambda: gradient.t() @ rows


def work(found: Sequence[Item]) -> Compute:
    """Return the products as the inventory counts them, arrays over items."""
    m, n, k = (np.array([float(item[name]) for item in found]) for name in "mnk")
    return matrix_product(KIND, m, n, k, np.ones(len(found)))
