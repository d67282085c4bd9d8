"""One flash-attention kernel as the inventory counts it, forward or backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.dtype import BF16
from models.operation import Compute, Kind
from models.recompute_modules import RecomputeModules

if TYPE_CHECKING:
    from models.layout import Array


def flash_attention(
    name: str,
    *,
    backward: bool,
    pairs: Array,
    rows: Array,
    inner: Array,
    width: Array,
    value_width: Array,
    elements: Array,
    calls: Array,
    masked_rows: Array | float,
    masked_keys: Array | float,
    first_block: Array | float = 1.0,
) -> Compute:
    """Return attention over some blocks (Dao et al., arXiv:2205.14135, for its FLOP).

    Parameters
    ----------
    name
        Of the operation.
    backward
        Whether it is the backward pass, which reads twice as much in two kernels.
    pairs
        Of queries and keys that are not masked, of all heads and sequences.
    rows, inner
        Query rows of all heads and sequences; tokens of a kernel's inner loop, masked ones aside,
        which runs over keys forward and over queries backward (Dao, arXiv:2307.08691 section 3.1).
    width, value_width
        Columns of a query or key head, and of a value head. Forward each pair of tokens meets in
        one product of either width; backward in three and two, the scores once more among them.
    elements
        Of queries, output, keys and values that all calls read or write.
    calls
        Forward kernels.
    masked_rows, masked_keys
        Rows whose keys a causal mask cuts off, and the side of its square.
    first_block
        As of :class:`models.operation.Compute`.
    """
    products, value_products, passes = (3.0, 2.0, 2.0) if backward else (1.0, 1.0, 1.0)
    a_pair = 2.0 * (products * width + value_products * value_width)
    return Compute(
        name=name,
        kind=Kind.ATTENTION_BACKWARD if backward else Kind.ATTENTION,
        flop=a_pair * pairs,
        nbytes=elements * BF16 * passes,
        launches=calls * passes,
        rows=rows,
        columns=inner,
        depth=(width + value_width) / 2.0,
        selective=0.0,  # eager recomputation keeps its output
        modules=RecomputeModules.CORE_ATTN,
        first_block=first_block,
        edge_flop=a_pair * masked_rows,
        edge_keys=masked_keys,
    )
