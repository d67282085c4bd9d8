"""Which layouts are possible, and the sentence a user reads where one is not.

Every rule is in :mod:`models.rules` and only there. A rule holds for any software; what a given
framework can run is data (:mod:`models.framework`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.layout import Layout, LayoutBatch
from models.rules.experts import EXPERT_RULES
from models.rules.mesh import MESH_RULES
from models.rules.pipeline import PIPELINE_RULES
from models.rules.recompute import RECOMPUTE_RULES
from models.rules.sequence import SEQUENCE_RULES
from topologies.errors import Problem

if TYPE_CHECKING:
    from collections import Counter

    from models.rules.rule import Job, Mask, Rule

#: Conditions on the degrees together with the other axes.
OPTION_RULES = SEQUENCE_RULES + PIPELINE_RULES + RECOMPUTE_RULES + EXPERT_RULES
RULES = MESH_RULES + OPTION_RULES


def legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which layouts satisfy every rule.

    Parameters
    ----------
    batch
        The layouts.
    job
        What they must suit.
    refused
        Counts, by axis, the layouts that each rule is the first to turn away.
    """
    return _hold(RULES, batch, job, refused)


def mesh_legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which meshes (tp, ulysses, ring, pp, dp) some layout could satisfy every rule with."""
    return _hold(MESH_RULES, batch, job, refused)


def options_legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which layouts satisfy the rules that :func:`mesh_legal` does not ask."""
    return _hold(OPTION_RULES, batch, job, refused)


def _hold(
    rules: tuple[Rule, ...], batch: LayoutBatch, job: Job, refused: Counter[str] | None
) -> Mask:
    mask = np.ones(len(batch), dtype=np.bool_)
    for rule in rules:
        holds = rule.holds(batch, job)
        if refused is not None:
            refused[rule.axis] += int((mask & ~holds).sum())
        mask &= holds
    return mask


def problems(layout: Layout, job: Job) -> list[Problem]:
    """Return a sentence for every rule that one layout breaks."""
    batch = LayoutBatch.of([layout])
    broken = [rule for rule in RULES if not rule.holds(batch, job)[0]]
    return [
        Problem(
            f"--{rule.axis.replace('_', '-')}",
            _shown(layout, rule.axis, job),
            rule.mend(layout, job),
        )
        for rule in broken
    ]


def _shown(layout: Layout, axis: str, job: Job) -> object:
    """Return an axis' value as users write it."""
    if axis == "seq_len":
        return job.workload.seq_len
    value = layout.to_dict()[axis]
    return ("on" if value else "off") if isinstance(value, bool) else value
