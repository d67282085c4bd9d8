"""A condition on layouts, and the job they must suit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.architecture import Architecture
    from models.layout import Layout, LayoutBatch
    from models.workload import Workload

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What layouts must suit: a model, a workload and a number of accelerators."""

    architecture: Architecture
    workload: Workload
    gpus: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition on a layout.

    Parameters
    ----------
    axis
        The axis to name when it does not hold.
    holds
        Which layouts of a batch satisfy it.
    mend
        What to do about one that does not.
    """

    axis: str
    holds: Callable[[LayoutBatch, Job], Mask]
    mend: Callable[[Layout, Job], str]
