"""Which layouts are possible, and the sentence a user reads where one is not.

Every rule is in :mod:`models.rules`; what enumerates layouts (:mod:`planner.options`,
:mod:`planner.schedules`) leaves out beforehand some of what rules would refuse, to be quick. A rule
holds for any software; what a given framework can run is data (:mod:`models.framework`).
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
#: Products of axes below it fit the 32-bit integers of a batch, even twice (zigzag rings).
LARGEST_PRODUCT = 2**30


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
    if overflowing := _overflowing(layout, job):
        return overflowing
    batch = LayoutBatch.of([layout])
    broken = [rule for rule in RULES if not rule.holds(batch, job)[0]]
    return [_problem(layout, job, rule.axis, rule.mend(layout, job)) for rule in broken]


def _overflowing(layout: Layout, job: Job) -> list[Problem]:
    """Return products that a batch cannot hold, so that no rule could be asked about them."""
    layers, batch = len(job.architecture.layers), job.workload.global_batch
    stages = layout.pp * layout.vp * max(layout.recompute_layers, 1)
    ranks, each = layout.ep * layout.etp, layout.dp * layout.micro_batch
    products = (
        ("dp", layout.gpus, "dp x tp x pp x ulysses x ring", f"the cluster has {job.gpus}"),
        ("ep", ranks, "ep x etp", f"the cluster has {job.gpus}"),
        ("pp", stages, "pp x vp x recompute-layers", f"there are {layers} layers"),
        ("micro_batch", each, "dp x micro-batch", f"--global-batch is {batch}"),
    )
    return [
        _problem(layout, job, axis, f"{what} is {product}, and {limit}: lower these axes")
        for axis, product, what, limit in products
        if product >= LARGEST_PRODUCT
    ]


def _problem(layout: Layout, job: Job, axis: str, mend: str) -> Problem:
    return Problem(f"--{axis.replace('_', '-')}", _shown(layout, axis, job), mend)


def _shown(layout: Layout, axis: str, job: Job) -> object:
    """Return an axis' value as users write it."""
    if axis == "seq_len":
        return job.workload.seq_len
    value = layout.to_dict()[axis]
    return ("on" if value else "off") if isinstance(value, bool) else value
