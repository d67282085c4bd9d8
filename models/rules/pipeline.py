"""Which pipelines, schedules and numbers of micro-batches go together, and replicas of shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import Schedule, StageSplit
from models.rules.rule import Rule
from models.schedule import BOTH_WAYS, CHUNKED, VEE, VEE_CHUNKS, fewest_micro_batches

if TYPE_CHECKING:
    from models.layout import Ints, LayoutBatch
    from models.rules.rule import Job


def _micro_batches(batch: LayoutBatch, job: Job) -> Ints:
    return batch.micro_batches(job.workload.global_batch)


PIPELINE_RULES: tuple[Rule, ...] = (
    Rule(
        "pp",
        lambda b, job: b.pp * b.vp <= len(job.architecture.layers),
        lambda x, job: (
            f"pp x vp is {x.pp * x.vp}, and there are {len(job.architecture.layers)} layers"
        ),
    ),
    Rule(
        "stage_split",
        lambda b, job: (
            (b.stage_split != StageSplit.EVEN) | (len(job.architecture.layers) % (b.pp * b.vp) == 0)
        ),
        lambda x, job: (
            f"{len(job.architecture.layers)} layers do not divide into {x.pp * x.vp} stages; "
            "use --stage-split balanced"
        ),
    ),
    Rule(
        "micro_batch",
        lambda b, job: job.workload.global_batch % (b.dp * b.micro_batch) == 0,
        lambda x, job: (
            f"dp x micro-batch = {x.dp * x.micro_batch} must divide "
            f"--global-batch {job.workload.global_batch}"
        ),
    ),
    Rule(
        "vp",
        lambda b, _: VEE[b.schedule] | ((b.vp > 1) == CHUNKED[b.schedule]),
        lambda *_: (
            "more than one model chunk per rank is the interleaved or the looped-bfs schedule, "
            "and the reverse"
        ),
    ),
    Rule(
        "vp",
        lambda b, _: ~VEE[b.schedule] | (b.vp == VEE_CHUNKS),
        lambda x, _: f"{x.schedule.label} holds two model chunks per rank: use --vp {VEE_CHUNKS}",
    ),
    Rule(
        "schedule",
        lambda b, _: (b.pp > 1) | (b.schedule <= Schedule.ONE_F_ONE_B),
        lambda *_: "orders the passes of several ranks and needs --pp 2 or more",
    ),
    Rule(
        "schedule",
        lambda b, job: (b.schedule != Schedule.INTERLEAVED) | (_micro_batches(b, job) % b.pp == 0),
        lambda x, job: (
            f"interleaving needs micro-batches per step ({job.workload.global_batch // x.dp} / "
            f"{x.micro_batch}) in multiples of pp = {x.pp}"
        ),
    ),
    Rule(
        "schedule",
        lambda b, job: (
            np.maximum(_micro_batches(b, job), 1) >= fewest_micro_batches(b.schedule, b.pp)
        ),
        lambda x, job: (
            f"{x.schedule.label} on {x.pp} ranks needs {fewest_micro_batches(x.schedule, x.pp)} "
            f"micro-batches per step or more ({job.workload.global_batch // x.dp} / "
            f"{x.micro_batch}); lower --pp, --dp or --micro-batch"
        ),
    ),
    Rule(
        "schedule",
        lambda b, job: (
            ~BOTH_WAYS[b.schedule] | ((b.pp % 2 == 0) & (_micro_batches(b, job) % 2 == 0))
        ),
        lambda x, job: (
            f"a pipeline both ways needs an even pp (it is {x.pp}) and even micro-batches per step "
            f"({job.workload.global_batch // x.dp} / {x.micro_batch})"
        ),
    ),
    Rule(
        "dp_replicate",
        lambda b, _: b.dp % b.dp_replicate == 0,
        lambda x, _: f"must divide dp = {x.dp}",
    ),
    Rule(
        "dp_replicate",
        lambda b, _: (b.dp_replicate == 1) | (b.zero >= 1),
        lambda *_: "replicates shards: use --zero 1, 2 or 3",
    ),
)
