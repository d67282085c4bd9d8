"""Which expert meshes are possible, and the sentence a user reads where one is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.architecture import Moe
from models.expert_mesh import expert_data_ranks, expert_stride
from models.layout import LayoutBatch, stride
from models.named_axes import Dispatch, Recompute, Schedule
from models.rules.rule import Rule
from models.schedule import PAIRED

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.layout import Layout
    from models.rules.rule import Job, Mask


def mixtures(architecture: Architecture) -> list[Moe]:
    """Return the distinct mixtures of experts of a model."""
    found = (kind.mlp for kind in architecture.kinds if isinstance(kind.mlp, Moe))
    return list(dict.fromkeys(found))


def has_shared(architecture: Architecture) -> bool:
    """Return whether any layer has shared experts."""
    return any(moe.shared is not None for moe in mixtures(architecture))


def _all(batch: LayoutBatch, job: Job, axis: str, numbers: list[int]) -> Mask:
    column = getattr(batch, axis)
    mask: Mask = np.ones(len(batch), dtype=np.bool_)
    for number in numbers:
        mask &= number % column == 0
    return mask if mixtures(job.architecture) else column == 1


def _experts(job: Job) -> list[int]:
    return sorted({moe.experts for moe in mixtures(job.architecture)})


def _widths(job: Job) -> list[int]:
    return sorted({moe.expert.intermediate for moe in mixtures(job.architecture)})


def _first_uncut(numbers: list[int], degree: int, what: str) -> str:
    if not numbers:
        return "the model has no experts: leave it out"
    number = next((number for number in numbers if number % degree), numbers[0])
    return f"must divide the {number} {what}"


def _ranks(layout: Layout) -> int:
    return layout.dp * layout.cp * layout.tp


#: Conditions on the expert axes together with the others.
EXPERT_RULES: tuple[Rule, ...] = (
    Rule(
        "ep",
        lambda b, job: _all(b, job, "ep", _experts(job)),
        lambda x, job: _first_uncut(_experts(job), x.ep, "experts"),
    ),
    Rule(
        "etp",
        lambda b, job: _all(b, job, "etp", _widths(job)),
        lambda x, job: _first_uncut(_widths(job), x.etp, "columns of an expert"),
    ),
    Rule(
        "ep",
        lambda b, _: b.dp * b.cp * b.tp % (b.ep * b.etp) == 0,
        lambda x, _: (
            f"ep x etp = {x.ep * x.etp} must divide dp x cp x tp = {_ranks(x)}: experts lie on the "
            "ranks of one pipeline stage and need none of their own"
        ),
    ),
    Rule(
        "tp_sp",
        lambda b, job: (b.tp_sp == 1) | (b.tp == 1) | (not mixtures(job.architecture)),
        lambda *_: "with --tp 2 or more each rank routes tokens of its own to experts: leave it on",
    ),
    Rule(
        "rank_order",
        lambda b, _: (
            (b.pp == 1) | (b.ep * b.etp == 1) | (expert_stride(b, "pp") == stride(b, "pp"))
        ),
        lambda x, _: (
            "puts pipeline stages between the ranks of one group of experts: use "
            f"tp-cp-ep-dp-pp, or --ep {max(x.cp * x.tp // x.etp, 1)}"
        ),
    ),
    Rule(
        "dp_replicate",
        lambda b, _: expert_data_ranks(b) % b.dp_replicate == 0,
        lambda x, _: (
            f"must divide the {_ranks(x) // (x.ep * x.etp)} ranks that hold the same experts"
        ),
    ),
    Rule(
        "dispatch",
        lambda b, _: (b.dispatch == Dispatch.ALL_TO_ALL) | (b.ep > 1),
        lambda *_: "is how tokens reach other ranks' experts: use --ep 2 or more, or leave it out",
    ),
    Rule(
        "shared_overlap",
        lambda b, job: (
            (b.shared_overlap == 0)
            | (
                (b.ep > 1)
                & (b.dispatch == Dispatch.ALL_TO_ALL)
                & ~PAIRED.take(b.schedule)
                & has_shared(job.architecture)
            )
        ),
        lambda *_: (
            "runs shared experts beside an all-to-all of tokens: it needs shared experts, --ep 2 "
            "or more, --dispatch all-to-all and a schedule that hides it behind no other pass"
        ),
    ),
    Rule(
        "expert_overlap",
        lambda b, job: (
            (b.expert_overlap == 0)
            | (
                (b.ep > 1)
                & ((b.pp == 1) | (b.schedule == Schedule.INTERLEAVED))
                & (b.recompute != Recompute.FULL)
                & (b.shared_overlap == 0)
                & (b.micro_batches(job.workload.global_batch) > 1)
            )
        ),
        lambda *_: (
            "sends tokens to experts beside another micro-batch's pass: it needs --ep 2 or more, "
            "two micro-batches, --pp 1 or --schedule interleaved, and neither --recompute full "
            "nor --shared-overlap"
        ),
    ),
)
