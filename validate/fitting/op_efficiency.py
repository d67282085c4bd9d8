"""Tables of simulators that give operators by a text of their shape and a share of the peak.

SimuMax's ``sdp`` counts attention as if nothing were masked, and backward 2.5 times as much as
forward: read so, A100's agree with FlashAttention's own charts. Products that add to a gradient in
fp32 move its bytes besides; at these sizes that hides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from topologies.units import TERA
from validate.fitting.labels import is_of
from validate.fitting.sample import BACKWARD, FORWARD, GROUPED, PRODUCT, Sample
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from validate.fitting.sample import Floats

SOURCE = "SimuMax operator efficiencies"
BACKWARD_FLOP = 2.5
_PAIR = re.compile(r"(\w+)=([^,]+)")


def operators(table: Table, device: str) -> Iterator[Sample]:
    """Yield products, grouped products and attention."""
    mine = [row for row in table.rows if is_of(row["system"], device)]
    for op, read in (
        ("matmul", _products),
        ("group_matmul", _grouped),
        ("sdp_fwd", _attention),
        ("sdp_bwd", _attention),
    ):
        rows = tuple(row for row in mine if row["op"] == op)
        if rows:
            yield read(Table(name=op, header=table.header, rows=rows))


def _products(table: Table) -> Sample:
    shapes = _shapes(table, {"m": "m", "n": "n", "k": "k"})
    return _sample(PRODUCT, table, shapes, 2.0 * shapes["m"] * shapes["n"] * shapes["k"])


def _grouped(table: Table) -> Sample:
    shapes = _shapes(table, {"groups": "ng", "m": "M", "n": "N", "k": "K"})
    of_weights = np.array(["stage=bwd_grad_w" in text for text in table.text("shape")])
    counted = 2.0 * shapes["groups"] * shapes["m"] * shapes["n"] * shapes["k"]
    m, n, k = (shapes[name] for name in "mnk")
    outer = np.array(["stage=bwd_grad_act" in text for text in table.text("shape")])
    # Gradients of inputs have columns and depth the other way round; of weights, rows and depth.
    turned = {
        "groups": shapes["groups"],
        "m": np.where(of_weights, n, m),
        "n": np.where(of_weights | outer, k, n),
        "k": np.where(of_weights, m, np.where(outer, n, k)),
        "weights": of_weights * 1.0,
    }
    return _sample(GROUPED, table, turned, counted)


def _attention(table: Table) -> Sample:
    backward = table.name == "sdp_bwd"
    shapes = _shapes(
        table,
        {
            "b": "batch",
            "tokens": "seq_len",
            "heads": "head_num",
            "kv_heads": "kv_head_num",
            "width": "qk_head_dim",
            "value_width": "v_head_dim",
        },
    )
    shapes["causal"] = np.ones(len(table.rows))
    rows = shapes["b"] * shapes["tokens"] * shapes["heads"]
    counted = 2.0 * rows * shapes["tokens"] * (shapes["width"] + shapes["value_width"])
    counted = counted * (BACKWARD_FLOP if backward else 1.0)
    return _sample(BACKWARD if backward else FORWARD, table, shapes, counted)


def _shapes(table: Table, names: Mapping[str, str]) -> dict[str, Floats]:
    found = [dict(_PAIR.findall(text)) for text in table.text("shape")]
    return {name: np.array([float(each[key]) for each in found]) for name, key in names.items()}


def _sample(kind: str, table: Table, shapes: Mapping[str, Floats], counted: Floats) -> Sample:
    rate = table.number("tflops") * TERA
    return Sample(kind=kind, source=SOURCE, shapes=shapes, seconds=counted / rate)
