"""Training with a cut sequence: as without, on from a checkpoint, and unlike with a slip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.validate import jobs
from validate import lessons, processes, training
from validate.training import Lesson


def test_ranks_that_cut_the_sequence_learn_what_one_rank_learns():
    steps = []
    found = lessons.compare("f32", 2, 8, timeout_s=120, count=steps.append)
    assert found.agrees, found
    assert found.resumed_exactly
    assert (found.first, found.second) == ((1, 2), (2, 1))
    assert found.last_loss[0] < 4.2  # of 64 tokens by chance: 4.16, less once it has learnt
    assert steps == list(range(1, 17))


def test_what_comes_of_other_kernels_is_seen_in_gradients_and_losses():
    lesson = Lesson(ulysses=1, ring=4, steps=3, tokens=64)
    right, wrong = (
        processes.run(4, job, lesson, timeout_s=120)[0]
        for job in (training.train, jobs.train_with_a_slip)
    )
    alone = processes.run(1, training.train, replace(lesson, ring=1), timeout_s=120)[0]

    def error(found):
        return np.linalg.norm(found.gradients - alone.gradients) / np.linalg.norm(alone.gradients)

    assert error(right) < lessons.GRADIENT_TOLERANCES["f32"] < 1e-3 < error(wrong)
    assert right.started == wrong.started == alone.started
    assert right.ended != wrong.ended


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_hundreds_of_steps_on_four_ranks_agree(dtype):
    found = lessons.compare(dtype, 4, 300, timeout_s=300)
    assert found.agrees, found
