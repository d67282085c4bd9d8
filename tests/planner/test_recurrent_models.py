"""Models with recurrent layers, planned, estimated and simulated."""

from __future__ import annotations

import pytest

from planner import estimate, plan, simulate

JOB = {"seq_len": "64k", "global_batch": 16}
LAYOUT = {"tp": 2, "ulysses": 2, "ring": 2, "dp": 2}


def test_an_estimate_is_what_the_event_clock_plays() -> None:
    one = estimate("mamba2-2.7b", "h100-dgx:2", **JOB, **LAYOUT)
    played = simulate("mamba2-2.7b", "h100-dgx:2", **JOB, **LAYOUT)
    assert one.fits
    assert played.step.step_s == pytest.approx(one.step_time_s, rel=0.02)


def test_a_ring_of_states_is_worth_it_where_memory_binds() -> None:
    """No known framework hands states on; where one is free to, less is computed again."""
    known = plan("mamba2-2.7b", "h100-dgx:2", **JOB).best
    free = plan("mamba2-2.7b", "h100-dgx:2", **JOB, framework="unrestricted").best
    assert known is not None
    assert free is not None
    assert known.layout.ring == 1
    assert free.layout.ring > 1
    assert free.step_time_s < known.step_time_s
