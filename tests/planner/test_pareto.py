"""The front of time and memory against brute force over every layout."""

import numpy as np

from models.memory import memory_bill
from models.prepared import Prepared
from models.training import step_time
from planner.bounds import Bounds
from planner.choices import Choices
from planner.pareto import Front, unbeaten, unbeaten_plans
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from planner.search import search
from planner.space import Space


def scenario(gpus=8):
    return Scenario.asked(
        "llama-3.2-1b", "h100-dgx", seq_len=8192, global_batch=8, gpus=gpus, choices=Choices()
    )


def test_the_front_is_that_of_every_layout():
    asked = scenario()
    bounds = Bounds.parse({"kernels": "fused", "recompute_layers": 0})
    times, sizes = [], []
    for batch in Space(asked.job, bounds, "any").batches():
        prepared = Prepared.of(asked.architecture, asked.workload, batch, asked.cluster.fast_domain)
        sizes.append(memory_bill(prepared, asked.device.profile).total)
        times.append(step_time(prepared, asked.device, asked.fabric).total)
    time, size = np.concatenate(times), np.concatenate(sizes)
    fits = size <= asked.capacity_bytes
    wanted = sorted(
        {
            (t, s)
            for t, s in zip(time[fits], size[fits], strict=True)
            if not ((time[fits] <= t) & (size[fits] < s)).any()
            and not ((time[fits] < t) & (size[fits] <= s)).any()
        }
    )
    front = search(asked, Space(asked.job, bounds, "any")).front
    plans = asked.evaluate(front)
    found = [(plan.step_time_s, plan.memory_total_bytes) for plan in plans]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert len(found) > 3


def test_joining_in_any_order_gives_the_same_front():
    asked = scenario()
    batch = next(Space(asked.job, Bounds({}), "any").batches())
    batch = batch.take(slice(0, 200))
    draw = np.random.default_rng(0)
    time, size = draw.integers(1, 40, 200) * 1.0, draw.integers(1, 40, 200) * 1.0
    at_once = Front.empty().joined(batch, time, size)
    bit_by_bit = Front.empty()
    for rows in np.array_split(draw.permutation(200), 7):
        bit_by_bit = bit_by_bit.joined(batch.take(rows), time[rows], size[rows])
    assert at_once.step_s.tolist() == bit_by_bit.step_s.tolist()
    assert at_once.nbytes.tolist() == bit_by_bit.nbytes.tolist()
    keep = unbeaten(np.stack([time, size], axis=1))
    pairs = zip(time[keep], size[keep], strict=True)
    assert sorted(zip(at_once.step_s, at_once.nbytes, strict=True)) == sorted(set(pairs))


def test_fewer_accelerators_are_kept_beside_faster_steps():
    plans = [plan_scenario(scenario(gpus), Bounds.parse({"pp": 1}), top=3).plans for gpus in (4, 8)]
    kept = unbeaten_plans([*plans[0], *plans[1]])
    assert {plan.gpus for plan in kept} == {4, 8}
    assert plans[1][0] in kept


def test_nothing_is_unbeaten_of_nothing():
    assert unbeaten_plans([]) == ()
