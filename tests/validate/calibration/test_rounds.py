"""Rounds: every item once in each, in orders of their own, until the time is up."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tests.validate.calibration.jobs import TINY
from validate.calibration import everything, rounds
from validate.calibration.bench import Bench, Sample
from validate.calibration.rounds import BATCH, Told, measure
from validate.processes import Rank

ITEMS = tuple(everything.items("cpu", 1, TINY))


def told(**changes):
    usual = {
        "items": ITEMS, "had": (0,) * len(ITEMS), "device": "cpu", "rounds": 3,
        "budget_s": 600.0, "seed": 0, "scale": TINY,
    }  # fmt: skip
    return Told(**(usual | changes))


def run(what, rank=0, world=1):
    heard = []
    done = measure(Rank(rank=rank, world=world, report=heard.append), what)
    return done, heard


def per_item(heard):
    return Counter(at for each in heard for at, _, _ in each.samples)


def test_every_item_is_sampled_once_a_round(sampled):
    done, heard = run(told())
    assert done
    assert per_item(heard) == dict.fromkeys(range(len(ITEMS)), 3)
    for number in range(3):
        taken = sampled[number * len(ITEMS) : (number + 1) * len(ITEMS)]
        assert set(taken) == set(ITEMS)


def test_rounds_have_orders_of_their_own_that_the_seed_decides(sampled):
    orders = []
    for seed in (0, 0, 1):
        sampled.clear()
        run(told(seed=seed))
        orders.append(list(sampled))
    one, same, other = orders
    assert one == same != other
    first, second = one[: len(ITEMS)], one[len(ITEMS) : 2 * len(ITEMS)]
    assert first != second
    assert first != list(ITEMS)


def test_samples_are_told_of_in_batches_each_with_its_item_and_calls(sampled):
    _, heard = run(told(rounds=1))
    assert [len(each.samples) for each in heard] == [
        *[BATCH] * (len(ITEMS) // BATCH), len(ITEMS) % BATCH,
    ]  # fmt: skip
    found = [each for one in heard for each in one.samples]
    assert [ITEMS[at] for at, _, _ in found] == sampled
    assert [sample for _, sample, _ in found] == [
        Sample(1e-3 * at, 2e-3 * at) for at in range(1, len(ITEMS) + 1)
    ]
    assert {calls for _, _, calls in found} == {7}


def test_what_has_rounds_from_before_is_not_taken_again(sampled):
    had = [0, 1, 2, 3, 4] * len(ITEMS)
    run(told(had=tuple(had[: len(ITEMS)])))
    taken = Counter(sampled)
    assert [taken[item] for item in ITEMS] == [
        {0: 3, 1: 2, 2: 1}.get(each, 0) for each in had[: len(ITEMS)]
    ]
    # The first round is of what had none, as if nothing had come between.
    assert set(sampled[: len(ITEMS[::5])]) == set(ITEMS[::5])


def test_an_order_goes_on_where_it_was(sampled):
    run(told(rounds=1))
    whole = list(sampled)
    sampled.clear()
    first = set(whole[:30])
    run(told(rounds=1, had=tuple(int(item in first) for item in ITEMS)))
    assert sampled == whole[30:]


@pytest.mark.parametrize("budget", [1, 10, 100])
def test_nothing_is_begun_once_the_time_is_up(monkeypatch, sampled, budget):
    """A clock that goes on by a second whenever anyone looks."""
    clock = iter(range(10**6))
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    done, heard = run(told(budget_s=budget))
    assert not done
    assert len(sampled) == budget
    assert sum(per_item(heard).values()) == budget


def test_all_rounds_in_time_are_done(monkeypatch, sampled):
    clock = iter(range(10**6))
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    done, _ = run(told(budget_s=3 * len(ITEMS)))
    assert done
    assert len(sampled) == 3 * len(ITEMS)


def test_what_the_memory_is_too_small_for_is_left_out_of_all_rounds(monkeypatch, sampled):
    prepare, tried = everything.prepare, []

    def prepared(item, device):
        tried.append(item)
        if item.kind == "block":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return prepare(item, device)

    monkeypatch.setattr(everything, "prepare", prepared)
    done, heard = run(told())
    blocks = [at for at, item in enumerate(ITEMS) if item.kind == "block"]
    assert done
    assert [each for one in heard for each in one.impossible] == [
        (at, "the device's memory is too small") for at in blocks
    ]
    assert set(per_item(heard)) == set(range(len(ITEMS))) - set(blocks)
    assert Counter(tried)[ITEMS[blocks[0]]] == 1


def test_a_rank_that_runs_out_of_memory_beside_others_ends_the_job(monkeypatch, sampled):
    def prepared(item, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(everything, "prepare", prepared)
    monkeypatch.setattr(Bench, "largest", lambda self, number: number)
    monkeypatch.setattr(rounds.dist, "broadcast_object_list", lambda objects: None)
    with pytest.raises(torch.OutOfMemoryError):
        run(told(), world=2)


# ------------------------------------------------------------------------------------ several ranks
@pytest.fixture
def beside(monkeypatch):
    """Have another rank that has three times this one's seconds and half of what passed."""

    def gather(every, own):
        every[:] = [own, [Sample(3 * each.seconds, each.wall_s / 2) for each in own]]

    monkeypatch.setattr(rounds.dist, "all_gather_object", gather)
    monkeypatch.setattr(rounds.dist, "broadcast_object_list", lambda objects: None)
    monkeypatch.setattr(Bench, "largest", lambda self, number: number)
    monkeypatch.setattr(everything, "prepare", lambda item, bench: None)


@pytest.mark.parametrize(("device", "share"), [("cpu", 2.0), ("cuda", 3.0)])
def test_ranks_are_told_by_the_mean_time_of_a_core_or_the_slowest_gpu(
    beside, sampled, device, share
):
    _, heard = run(told(rounds=1, device=device), world=2)
    found = [sample for one in heard for _, sample, _ in one.samples]
    for at, sample in enumerate(found, start=1):
        assert sample.seconds == pytest.approx(share * 1e-3 * at)
        assert sample.wall_s == pytest.approx(2e-3 * at)  # the longest of all


def test_only_the_first_rank_reports(beside, sampled):
    assert run(told(rounds=1), rank=1, world=2)[1] == []
    assert run(told(rounds=1), rank=0, world=2)[1]


def test_all_ranks_stop_when_one_has_no_time_left(monkeypatch, sampled, beside):
    looks = iter([0] * 5 + [1] * 10**6)
    monkeypatch.setattr(Bench, "largest", lambda self, number: next(looks))
    done, _ = run(told(), world=2)
    assert not done
    assert len(sampled) == 5


def test_ranks_go_on_from_what_the_first_one_has(monkeypatch, sampled, beside):
    """Where the others see no file of an earlier run, or another."""
    had = tuple(at % 2 for at in range(len(ITEMS)))

    def broadcast(objects):
        objects[:] = [had]

    monkeypatch.setattr(rounds.dist, "broadcast_object_list", broadcast)
    run(told(rounds=1), rank=1, world=2)
    assert set(sampled) == set(ITEMS[::2])
