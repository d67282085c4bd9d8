"""Effective cores, groups of ranks, samples, and what is made of those of all rounds."""

from __future__ import annotations

import pytest
import torch

from topologies.collective import Collective
from validate.calibration import bench, messages, probe
from validate.calibration.bench import Bench, Sample, group_starts
from validate.calibration.item import CPU, Item
from validate.calibration.measurement import Measurement, medians, of_kind
from validate.calibration.probe import Cores


# ------------------------------------------------------------------------------------------- cores
def bursts(*cores, world=2):
    """Return bursts in which ranks together had so many cores."""
    return [Sample(each / world * 0.01, 0.01) for each in cores]


def test_cores_are_the_time_of_all_ranks_over_the_time_that_passed():
    found = Cores.of(bursts(*[1.0 + at / 100 for at in range(101)]), 2)
    assert found.median == pytest.approx(1.5)
    assert found.low == pytest.approx(1.1)
    assert found.high == pytest.approx(1.9)
    assert Cores.of([Sample(0.008, 0.01)], 4).median == pytest.approx(3.2)


@pytest.mark.parametrize(
    ("cores", "noisy"),
    [
        ((1.91, 2.0, 2.09), False),
        ((1.4, 2.0, 2.0), True),
        ((2.0, 2.0, 2.6), True),
        ((0.79, 0.79, 0.79), True),
        ((0.81, 0.81, 0.81), False),
    ],
)
def test_too_few_or_too_uneven_cores_are_noisy(cores, noisy):
    found = Cores.of(bursts(*cores), 2)
    assert found.noisy is noisy
    assert found.to_dict() == {
        "median": found.median, "p10": found.low, "p90": found.high, "noisy": noisy,
    }  # fmt: skip


def test_unevenness_is_relative_to_the_median():
    few, many = (Cores(median=median, low=median - 0.1, high=median + 0.1) for median in (0.9, 4))
    assert (few.noisy, many.noisy) == (True, False)
    assert not Cores(median=1.0, low=0.91, high=1.1).noisy


def test_a_round_has_several_bursts():
    items = probe.items()
    assert len(set(items)) == probe.BURSTS > 1
    probe.prepare(items[0], Bench("cpu"))()


# ------------------------------------------------------------------------------------------ groups
@pytest.mark.parametrize("world", range(1, 17))
def test_every_rank_is_in_one_group_of_every_axis(world):
    for size, stride in messages.axes(world):
        groups = [
            [first + at * stride for at in range(size)]
            for first in group_starts(world, size, stride)
        ]
        assert sorted(rank for group in groups for rank in group) == list(range(world))
        assert len(groups) == world // size
        assert size > 1


@pytest.mark.parametrize("world", range(1, 17))
def test_axes_are_of_neighbours_and_of_those_apart(world):
    found = messages.axes(world)
    assert len(found) == len(set(found))
    assert ((world, 1) in found) == (world > 1)
    inside = [2**power for power in range(1, 5) if world % 2**power == 0]
    assert {size for size, stride in found if stride == 1} == {*inside, *[world] * (world > 1)}
    assert {(size, stride) for size, stride in found if stride > 1} == {
        (world // each, each) for each in inside if each < world
    }


@pytest.mark.parametrize("world", [2, 4, 6, 8])
def test_every_collective_of_every_axis_is_measured_with_every_size(world):
    items = messages.items(CPU, world)
    assert len(items) == len(messages.axes(world)) * len(Collective) * len(CPU.message_bytes)
    assert {Collective(each["collective"]) for each in items} == set(messages._CALLS)


# ----------------------------------------------------------------------------------------- samples
class Clock:
    """A clock that calls advance."""

    def __init__(self, monkeypatch, step_s):
        self.now, self.step_s, self.calls = 0.0, step_s, 0
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(bench.time, name, lambda: self.now)

    def __call__(self):
        self.calls += 1
        self.now += self.step_s


def test_a_sample_is_a_burst_of_calls_after_one_that_warms_up(monkeypatch):
    clock, mine = Clock(monkeypatch, 0.01), Bench("cpu")
    assert mine.sample("item", clock, 0.1) == pytest.approx((0.01, 0.01))
    assert mine.calls == {"item": 10}
    assert clock.calls == 1 + 1 + 10  # warming up, one to see how long it takes, the burst
    mine.sample("item", clock, 0.1)
    assert clock.calls == 12 + 1 + 10


def test_what_takes_a_whole_burst_is_called_no_more_than_needed(monkeypatch):
    clock, mine = Clock(monkeypatch, 5.0), Bench("cpu")
    assert mine.sample("item", clock, 0.1) == (5.0, 5.0)
    assert clock.calls == 2
    mine.sample("item", clock, 0.1)
    assert clock.calls == 3


def test_a_burst_has_a_limit(monkeypatch):
    clock, mine = Clock(monkeypatch, 1e-9), Bench("cpu")
    mine.sample("item", clock, 1.0)
    assert mine.calls == {"item": bench.MOST_CALLS}


def test_cores_time_is_apart_from_what_passes(monkeypatch):
    clock, mine = Clock(monkeypatch, 0.01), Bench("cpu")
    monkeypatch.setattr(bench.time, "process_time", lambda: clock.now / 4)
    assert mine.sample("item", clock, 0.05) == pytest.approx((0.0025, 0.01))


def test_inputs_are_others_each_time_and_the_same_with_the_same_seed(monkeypatch):
    monkeypatch.setitem(bench.POOL_ELEMENTS, "cpu", 100)
    mine, same, other = (Bench("cpu", seed=seed) for seed in (1, 1, 2))
    first, second = mine.tensor(5, 8), mine.tensor(40)
    assert first.shape == (5, 8)
    assert not torch.equal(first.flatten(), second)
    assert first.count_nonzero() > 30  # zeros would draw less power
    third = mine.tensor(30)  # begins anew where the pool ends
    assert torch.equal(third, first.flatten()[:30])
    assert torch.equal(same.tensor(40), first.flatten())
    assert not torch.equal(other.tensor(40), first.flatten())
    heads = Bench("cpu").heads(2, 5, 4)
    assert heads.shape == (1, 2, 5, 4)
    assert heads.stride()[2] == 8  # from a token to the next all heads lie between


# ------------------------------------------------------------------------------------ measurements
def test_rounds_are_told_by_their_median_and_percentiles():
    seconds = (*map(float, range(1, 11)), 110.0)
    one = Measurement(item=Item.of("gemm", m=1), seconds=seconds, wall_s=(1.0, 2.0, 9.0), calls=3)
    assert one.t == 6.0
    assert one.spread == (2.0, 10.0)
    assert one.wall == 2.0
    two = Measurement(item=Item.of("launch"), seconds=(5.0,), wall_s=(5.0,), calls=1)
    assert list(medians([one, two])) == [6.0, 5.0]
    assert of_kind([one, two], "launch") == [two]
    assert of_kind([two, one], "launch", "gemm") == [two, one]
