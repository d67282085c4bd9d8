"""The moments of a layer at which most is alive: what is kept then, gradients, buffers.

Autograd lets go of what an operator kept once its backward pass is done, so what is kept is not all
there while attention's gradients are: those of the MLP are gone. Each tensor is named where it is
counted; ``tests/models/test_layer_peak.py`` holds the sums to what torch has alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.layout import Array
    from models.mixers.half import Half, Moment
    from models.operation import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPeak:
    """What a layer needs at its fullest moment beyond all it keeps.

    Parameters
    ----------
    working
        If nothing were communicated.
    buffers
        What communication adds to that; less than its buffers where another moment is fuller.
    """

    working: Array
    buffers: Array


def layer_peak(halves: Sequence[Half]) -> LayerPeak:
    """Return what a layer of some halves needs beyond what it keeps."""
    found = moments(halves)
    kept = reduce(np.add, (item.nbytes for half in halves for item in half.saved()))
    alone = _largest(each.saved + each.working for each in found)
    with_buffers = _largest(each.saved + each.working + each.buffers for each in found)
    return LayerPeak(working=alone - kept, buffers=with_buffers - alone)


def moments(halves: Sequence[Half]) -> tuple[Moment, ...]:
    """Return the moments that may be a layer's fullest; what earlier halves keep is there."""
    found: list[Moment] = []
    earlier: Array | float = 0.0
    for half in halves:
        found += [replace(each, saved=each.saved + earlier) for each in half.moments()]
        earlier = earlier + reduce(np.add, (item.nbytes for item in half.saved()))
    return tuple(found)


def forward_peak_bytes(work: Work) -> Array:
    """Return the most alive in a layer's forward pass, where the MLP is fullest: at its end.

    Beside what it keeps the residual, the MLP's output and their sum.
    """
    return work.saved_bytes() + 3.0 * work.input_bytes


def _largest(parts: Iterable[Array]) -> Array:
    return reduce(np.maximum, parts)
