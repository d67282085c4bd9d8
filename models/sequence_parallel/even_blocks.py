"""Core attention of rings whose blocks are all alike: no mask at all, or striped tokens.

The inventory's own core attention is causal over a contiguous or zigzag cut. Benchmarks of
attention alone also run these two:

* **Full**: nothing is masked. Every rank attends to every block with all its queries.
* **Striped** (Brandon et al., arXiv:2311.09431): rank ``r`` of ``P`` holds the tokens ``r, r + P,
  ...``. Every block, own or received, is a causal square, so that all ranks have the same work and
  every kernel meets the mask.

Both follow from the busiest rank of a contiguous causal ring, which attends to ``P`` blocks with
all its queries as they do, to ``P - 1/2`` blocks' worth of pairs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.sequence_parallel.blocks import attends_at_once, busiest_over_mean

if TYPE_CHECKING:
    from models.operation import Compute
    from models.sequence_parallel.heads import AttentionHeads
    from models.shape import Shapes


def unmasked(core: Compute, attention: AttentionHeads, shapes: Shapes) -> Compute:
    """Return a contiguous causal ring's core attention without its mask."""
    pairs = 2.0 / busiest_over_mean(attention, shapes)
    flop, met = core.flop * pairs, core.columns * pairs
    return replace(core, flop=flop, columns=met, edge_flop=0.0, edge_keys=0.0, first_block=1.0)


def striped(core: Compute, attention: AttentionHeads, shapes: Shapes) -> Compute:
    """Return a contiguous causal ring's core attention with its tokens handed out in stripes."""
    pairs = 1.0 / busiest_over_mean(attention, shapes)
    squares = np.where(attends_at_once(attention, shapes), 1.0, shapes.ring)
    return replace(
        core,
        flop=core.flop * pairs,
        columns=core.columns * pairs,
        edge_flop=core.edge_flop * squares,
        first_block=1.0,
    )
