"""Communication beside compute: what is left of it to wait for.

While a collective runs it takes a share of the compute rate (its kernels occupy multiprocessors and
memory bandwidth). Compute of ``C`` seconds beside communication of ``T`` that steals ``s`` ends
after ``C + s T`` if the communication ends first and after ``T`` otherwise, so that beside the
compute there are ``max(T - C, s T)`` seconds more. The event clock finds the same by playing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array


def beside(sent_s: Array, busy_s: Array, steal: Array | float) -> Array:
    """Return what communication adds to the compute it starts together with.

    Parameters
    ----------
    sent_s, busy_s
        Seconds of the two, each alone.
    steal
        Share of the compute rate that the communication takes while both run.

    Examples
    --------
    >>> beside(np.array([1.0, 5.0]), np.array([4.0, 4.0]), 0.1).tolist()
    [0.1, 1.0]
    """
    added: Array = np.maximum(sent_s - busy_s, steal * sent_s)
    return added


def along_blocks(
    blocks: Array,
    block_s: Array,
    ahead_s: Array,
    behind_s: Array,
    steal: Array | float,
    first: Array | float = 1.0,
) -> Array:
    """Return what a chain of blocks waits for what travels between them.

    Every block but the last runs beside what the next one needs; every block but the first beside
    what the one before has made. What the first needs and what the last has made are not counted.
    Ring attention is such a chain (keys and values ahead, their gradients behind), and so are the
    layers of a pass with sharded parameters (gathered ahead, gradients scattered behind).

    Parameters
    ----------
    blocks
        How many.
    block_s
        Compute of each.
    ahead_s, behind_s
        Seconds to send what one block needs, and what one has made.
    steal
        Share of the compute rate that both take.
    first
        Compute of the first block over that of a later one.
    """
    middle = (blocks - 2.0) * beside(ahead_s + behind_s, block_s, steal)
    ends = beside(ahead_s, first * block_s, steal) + beside(behind_s, block_s, steal)
    return np.where(blocks > 1, middle + ends, 0.0)
