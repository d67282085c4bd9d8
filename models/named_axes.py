"""Axes of a layout whose values have names: numbers in arrays, names for people."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Named(IntEnum):
    """An axis whose values have names; arrays hold the number, people see the name."""

    @property
    def label(self) -> str:
        """The name as users write it."""
        return self.name.lower().replace("_", "-").replace("one-f-one-b", "1f1b")

    @classmethod
    def labels(cls) -> list[str]:
        """Return the names of all values."""
        return [value.label for value in cls]

    @classmethod
    def from_label(cls, label: str) -> Self:
        """Return the value of a name.

        Raises
        ------
        KeyError
            If there is no such name.
        """
        return {value.label: value for value in cls}[label]


class Schedule(Named):
    """Order of micro-batches in the pipeline."""

    GPIPE = 0
    ONE_F_ONE_B = 1
    INTERLEAVED = 2
    LOOPED_BFS = 3
    ZB_H1 = 4
    ZB_H2 = 5
    ZB_V = 6
    DUALPIPE = 7
    DUALPIPE_V = 8


class Recompute(Named):
    """What is computed again in the backward pass instead of being kept."""

    NONE = 0
    SELECTIVE = 1
    FULL = 2


class RecomputeMethod(Named):
    """Which layers full recomputation of a number of layers means (Megatron-Core's names)."""

    BLOCK = 0  # the first so many of each stage
    UNIFORM = 1  # all, of which every so many keep one input together


class CpMethod(Named):
    """How keys and values reach the ranks of the ring axis."""

    P2P = 0
    ALL_GATHER = 1
    PER_LAYER = 2  # gathered where a window or chunk hides tokens, passed on in the other layers


class SequenceOrder(Named):
    """Which tokens a ring rank holds: one run, or a pair from both ends."""

    CONTIGUOUS = 0
    ZIGZAG = 1


class CpPlacement(Named):
    """Which context-parallel axis is the inner one: Ulysses' heads or the ring's blocks."""

    HEAD_FIRST = 0
    CONTEXT_FIRST = 1


class Dispatch(Named):
    """How tokens reach the ranks of their experts, and what those made of them comes back."""

    ALL_TO_ALL = 0  # every copy straight to its expert's rank
    HIERARCHICAL = 1  # inside fast domains first, then between them (arXiv:2206.03382 section 4.2)
    DEEPEP = 2  # once to every fast domain, forwarded inside while others arrive (DeepEP)


class Kernels(Named):
    """Which kernels the framework runs: plain Hugging Face modules, or fused ones."""

    EAGER = 0
    FUSED = 1


class RankOrder(Named):
    """Order of the axes in the rank number, innermost first (Megatron's names)."""

    TP_CP_EP_DP_PP = 0
    TP_CP_EP_PP_DP = 1
    TP_PP_CP_EP_DP = 2
    TP_DP_CP_EP_PP = 3
    TP_DP_PP_CP_EP = 4
    TP_PP_DP_CP_EP = 5

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of a dense model, innermost first: what the name says, without ``ep``."""
        return tuple(axis for axis in self.label.split("-") if axis != "ep")


class StageSplit(Named):
    """Layers per pipeline stage: as many each, or balanced with embedding and head counted."""

    EVEN = 0
    BALANCED = 1


NAMED_AXES: dict[str, type[Named]] = {
    "schedule": Schedule,
    "recompute": Recompute,
    "recompute_method": RecomputeMethod,
    "cp_method": CpMethod,
    "sequence_order": SequenceOrder,
    "cp_placement": CpPlacement,
    "kernels": Kernels,
    "rank_order": RankOrder,
    "stage_split": StageSplit,
    "dispatch": Dispatch,
}
