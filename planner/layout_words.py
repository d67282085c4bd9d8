"""Layouts in words: what of them degrees do not say."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from models.named_axes import (
    CpMethod,
    CpPlacement,
    Dispatch,
    Kernels,
    Recompute,
    RecomputeMethod,
    Schedule,
    StageSplit,
)
from models.rank_order import first_alike
from models.recompute_modules import USUAL_MODULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.layout import Layout

#: What a pipeline runs if nothing is said: told apart by the chunks of a rank.
_USUAL_SCHEDULES = (Schedule.ONE_F_ONE_B, Schedule.INTERLEAVED)


def label(layout: Layout) -> str:
    """Return all of a layout that tells it from others."""
    return f"{layout} {details(layout)}"


def details(layout: Layout) -> str:
    """Return the axes of a layout that are not degrees, where they matter."""
    parts = [f"zero{layout.zero}"]
    if layout.dp_replicate > 1:
        parts.append(f"x{layout.dp_replicate} replicas")
    if layout.tp_sp:
        parts.append("tp-sp")
    if layout.schedule not in _USUAL_SCHEDULES:  # of one rank too: gpipe keeps every micro-batch
        parts.append(layout.schedule.label)
    if layout.pp > 1 and layout.stage_split == StageSplit.BALANCED:
        parts.append("balanced")
    if layout.ring > 1 and layout.cp_method != CpMethod.P2P:
        parts.append(layout.cp_method.label)
    if layout.inner_ring > 1:
        parts.append(f"inner-ring {layout.inner_ring}")
    if layout.ulysses > 1 < layout.ring and layout.cp_placement == CpPlacement.CONTEXT_FIRST:
        parts.append("context-first")
    if layout.recompute != Recompute.NONE:
        some = f":{layout.recompute_layers}" if layout.recompute_layers else ""
        if layout.recompute_method != RecomputeMethod.BLOCK:
            some += f" {layout.recompute_method.label}"
        if layout.recompute_modules != USUAL_MODULES:
            some = f":{layout.recompute_modules.label}"
        parts.append(f"recompute {layout.recompute.label}{some}")
    if layout.dispatch != Dispatch.ALL_TO_ALL:
        parts.append(layout.dispatch.label)
    if layout.shared_overlap:
        parts.append("shared-overlap")
    if layout.expert_overlap:
        parts.append("expert-overlap")
    if layout.kernels == Kernels.EAGER:
        parts.append("eager")
    if first_alike(LayoutBatch.of([layout]))[0]:
        parts.append(layout.rank_order.label)
    return " ".join(parts)


def stages_in_words(stage_layers: Sequence[int]) -> str:
    """Return how many layers pipeline stages hold, where that differs; else an empty text.

    >>> stages_in_words((1,) * 50 + (2,) * 5 + (1,))
    'Layers per stage, first to last: 50 x 1, 5 x 2, 1'
    """
    if len(set(stage_layers)) < 2:
        return ""
    runs = ((layers, len([*run])) for layers, run in groupby(stage_layers))
    said = (f"{many} x {layers}" if many > 1 else f"{layers}" for layers, many in runs)
    return f"Layers per stage, first to last: {', '.join(said)}"


def beside_mesh(layout: Layout, degrees: Sequence[str] = ("vp", "ep", "etp")) -> str:
    """Return what tables have no columns for: some degrees where they are above 1, and details.

    >>> from models.layout import Layout
    >>> beside_mesh(Layout(pp=4, vp=2, ep=8, dp=8)), beside_mesh(Layout(ep=8, dp=8), ("vp",))
    ('vp2 ep8 zero1', 'zero1')
    """
    shown = [f"{axis}{getattr(layout, axis)}" for axis in degrees if getattr(layout, axis) > 1]
    return " ".join([*shown, details(layout)])
