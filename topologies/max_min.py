"""Weighted max-min fair rates of flows that share links, by progressive filling.

All flows grow together until a link is full; the flows through it stop there, the rest go on
(Bertsekas and Gallager, *Data Networks*, section 6.5.2). A flow may stand for several equal ones
(`count`) and load a link by more or less than its own rate (`load`), as a collective does on the
links of its groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Links whose fill levels differ by less than this, relatively, fill up together.
TOGETHER = 1e-12


def max_min_rates(load: Floats, capacity: Floats, limit: Floats | None = None) -> Floats:
    """Return the rate of every flow.

    Parameters
    ----------
    load
        Shape ``[flows, links]``: bytes a link carries for each byte of a flow, all flows that one
        row stands for together; 0 where a flow does not use a link.
    capacity
        Shape ``[links]``: bytes/s of each link.
    limit
        Shape ``[flows]``: a rate no flow exceeds; infinite by default.

    Returns
    -------
    ndarray
        Shape ``[flows]``. A flow that uses no link gets its limit.

    Examples
    --------
    Two flows on a link of 1 and one of them, with a third, on a link of 2:

    >>> load = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> [float(rate) for rate in max_min_rates(load, np.array([1.0, 2.0]))]
    [0.5, 0.5, 1.5]
    """
    flows, _ = load.shape
    rates = np.zeros(flows)
    ceiling = np.full(flows, np.inf) if limit is None else limit.astype(float)
    left = capacity.astype(float).copy()
    growing = np.ones(flows, dtype=np.bool_)
    level = 0.0
    while growing.any():
        pressure = load[growing].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(pressure > 0, left / pressure, np.inf)
        step = min(float(room.min(initial=np.inf)), float(ceiling[growing].min()) - level)
        rates[growing] += step
        level += step
        if not np.isfinite(step):
            break
        left = left - step * pressure
        full = room <= step * (1 + TOGETHER) + np.finfo(float).tiny
        stopped = growing & ((load[:, full] > 0).any(axis=1) | (ceiling <= level * (1 + TOGETHER)))
        growing &= ~stopped
    return rates
