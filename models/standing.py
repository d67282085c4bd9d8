"""What a rank of one layout holds whatever its micro-batches keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Bytes on a rank of one layout beside what its micro-batches keep.

    Parameters
    ----------
    held
        States, and what is no memory of the allocator.
    passes
        What passes ask the allocator for beside; where the end of a backward pass needs more than
        its beginning, what more that is too.
    update
        What the optimizer's step asks it for.
    """

    held: float
    passes: float
    update: float
