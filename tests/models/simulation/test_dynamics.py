"""Jitter, stragglers and packed sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layout import Layout
from models.simulation.dynamics import Dynamics, sample_steps
from models.simulation.packing import Packing, _pairs_before
from models.simulation.step import StepSimulation
from tests.models.cases import machine, prepared

DEVICE, FABRIC = machine("h100-dgx:8")


PIPELINE = Layout(tp=2, pp=4, dp=4)


def step(layout=PIPELINE, seq_len=8192):
    work = prepared(load_architecture("llama-3.1-8b"), layout, seq_len=seq_len, global_batch=64)
    return StepSimulation(work, DEVICE, FABRIC)


SIMULATION = step()
PLANNED = SIMULATION.step().step_s


def test_nothing_disturbed_is_the_step_as_planned():
    assert sample_steps(SIMULATION, Dynamics()) == pytest.approx([PLANNED])
    assert sample_steps(SIMULATION, Dynamics(jitter=1e-9)) == pytest.approx([PLANNED])


def test_draws_follow_their_seed():
    jitter = Dynamics(samples=20, jitter=0.1, seed=7)
    once, again = (sample_steps(SIMULATION, jitter) for _ in range(2))
    assert (once == again).all()
    assert (once != sample_steps(SIMULATION, Dynamics(samples=20, jitter=0.1, seed=8))).all()


def test_more_jitter_slows_more_as_everyone_waits_for_the_slowest():
    means = [
        sample_steps(SIMULATION, Dynamics(samples=50, jitter=spread)).mean()
        for spread in (0.0, 0.02, 0.1)
    ]
    assert means[0] == pytest.approx(PLANNED)
    assert means[0] < means[1] < means[2]


def test_a_single_rank_has_the_mean_of_its_jitter():
    alone = step(Layout(), 2048)
    drawn = sample_steps(alone, Dynamics(samples=400, jitter=0.1))
    assert drawn.mean() == pytest.approx(alone.step().step_s, rel=0.01)
    passes = len(alone.compiled.runs)
    assert drawn.std() / drawn.mean() == pytest.approx(0.1 / np.sqrt(passes), rel=0.3)


def test_a_straggler_slows_its_replica_and_its_stage_only():
    """Every pass of one stage takes half as long again: at most the step does."""
    slow = [
        float(sample_steps(SIMULATION, Dynamics(stragglers={rank: 1.5}))[0]) for rank in (0, 7, 31)
    ]
    for one in slow:
        assert PLANNED * 1.1 < one < PLANNED * 1.5
    both = Dynamics(stragglers={0: 1.5, 1: 1.5})  # tensor-parallel neighbours wait already
    assert sample_steps(SIMULATION, both)[0] == pytest.approx(slow[0])
    assert sample_steps(SIMULATION, Dynamics(stragglers={0: 1.0}))[0] == pytest.approx(PLANNED)


@given(st.integers(1, 400), st.integers(1, 4), st.booleans(), st.integers(0, 2**32))
def test_packs_have_the_pairs_of_their_sequences(mean, power, zigzag, seed):
    seq_len, ring = 512, 2**power
    generator = np.random.default_rng(seed)
    packing = Packing(mean_tokens=mean, spread=0.7)
    shares = packing.attention(seq_len, ring, zigzag=zigzag, many=4, generator=generator)
    assert np.all((shares > 0) & (shares <= 1 + 1e-12))
    ends = packing._ends(seq_len, generator)
    by_token = np.concatenate([np.arange(n) + 0.5 for n in np.diff(ends)])
    places = np.arange(ring + 1) * seq_len / ring
    found = np.diff(_pairs_before(places, ends))
    assert found == pytest.approx(by_token.reshape(ring, -1).sum(axis=1))


def test_short_sequences_have_less_attention_and_long_ones_all_of_it():
    generator = np.random.default_rng(0)
    whole = Packing(mean_tokens=1e9, spread=0.1)
    every = whole.attention(8192, 4, zigzag=True, many=3, generator=generator)
    assert every == pytest.approx(np.ones(3))
    drawn = [
        sample_steps(SIMULATION, Dynamics(samples=10, packing=Packing(mean_tokens=mean))).mean()
        for mean in (1e9, 4096, 512)
    ]
    assert drawn[0] == pytest.approx(PLANNED)
    assert drawn[0] > drawn[1] > drawn[2]
