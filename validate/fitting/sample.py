"""Kernels that one source measured on one device: their shapes, and how long each took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Marks = NDArray[np.bool_]

PRODUCT, NARROW_PRODUCT = "gemm", "gemm_fp8"
FORWARD, BACKWARD = "attention", "attention_backward"
MEMORY, DECODE, GROUPED = "memory", "decode", "grouped"
#: Shape of attention backward: 1 where the time has the forward kernel in it. Sources whose rows
#: never have it do not tell.
WITH_FORWARD = "with forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows of one table that one library made.

    Parameters
    ----------
    kind
        Of kernels; what shapes they have is told in :mod:`validate.fitting.work`.
    source, library
        Who measured, and which library's kernels where they tell several.
    shapes
        By name, an array over rows each.
    seconds
        Measured, of the same rows.
    check
        Whether it only checks fits: it did not time kernels alone.
    """

    kind: str
    source: str
    library: str = ""
    shapes: Mapping[str, Floats]
    seconds: Floats
    check: bool = False

    def __len__(self) -> int:
        """Return how many rows it has."""
        return len(self.seconds)

    def only(self, kept: Marks | NDArray[np.intp]) -> Sample:
        """Return the rows that are marked, or of these numbers."""
        shapes = {name: values[kept] for name, values in self.shapes.items()}
        return replace(self, shapes=shapes, seconds=self.seconds[kept])


def joined(samples: Sequence[Sample]) -> tuple[Sample, NDArray[np.intp]]:
    """Return samples of one kind as one, and of each row which of them it is from."""
    told = [dict(each.shapes) for each in samples]
    if any(WITH_FORWARD in shapes for shapes in told):
        for shapes, each in zip(told, samples, strict=True):
            shapes.setdefault(WITH_FORWARD, np.zeros(len(each)))
    whole_shapes = {name: np.concatenate([shapes[name] for shapes in told]) for name in told[0]}
    whole = Sample(
        kind=samples[0].kind,
        source=", ".join(dict.fromkeys(each.source for each in samples)),
        shapes=whole_shapes,
        seconds=np.concatenate([each.seconds for each in samples]),
    )
    return whole, np.repeat(np.arange(len(samples)), [len(each) for each in samples])
