"""Micro-batches in flight against what ranks hold when a schedule is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.layout import Layout, LayoutBatch
from models.named_axes import Schedule
from models.schedule import BOTH_WAYS, CHUNKED, SEVERAL_CHUNKS, fewest_micro_batches
from models.simulation.pipeline_order import Action, Pass
from models.simulation.schedules import ordered
from models.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.simulation.pipeline_order import Pair


def most_held(steps: Sequence[Action | Pair], stage: int | None = None) -> int:
    """Return the most passes whose activations a rank holds at once, of all or of one stage."""
    held = most = 0
    for step in steps:
        actions = [step] if isinstance(step, Action) else list(step)
        mine = [action for action in actions if stage in (None, action.stage)]
        held += sum(action.kind is Pass.FORWARD for action in mine)
        most = max(most, held)
        held -= sum(action.kind in (Pass.BACKWARD, Pass.WEIGHT_GRADIENT) for action in mine)
    return most


@given(st.sampled_from(Schedule), st.data())
def test_ranks_hold_what_the_order_of_their_passes_makes_them_hold(
    schedule: Schedule, data: st.DataObject
) -> None:
    pp = 2 * data.draw(st.integers(1, 5))
    fewest = int(fewest_micro_batches(schedule, pp))
    many = data.draw(st.integers(fewest, fewest + 3 * pp))
    if schedule in (Schedule.INTERLEAVED, Schedule.DUALPIPE):
        many = -(-many // pp) * pp
    vp = data.draw(st.integers(2, 4)) if CHUNKED[schedule] else 1 + int(SEVERAL_CHUNKS[schedule])
    order, _ = ordered(schedule, pp, many, vp)
    batch = LayoutBatch.of([Layout(pp=pp, vp=vp, schedule=schedule)])
    found = WarmUp.of(batch, np.array([float(many)]))
    stages = 2 if BOTH_WAYS[schedule] else vp
    for rank in range(pp):
        held = found.in_flight(np.array([float(rank)])) * stages
        assert held == pytest.approx(most_held(order[rank]))
    assert found.head == max(most_held(steps, pp * vp - 1) for steps in order)


@pytest.mark.parametrize(
    ("layout", "many", "all_held"),
    [
        (Layout(pp=4, schedule=Schedule.GPIPE), 64, [True] * 4),
        (Layout(pp=4), 64, [False] * 4),
        (Layout(pp=4), 3, [True, True, False, False]),
        # One round: the first ranks run all forward passes before one backward.
        (Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED), 4, [True, True, False, False]),
        (Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED), 8, [False] * 4),
    ],
    ids=str,
)
def test_which_ranks_hold_all_micro_batches_of_a_step(
    layout: Layout, many: int, all_held: list[bool]
) -> None:
    found = WarmUp.of(LayoutBatch.of([layout]), np.array([float(many)]))
    assert [bool(found.all_held(np.array([float(rank)]))[0]) for rank in range(4)] == all_held
