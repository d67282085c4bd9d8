"""Tables of aiconfigurator-core 0.12.0 (Apache-2.0): a column of microseconds per library.

Kernels run from a graph, on weights that are not in a cache, in short bursts. TensorRT-LLM's
attention columns are left out: they time its whole operator, which writes the cache and unpacks
queries, and decode attention on A100 would need more than the memory's bandwidth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topologies.units import MICRO
from validate.fitting.labels import in_file_name
from validate.fitting.sample import DECODE, FORWARD, NARROW_PRODUCT, PRODUCT, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from validate.fitting.sample import Floats
    from validate.fitting.table import Table

SOURCE = "aiconfigurator-core 0.12.0"
LIBRARIES = ("trtllm", "vllm", "sglang")
#: Libraries whose columns time attention alone.
BARE = ("vllm", "sglang")


def products(table: Table, device: str) -> Iterator[Sample]:
    """Yield products; those of tables named ``fp8`` have the input's quantisation in them."""
    shapes = {name: table.number(name) for name in "mnk"}
    narrow = "fp8" in table.name
    if narrow:
        shapes["cast"] = np.ones(len(shapes["m"]))
    kind = NARROW_PRODUCT if narrow else PRODUCT
    yield from _columns(table, device, kind, shapes, LIBRARIES)


def attention(table: Table, device: str) -> Iterator[Sample]:
    """Yield causal attention over tokens that nothing comes before; bf16 alone."""
    if "fp8" not in table.name:
        yield from _attention(table, device, heads=("hq", "hkv"), causal=True)


def encoder_attention(table: Table, device: str) -> Iterator[Sample]:
    """Yield attention without a mask."""
    yield from _attention(table, device, heads=("h", "h"), causal=False)


def decode_attention(table: Table, device: str) -> Iterator[Sample]:
    """Yield attention of one new token over a cache in bf16."""
    if "kvfp8" in table.name:
        return
    names = {"b": "b", "keys": "kv_len", "heads": "hq", "kv_heads": "hkv", "width": "d"}
    shapes = {name: table.number(column) for name, column in names.items()}
    yield from _columns(table, device, DECODE, shapes, BARE)


def _attention(
    table: Table, device: str, *, heads: tuple[str, str], causal: bool
) -> Iterator[Sample]:
    width = table.number("d")
    shapes = {
        "b": table.number("b"),
        "tokens": table.number("isl"),
        "heads": table.number(heads[0]),
        "kv_heads": table.number(heads[1]),
        "width": width,
        "value_width": width,
        "causal": np.full(len(width), float(causal)),
    }
    yield from _columns(table, device, FORWARD, shapes, BARE)


def _columns(
    table: Table, device: str, kind: str, shapes: Mapping[str, Floats], libraries: tuple[str, ...]
) -> Iterator[Sample]:
    if not in_file_name(table.name, device):
        return
    for library in libraries:
        seconds = table.number(f"us_{library}") * MICRO
        sample = Sample(kind=kind, source=SOURCE, library=library, shapes=shapes, seconds=seconds)
        yield sample.only(~np.isnan(seconds))
