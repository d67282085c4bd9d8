"""How far times may be off: the interval from the 10th to the 90th percentile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.layout import Array
    from models.profile import Profile

#: Standard normal deviate of the 90th percentile.
P90 = 1.2816


def widening(computed: Array | float, sent: Array | float, profile: Profile) -> Array:
    """Return by how much the ends of an interval are longer and shorter than what is predicted.

    Compute and communication err apart, by the profile's spreads of their logarithms.

    Parameters
    ----------
    computed, sent
        Seconds of either.
    profile
        Of the accelerator.
    """
    errors = np.hypot(
        computed * profile.compute_spread.value, sent * profile.communication_spread.value
    )
    found: Array = np.exp(P90 * errors / (computed + sent))
    return found
