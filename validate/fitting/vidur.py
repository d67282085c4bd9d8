"""Layers of microsoft/vidur@7d47513 (MIT) by tokens and tensor-parallel ranks, in microseconds.

They are whole microseconds: shorter ones than twenty are left out. So is what only moves memory:
an inference server's norms and activations of 2024, at 0.34 to 0.58 of the bandwidth, are not those
that training runs, and additions on H100 run from its cache, at up to 1.01.

Products only check fits: run eagerly, layer after layer, they take a tenth to a quarter longer on
both devices than those of all sources that time kernels alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topologies.units import MICRO
from validate.fitting.labels import is_of
from validate.fitting.sample import PRODUCT, Sample
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from validate.fitting.sample import Floats

SOURCE = "microsoft/vidur@7d47513"
SHORTEST_S = 20 * MICRO


def layers(table: Table, device: str) -> Iterator[Sample]:
    """Yield the products of layers."""
    mine = tuple(row for row in table.rows if is_of(row["gpu"], device))
    if not mine:
        return
    table = Table(name=table.name, header=table.header, rows=mine)
    rows, hidden = table.number("num_tokens"), table.number("n_embd")
    ranks = table.number("num_tensor_parallel_workers")
    gates = np.array([1.0 + (text == "True") for text in table.text("use_gated_mlp")])
    middle = table.number("n_expanded_embd") / ranks
    heads, kv_heads = table.number("n_head"), table.number("n_kv_head")
    joint = hidden / heads * (heads + 2.0 * kv_heads) / ranks
    yield _product(table, "attn_pre_proj_us", rows, joint, hidden)
    yield _product(table, "attn_post_proj_us", rows, hidden, hidden / ranks)
    yield _product(table, "mlp_up_proj_us", rows, gates * middle, hidden)
    yield _product(table, "mlp_down_proj_us", rows, hidden, middle)


def _product(table: Table, column: str, m: Floats, n: Floats, k: Floats) -> Sample:
    seconds = table.number(column) * MICRO
    shapes = {"m": m, "n": n, "k": k}
    sample = Sample(kind=PRODUCT, source=SOURCE, shapes=shapes, seconds=seconds, check=True)
    return sample.only(seconds >= SHORTEST_S)
