"""Both ends of steps, against the event clock: which rank counts, what slows the last passes."""

from __future__ import annotations

import pytest

import planner
from planner.disturbances import Disturbances

JOBS = [
    # The first rank has one of the layers with experts, those in the middle four.
    ("deepseek-v3", "h800-hgx:256", {"global_batch": 2048, "pp": 16, "ep": 8}, 0.042),
    ("deepseek-v3", "h800-hgx:256", {"global_batch": 2048, "pp": 16, "ep": 64}, 0.03),
    ("glm-4.5-air", "h100-dgx:16", {"global_batch": 256, "pp": 8, "ep": 8}, 0.01),
    # Few micro-batches: each rank's reduction slows its last pass, one after the other.
    ("llama-3.1-405b", "h100-dgx:64", {"global_batch": 64, "pp": 16, "tp": 8}, 0.02),
    ("mixtral-8x7b", "h100-dgx:16", {"global_batch": 128, "pp": 4, "ep": 8}, 0.01),
    # Gradients are reduced once where there are stages, however they are sharded.
    ("llama-3.1-70b", "h100-dgx:8", {"global_batch": 64, "pp": 4, "tp": 4, "zero": 3}, 0.01),
    ("llama-3.2-1b", "h100-dgx:8", {"global_batch": 256, "pp": 4, "zero": 2}, 0.02),
]


@pytest.mark.parametrize(
    ("model", "cluster", "job", "within"),
    JOBS,
    ids=[f"{job[0]}-{at}" for at, job in enumerate(JOBS)],
)
def test_both_clocks_agree_on_the_ends_of_pipelines(
    model: str, cluster: str, job: dict[str, object], within: float
) -> None:
    answer = planner.simulate(
        model,
        cluster,
        disturbances=Disturbances(contention=False),
        **{"seq_len": "4k", "zero": 1, "stage_split": "balanced", **job},
    )
    assert answer.plan.step_time_s == pytest.approx(answer.step.step_s, rel=within)
    fullest = max(nbytes.max() for _, nbytes in answer.timeline.memory)
    assert answer.plan.memory_total_bytes == pytest.approx(fullest, rel=1e-3)
