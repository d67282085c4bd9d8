"""Fair shares of links, proven: whoever found them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from topologies.max_min import Floats


def certificate(load: Floats, capacity: Floats, rates: Floats, tolerance: float = 1e-9) -> bool:
    """Return whether rates are max-min fair: the proof, not the method.

    No link carries more than its capacity, and every flow crosses a full link on which no other
    flow is faster.
    """
    carried = rates @ load
    if np.any(carried > capacity * (1 + tolerance)):
        return False
    full = carried >= capacity * (1 - tolerance)
    fastest = np.where(load > 0, rates[:, None], 0.0).max(axis=0, initial=0.0)
    bottleneck = (load > 0) & full & (rates[:, None] >= fastest * (1 - tolerance))
    uses_links = (load > 0).any(axis=1)
    return bool(np.all(bottleneck.any(axis=1) | ~uses_links))
