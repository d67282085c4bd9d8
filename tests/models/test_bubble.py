"""Closed forms of bubbles against schedules run pass by pass, and against their papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bubble import BUBBLES, Turn, bubble, turning
from models.named_axes import Schedule
from models.schedule import ALWAYS_APART, CHUNKED, SEVERAL_CHUNKS, fewest_micro_batches
from models.simulation.pipeline_order import Pass
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled

SAMPLES = 12


def turns(draw: st.DrawFn) -> Turn:
    """Draw passes of some layouts: short and long attention, recomputation, slow and fast links."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs, weights = random.uniform(0.7, 3.5, SAMPLES), random.uniform(0.02, 1.1, SAMPLES)
    return Turn(
        forward=np.ones(SAMPLES),
        backward=(inputs + weights) * random.uniform(0.93, 1.0, SAMPLES),
        inputs=inputs,
        weights=weights,
        hop=random.choice([0.0, 0.01, 0.1, 0.3], SAMPLES) * random.uniform(0.3, 1.2, SAMPLES),
    )


def step(schedule: Schedule, pp: int, many: int, vp: int, turn: Turn) -> Any:
    """Return the step by the closed form."""
    sizes = (np.full(len(turn.hop), float(size)) for size in (pp, many, vp))
    apart = turn.inputs + turn.weights
    backward = apart if ALWAYS_APART[schedule] else turn.backward
    return many * vp * (turn.forward + backward) + bubble(schedule, *sizes, turn)


def run(schedule: Schedule, pp: int, many: int, vp: int, turn: Turn) -> Any:
    """Return the step of the schedule run pass by pass."""
    compiled = Compiled.of(*ordered(schedule, pp, many, vp))
    spent = {"F": turn.forward, "B": turn.backward, "I": turn.inputs, "W": turn.weights}
    seconds = np.array([sum(spent[action.kind] for action in runs) for runs in compiled.runs])
    return compiled.times(seconds, turn.hop).end.max(axis=0)


@given(st.sampled_from(sorted(BUBBLES)), st.data())
def test_closed_forms_are_the_longest_path(schedule: Schedule, data: st.DataObject) -> None:
    """Never more, and at most 1% less."""
    pp = data.draw(st.integers(2, 12))
    fewest = int(fewest_micro_batches(schedule, pp))
    many = data.draw(st.integers(fewest, fewest + 3 * pp))
    if schedule is Schedule.DUALPIPE:
        pp, many = pp + pp % 2, max(many + many % 2, 2 * (pp + pp % 2))
    vp = data.draw(st.integers(2, 4)) if CHUNKED[schedule] else 1 + int(SEVERAL_CHUNKS[schedule])
    turn = data.draw(st.composite(turns)())
    wanted = run(schedule, pp, many, vp, turn)
    found = step(schedule, pp, many, vp, turn)
    assert (found <= wanted * (1 + 1e-9)).all()
    assert found == pytest.approx(wanted, rel=0.01)


@given(st.data())
def test_without_hops_bubbles_are_the_published_ones(data: st.DataObject) -> None:
    pp = 2 * data.draw(st.integers(2, 8))
    drawn = data.draw(st.composite(turns)())
    f, i, w = drawn.forward, drawn.inputs, drawn.weights
    # The papers take backward passes to be no shorter than forward ones, weights to be the least.
    i, w = np.maximum(i, f), np.minimum(w, f)
    turn = Turn(forward=f, backward=i + w, inputs=i, weights=w, hop=np.zeros(SAMPLES))

    def of(schedule: Schedule, vp: int = 1) -> Any:
        sizes = (np.full(SAMPLES, float(size)) for size in (pp, 4 * pp, vp))
        return bubble(schedule, *sizes, turn)

    assert of(Schedule.ZB_H1) == pytest.approx((pp - 1) * (f + i - w))
    published = (pp - 1) * (f + i - 2 * w)
    filling = (pp - 1) * np.maximum(f, i - f)  # until the first and from the last micro-batch
    assert of(Schedule.ZB_H2) == pytest.approx(np.maximum(published, filling))
    assert of(Schedule.LOOPED_BFS, 2) == pytest.approx((pp - 1) * (f + i + w))
    # Unbalanced passes end up to a forward pass earlier than DualPipe's formula says.
    published = (pp / 2 - 1) * ((f + i + w) + (i + w) - 3 * w)
    assert (of(Schedule.DUALPIPE) <= published * (1 + 1e-12)).all()
    assert (of(Schedule.DUALPIPE) >= published - f - 1e-12).all()


def test_forward_passes_and_slow_links_can_set_the_pace_of_a_v() -> None:
    """Gradients of inputs much shorter than forward passes: exact on two ranks."""
    inputs, weights, hop = np.array([0.3]), np.array([0.71]), np.array([0.36])
    turn = Turn(
        forward=np.ones(1), backward=inputs + weights, inputs=inputs, weights=weights, hop=hop
    )
    found, wanted = (each(Schedule.ZB_V, 2, 4, 2, turn) for each in (step, run))
    assert found == pytest.approx(wanted, rel=1e-9)


def test_even_passes_without_hops() -> None:
    """F = I = W = 1: ZB-V half of ZB-H1's (its chunks are halves), ZB-H2 only its filling."""
    one = np.ones(1)
    turn = Turn(forward=one, backward=2 * one, inputs=one, weights=one, hop=0 * one)
    found = {
        schedule: float(bubble(schedule, 8 * one, 32 * one, one, turn)[0]) for schedule in BUBBLES
    }
    assert found[Schedule.ZB_H1] == found[Schedule.ZB_H2] == found[Schedule.ZB_V] == 7
    assert found[Schedule.DUALPIPE] == 3 * 2
    assert found[Schedule.DUALPIPE_V] == 7 * 2


@given(
    st.sampled_from([Schedule.ZB_V, Schedule.DUALPIPE, Schedule.DUALPIPE_V]),
    st.integers(2, 12),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.01),
)
def test_a_v_turns_round_as_soon_as_its_order_says(
    schedule: Schedule, pp: int, weights: float, hop: float
) -> None:
    """The least time on any rank from the last gradients of its first stage done to the end."""
    pp += pp % 2 if schedule is Schedule.DUALPIPE else 0
    vp = 1 + int(SEVERAL_CHUNKS[schedule])
    compiled = Compiled.of(*ordered(schedule, pp, 2 * pp + 4, vp))
    spent = {"F": 1.0, "B": 2.0, "I": 2.0 - weights, "W": weights}
    seconds = np.array([sum(spent[action.kind] for action in runs) for runs in compiled.runs])
    end = compiled.times(seconds, hop).end
    done: dict[tuple[int, int], float] = {}
    for rank, runs, when in zip(compiled.rank.tolist(), compiled.runs, end.tolist(), strict=True):
        for action in runs:
            if action.kind in (Pass.WEIGHT_GRADIENT, Pass.BACKWARD):
                place = rank, action.stage
                done[place] = max(done.get(place, 0.0), when)
    first = {rank: min(done[place] for place in done if place[0] == rank) for rank in range(pp)}
    soonest = min(end.max() - when for when in first.values())
    sizes = np.array([int(schedule)]), np.array([pp])
    found = turning(*sizes, np.array([2.0 - weights + hop]), np.array([weights]))
    assert found[0] == pytest.approx(soonest, abs=1e-9)
