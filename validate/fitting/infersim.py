"""Tables of alibaba/InferSim@f2293da (Apache-2.0): fp8 products, attention, decode attention.

A column tells the device and shape of the file a row was in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topologies.units import MICRO
from validate.fitting.labels import is_of
from validate.fitting.sample import DECODE, FORWARD, NARROW_PRODUCT, Sample
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "alibaba/InferSim@f2293da"


def products(table: Table, device: str) -> Iterator[Sample]:
    """Yield fp8 products of inputs that are quantised already."""
    mine = tuple(row for row in table.rows if is_of(row["file"].split("/")[1], device))
    if mine:
        table = Table(name=table.name, header=table.header, rows=mine)
        shapes = {name: table.number(name) for name in "mnk"}
        shapes["cast"] = np.zeros(len(mine))
        seconds = table.number("latency_us") * MICRO
        yield Sample(kind=NARROW_PRODUCT, source=SOURCE, shapes=shapes, seconds=seconds)


def attention(table: Table, device: str) -> Iterator[Sample]:
    """Yield causal prefills of one sequence, and decode attention, in bf16."""
    for kind, phase in ((FORWARD, "prefill"), (DECODE, "decode")):
        mine = tuple(
            row
            for row in table.rows
            if row["file"].split("/")[1] == phase
            and is_of(row["file"].split("/")[2], device)
            and row["dtype"] == "bf16"
            and (row["kv_dtype"] or "bf16") == "bf16"
            and row["latency_us"]
        )
        if mine:
            yield _attention(kind, Table(name=table.name, header=table.header, rows=mine))


def _attention(kind: str, table: Table) -> Sample:
    names = [text.split("/")[-1].removesuffix(".csv").split("-") for text in table.text("file")]
    heads, kv_heads, width = np.array(names, float).T
    shapes = {"heads": heads, "kv_heads": kv_heads, "width": width}
    if kind == DECODE:
        shapes |= {"b": table.number("batch_size"), "keys": table.number("kv_len")}
    else:
        one = np.ones(len(names))
        tokens = table.number("seq_len")
        shapes |= {"b": one, "causal": one, "tokens": tokens, "value_width": width}
    seconds = table.number("latency_us") * MICRO
    return Sample(kind=kind, source=SOURCE, shapes=shapes, seconds=seconds)
