"""Operators of DebarghaG/estimate-train-time@1ac4d5e (MIT): forward and backward microseconds.

Left out are operators whose kernels or sizes the table does not tell: RoPE, RMSNorm and the
unfused softmax (several kernels each), masks, the embedding and the loss (sizes of vocabularies),
and the optimizer, which starts so many kernels per tensor that hosts decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.attention_kernels import best_kernel
from topologies.units import MICRO
from validate.fitting.labels import is_of
from validate.fitting.sample import BACKWARD, FORWARD, MEMORY, PRODUCT, Sample
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from validate.fitting.sample import Floats

SOURCE = "DebarghaG/estimate-train-time@1ac4d5e"
KERNEL = "fa2"
FORWARD_US, BACKWARD_US = "F_dur(us)", "B_dur(us)"
#: Columns and depth of linear layers, in hidden sizes: of one tensor-parallel rank.
_LINEARS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "linear1_fp16": (lambda mp: 3.0 / mp, np.ones_like),
    "linear2_fp16": (np.ones_like, lambda mp: 1.0 / mp),
    "linear3_fp16": (lambda mp: 4.0 / mp, np.ones_like),
    "linear4_fp16": (np.ones_like, lambda mp: 4.0 / mp),
}
#: Head widths that kernels of flash attention exist for; others are filled up.
_WIDTHS = np.array([32.0, 64.0, 96.0, 128.0, 160.0, 192.0, 224.0, 256.0])


def operators(table: Table, device: str) -> Iterator[Sample]:
    """Yield linear layers forward, flash attention, and what only moves memory.

    Backward passes of linear layers are left out: at 0.88 of the peak on A100 and more on GH200
    they are faster than products of random numbers in any other source, as when gradients are
    constant.
    Flash attention is without a mask: with one it would run at half of what FlashAttention's own
    charts say. It is FlashAttention-2, and left out where the device has something better.
    """
    mine = [row for row in table.rows if is_of(row["gpu"], device)]
    for op in dict.fromkeys(row["op"] for row in mine):
        rows = tuple(row for row in mine if row["op"] == op)
        inner = Table(name=op, header=table.header, rows=rows)
        if op in _LINEARS:
            yield _linear(inner.unnested())
        elif op in _STREAMS:
            yield from _streams(inner.unnested())
        elif op == "flash_atten_fp16" and best_kernel(device) == KERNEL:
            yield from _attention(inner.unnested())


def _linear(table: Table) -> Sample:
    columns, depth = _LINEARS[table.name]
    parts, dim = table.number("mp"), table.number("dim")
    rows = table.number("b") * table.number("l")
    shapes = {"m": rows, "n": dim * columns(parts), "k": dim * depth(parts)}
    return _sample(PRODUCT, shapes, table.number(FORWARD_US))


def _streams(table: Table) -> Iterator[Sample]:
    forward, backward, elements = _STREAMS[table.name]
    for column, nbytes in ((FORWARD_US, forward), (BACKWARD_US, backward)):
        if nbytes is not None:
            many = elements(table)
            shapes = {"elements": many, "nbytes": np.full(len(many), nbytes)}
            yield _sample(MEMORY, shapes, table.number(column))


def _attention(table: Table) -> Iterator[Sample]:
    heads = table.number("h") / table.number("mp")
    width = table.number("dim") / table.number("h")
    filled = _WIDTHS[np.minimum(np.searchsorted(_WIDTHS, width), len(_WIDTHS) - 1)]
    shapes = {
        "b": table.number("b"),
        "tokens": table.number("l"),
        "heads": heads,
        "kv_heads": heads,
        "width": filled,
        "value_width": filled,
        "causal": np.zeros(len(heads)),
    }
    for kind, column in ((FORWARD, FORWARD_US), (BACKWARD, BACKWARD_US)):
        yield _sample(kind, shapes, table.number(column))


def _sample(kind: str, shapes: Mapping[str, Floats], microseconds: Floats) -> Sample:
    return Sample(kind=kind, source=SOURCE, shapes=shapes, seconds=microseconds * MICRO)


def _hidden(table: Table) -> Floats:
    return table.number("b") * table.number("l") * table.number("dim")


def _scores(table: Table) -> Floats:
    return table.number("b") * table.number("h") / table.number("mp") * table.number("l") ** 2


#: Bytes of each element forward and backward, and how many elements there are.
_STREAMS: dict[str, tuple[float, float | None, Callable[[Table], Floats]]] = {
    "res_add_fp16": (6.0, None, _hidden),
    "gelu_fp16": (4.0, 6.0, lambda table: 4.0 * _hidden(table) / table.number("mp")),
    # Backward it sums gradients of its weights over all tokens: another kernel, no stream.
    "layernorm_fp16": (4.0, None, _hidden),
    # The mask leaves half to be read; all of it is written.
    "ScaledUpperTriangMaskedSoftmax_fp16": (3.0, 4.0, _scores),
}
