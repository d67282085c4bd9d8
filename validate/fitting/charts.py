"""Charts of flash-attention kernels, TFLOP/s by length: FlashAttention's own and MagiAttention's.

Both count what the mask leaves, four FLOP per pair and column forward and ten backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.attention_kernels import best_kernel
from topologies.units import TERA
from validate.fitting.labels import is_of
from validate.fitting.sample import BACKWARD, FORWARD, WITH_FORWARD, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from validate.fitting.table import Table

MAGI_SOURCE = "SandAI-org/MagiAttention charts"
DAO_SOURCE = "Dao-AILab/flash-attention charts"
#: Of MagiAttention's charts: one sequence, its heads and their width. Shorter ones than `FROM` are
#: left out, as the number of heads, which the charts do not tell, decides how full they make one.
MAGI_HEADS, MAGI_WIDTH, FROM = 64.0, 128.0, 4096.0
#: FlashAttention's benchmark keeps 16k tokens and 2,048 columns, whatever the length and width.
DAO_TOKENS, DAO_HIDDEN = 16384.0, 2048.0
_LENGTHS = {"seq512": 512, "seq1k": 1024, "seq2k": 2048, "seq4k": 4096, "seq8k": 8192,
            "seq16k": 16384}  # fmt: skip


def magi(table: Table, device: str) -> Iterator[Sample]:
    """Yield the best generation's kernels, forward and backward."""
    rows = [
        row
        for row in table.rows
        if is_of(row["hw"], device) and row["kernel"] == best_kernel(device)
    ]
    for kind, phase in ((FORWARD, "fwd"), (BACKWARD, "bwd")):
        mine = [row for row in rows if row["pass"] == phase and _tokens(row["seq_len"]) >= FROM]
        if mine:
            tokens = np.array([_tokens(row["seq_len"]) for row in mine])
            yield _sample(
                kind,
                MAGI_SOURCE,
                tokens=tokens,
                b=np.ones(len(mine)),
                heads=np.full(len(mine), MAGI_HEADS),
                width=np.full(len(mine), MAGI_WIDTH),
                causal=np.array([float(row["mask"] == "causal") for row in mine]),
                tflops=np.array([float(row["tflops"]) for row in mine]),
            )


def dao(table: Table, device: str) -> Iterator[Sample]:
    """Yield the best generation's kernels: forward, and forward and backward together."""
    for kind, phase in ((FORWARD, "fwd"), (BACKWARD, "fwd+bwd")):
        cells = [
            (float(length), float(row["head_dim"]), float(row["causal"]), float(row[column]))
            for row in table.rows
            for column, length in _LENGTHS.items()
            if is_of(row["hw"], device)
            and row["pass"] == phase
            and row["kernel"].lower() == best_kernel(device)
            and row[column]
        ]
        if cells:
            tokens, width, causal, tflops = np.array(cells).T
            more = {WITH_FORWARD: np.ones(len(tokens))} if kind == BACKWARD else {}
            yield _sample(
                kind,
                DAO_SOURCE,
                tokens=tokens,
                b=DAO_TOKENS / tokens,
                heads=DAO_HIDDEN / width,
                width=width,
                causal=causal,
                tflops=tflops,
                **more,
            )


def _tokens(text: str) -> float:
    return float(text.removesuffix("k")) * 1024.0


def _sample(kind: str, source: str, **columns: np.ndarray) -> Sample:
    tflops = columns.pop("tflops")
    products = 2.0 if kind == FORWARD else 5.0 + 2.0 * columns.get(WITH_FORWARD, 0.0)
    each = np.where(columns["causal"] > 0.0, 0.5, 1.0) * 2.0 * products
    rows = columns["b"] * columns["tokens"] * columns["heads"]
    counted = each * rows * columns["tokens"] * columns["width"]
    shapes = {**columns, "kv_heads": columns["heads"], "value_width": columns["width"]}
    return Sample(kind=kind, source=source, shapes=shapes, seconds=counted / (tflops * TERA))
