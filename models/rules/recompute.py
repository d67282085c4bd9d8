"""What can be recomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.inventory import repeatable_modules
from models.named_axes import Kernels, Recompute, RecomputeMethod
from models.recompute_modules import USUAL_MODULES
from models.rules.rule import Rule

if TYPE_CHECKING:
    from models.layout import Ints, LayoutBatch
    from models.rules.rule import Job, Mask


def _repeats_modules(batch: LayoutBatch) -> Mask:
    """Return where selective recomputation goes by modules."""
    mask: Mask = (batch.recompute == Recompute.SELECTIVE) & (batch.kernels == Kernels.FUSED)
    return mask


def _has_modules(modules: Ints, job: Job) -> Mask:
    """Return which sets are modules of a model, at least one."""
    mask: Mask = (modules > 0) & (modules & ~int(repeatable_modules(job.architecture)) == 0)
    return mask


RECOMPUTE_RULES: tuple[Rule, ...] = (
    Rule(
        "recompute_layers",
        lambda b, job: (
            (b.recompute_layers == 0)
            | (
                (b.recompute == Recompute.FULL)
                & (b.recompute_layers <= len(job.architecture.layers))
            )
        ),
        lambda *_: "a number of layers goes with --recompute full, and is at most all of them",
    ),
    Rule(
        "recompute_method",
        lambda b, _: (
            (b.recompute_method == RecomputeMethod.BLOCK)
            | ((b.recompute == Recompute.FULL) & (b.recompute_layers > 0))
        ),
        lambda *_: (
            "keeps one input of every few layers: it goes with --recompute full and "
            "--recompute-layers, such as 2"
        ),
    ),
    Rule(
        "recompute_layers",
        lambda b, job: (
            (b.recompute_method == RecomputeMethod.BLOCK)
            | (
                len(job.architecture.layers) % (b.pp * b.vp * np.maximum(b.recompute_layers, 1))
                == 0
            )
        ),
        lambda x, job: (
            f"with --recompute-method uniform it must divide the layers of a stage: "
            f"{len(job.architecture.layers)} over {x.pp * x.vp} stages"
        ),
    ),
    Rule(
        "recompute_modules",
        lambda b, _: (b.recompute_modules == int(USUAL_MODULES)) | _repeats_modules(b),
        lambda *_: (
            "modules go with --recompute selective and --kernels fused (eager kernels repeat "
            "operator by operator); leave them out"
        ),
    ),
    Rule(
        "recompute_modules",
        lambda b, job: ~_repeats_modules(b) | _has_modules(b.recompute_modules, job),
        lambda _, job: (
            f"{job.architecture.title} has {repeatable_modules(job.architecture).label}: "
            "name one or more of these"
        ),
    ),
)
