"""Jitter, stragglers and packed sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layout import Layout
from models.simulation.dynamics import Dynamics, _Sampler, sample_steps
from models.simulation.packing import Packing, _busiest, _pairs_before
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


def test_of_several_stragglers_in_a_group_the_slowest_counts():
    alone = sample_steps(SIMULATION, Dynamics(stragglers={0: 1.5}))
    for both in ({0: 1.5, 1: 1.2}, {1: 1.2, 0: 1.5}):
        assert sample_steps(SIMULATION, Dynamics(stragglers=both)) == pytest.approx(alone)


@pytest.mark.parametrize("layout", [Layout(ring=8), Layout(ulysses=8), Layout(tp=8)], ids=str)
def test_every_pass_waits_for_the_slowest_of_its_members(layout):
    """The mean of the highest of eight: 14.6% above that of one."""
    together = step(layout)
    highest = np.random.default_rng(0).standard_normal((20000, 8)).max(axis=1)
    slowed = np.exp(0.1 * highest - 0.1**2 / 2).mean()
    drawn = sample_steps(together, Dynamics(samples=20, jitter=0.1)).mean()
    after = together.step().step_s - together.step().last_s[0]
    planned = together.step().last_s[0]
    assert (drawn - after) / planned == pytest.approx(slowed, rel=0.01)


def test_columns_are_timed_the_same_in_however_many_goes(monkeypatch):
    slow = Dynamics(samples=2, stragglers={7: 1.5})  # of the last of four replicas
    at_once = sample_steps(SIMULATION, slow)
    monkeypatch.setattr("models.simulation.dynamics.COLUMNS", 3)
    assert sample_steps(SIMULATION, slow).tolist() == at_once.tolist()


def test_a_micro_batch_has_the_attention_of_all_its_packs_on_the_busiest_ring_rank():
    layout = Layout(ring=4, micro_batch=2, dp=2)
    packing, seed, many = Packing(mean_tokens=2048), 3, 5
    sampler = _Sampler(step(layout), Dynamics(packing=packing, seed=seed))
    generator = np.random.default_rng(seed)
    packs = 2 * many * sampler.simulation.micro_batches
    drawn = packing.attention(8192, 4, zigzag=True, many=packs, generator=generator)
    wanted = drawn.reshape(-1, many, 2).mean(axis=-1)
    assert sampler._shares(sampler.dynamics.packing, many) == pytest.approx(wanted)


def test_sequences_are_as_long_in_the_mean_as_asked_for():
    ends = Packing(mean_tokens=1000, spread=1.0)._ends(10**7, np.random.default_rng(0))
    assert np.diff(ends).mean() == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("ring", [2, 4, 8])
def test_a_whole_sequence_is_even_in_zigzag_order_and_longest_for_the_last_in_the_other(ring):
    ends, pairs = np.array([0.0, 512.0]), 512**2 / 2
    assert _busiest(ends, 512, ring, zigzag=True) == pytest.approx(pairs / ring)
    last = 1 - (1 - 1 / ring) ** 2
    assert _busiest(ends, 512, ring, zigzag=False) == pytest.approx(pairs * last)
