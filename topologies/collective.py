"""What a group of ranks does together."""

from __future__ import annotations

from enum import StrEnum


class Collective(StrEnum):
    """What a group of ranks does together; `nbytes` counts as noted."""

    ALL_GATHER = "all_gather"  # bytes of the gathered tensor
    REDUCE_SCATTER = "reduce_scatter"  # bytes of the whole tensor
    ALL_REDUCE = "all_reduce"  # bytes of the tensor
    BROADCAST = "broadcast"  # bytes of the tensor
    ALL_TO_ALL = "all_to_all"  # bytes of one rank's buffer
    SHIFT = "shift"  # bytes of one hop to the next rank: ring attention, sends between stages
