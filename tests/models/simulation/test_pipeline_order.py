"""Pipeline schedules against published generators, formulas, and what any schedule must keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.simulation.pipeline_order import (
    Action,
    Pass,
    Way,
    gpipe,
    interleaved,
    looped_bfs,
    one_f_one_b,
    zero_bubble_h1,
    zero_bubble_h2,
)
from models.simulation.static_order import Compiled, ScheduleError
from models.simulation.vee_order import dual_pipe, dual_pipe_v, zero_bubble_v
from tests.models.schedules import published


def ordered(name, pp, many, chunks=1):
    """Return the order and the way of a schedule."""
    orders = {
        "gpipe": lambda: (gpipe(pp, many), Way.loop(pp, 1)),
        "1f1b": lambda: (one_f_one_b(pp, many), Way.loop(pp, 1)),
        "looped-bfs": lambda: (looped_bfs(pp, many, chunks), Way.loop(pp, chunks)),
        "interleaved": lambda: (interleaved(pp, many, chunks), Way.loop(pp, chunks)),
        "zb-h1": lambda: (zero_bubble_h1(pp, many, chunks), Way.loop(pp, chunks)),
        "zb-h2": lambda: (zero_bubble_h2(pp, many), Way.loop(pp, 1)),
        "zb-v": lambda: (zero_bubble_v(pp, many), Way.vee(pp)),
        "dualpipe-v": lambda: (dual_pipe_v(pp, many), Way.vee(pp)),
        "dualpipe": lambda: (dual_pipe(pp, many), Way.both_ways(pp, many)),
    }
    return orders[name]()


NAMES = {
    "GPipe": "gpipe",
    "1F1B(sail)": "1f1b",
    "LoopedBFS": "looped-bfs",
    "Interleaved1F1B": "interleaved",
    "VPP2(sail, Megatron interleaved)": "interleaved",
    "InterleavedZeroBubble(ZB1P)": "zb-h1",
    "ZB1P(sail)": "zb-h1",
    "ZB2P(sail)": "zb-h2",
    "ZBV": "zb-v",
    "ZBV(sail)": "zb-v",
    "DualPipeV": "dualpipe-v",
}


class Run:
    """One schedule with the seconds of its passes: what the table's columns say."""

    def __init__(self, name, pp, many, chunks=1, seconds=(1.0, 1.0, 1.0)):
        forward, inputs, weights = (float(value) / chunks for value in seconds)
        spent = {"F": forward, "B": inputs + weights, "I": inputs, "W": weights}
        self.compiled = Compiled.of(*ordered(name, pp, many, chunks))
        self.seconds = np.array([sum(spent[a.kind] for a in runs) for runs in self.compiled.runs])
        self.start, self.end, _ = self.compiled.times(self.seconds)
        self.chunks, self.ranks = chunks, range(pp)

    @property
    def makespan(self):
        return self.end.max()

    @property
    def worst_bubble(self):
        """Idle time between a rank's first start and last end, of the rank that has most."""
        return max(
            self.end[mine].max() - self.start[mine].min() - self.seconds[mine].sum()
            for mine in (self.compiled.rank == rank for rank in self.ranks)
        )

    @property
    def peak(self):
        """Most micro-batches whose activations a rank holds, from forward until weight gradient."""
        most = 0
        for rank in self.ranks:
            events = []
            for at in np.flatnonzero(self.compiled.rank == rank):
                for action in self.compiled.runs[at]:
                    if action.kind is Pass.FORWARD:
                        events.append((self.start[at], 1))
                    elif action.kind is not Pass.INPUT_GRADIENT:
                        events.append((self.end[at], -1))
            most = max(most, *np.cumsum([change for _, change in sorted(events)]))
        return most / self.chunks


def run_of(row):
    sizes = (int(row[name]) for name in ("pp", "microbatches", "virtual_stages"))
    return Run(NAMES[row["schedule"]], *sizes, tuple(row[name] for name in "FIW"))


def label(row):
    return "-".join(row[name] for name in ("schedule", "pp", "microbatches", "virtual_stages"))


@pytest.mark.parametrize("row", published(NAMES, even=True), ids=label)
def test_even_passes_take_exactly_what_the_published_generators_take(row):
    run = run_of(row)
    assert run.makespan == pytest.approx(float(row["makespan"]), abs=1e-9)
    wanted = float(row["max_rank_bubble_first_start_to_last_end"])
    assert run.worst_bubble == pytest.approx(wanted, abs=1e-9)
    if row["schedule"] == "ZB2P(sail)":  # its generator holds on to weights longer than the paper
        assert run.peak == 2 * int(row["pp"]) - 1
    else:
        peak = "peak_activations_in_units_of_one_full_rank_microbatch"
        assert run.peak == pytest.approx(float(row[peak]))


@pytest.mark.parametrize("row", published(NAMES, even=False), ids=label)
def test_uneven_passes_take_what_they_take_within_two_percent(row):
    run = run_of(row)
    assert run.makespan == pytest.approx(float(row["makespan"]), rel=0.02)


@pytest.mark.parametrize(("pp", "many"), [(4, 8), (4, 12), (8, 16), (8, 32), (16, 32)])
def test_dual_pipe_keeps_its_published_bubble_and_memory(pp, many):
    """Bubble (p / 2 - 1) (F&B + B - 3 W) and p + 1 micro-batches, arXiv:2412.19437 table 2."""
    run = Run("dualpipe", pp, many)
    assert run.makespan - many * 3 == pytest.approx((pp / 2 - 1) * (3 + 2 - 3))
    assert run.peak == pp + 1


@pytest.mark.parametrize(("pp", "many"), [(4, 8), (8, 16), (8, 32)])
def test_bubbles_are_those_of_the_papers(pp, many):
    ideal = 3.0 * many
    assert Run("gpipe", pp, many).makespan - ideal == (pp - 1) * 3
    assert Run("1f1b", pp, many).makespan - ideal == (pp - 1) * 3
    assert Run("interleaved", pp, many, 2).makespan - ideal == (pp - 1) * 3 / 2
    assert Run("zb-h1", pp, many).makespan - ideal == pp - 1
    assert Run("zb-h2", pp, many).worst_bubble == 0
    assert Run("zb-v", pp, many, 2).worst_bubble == 0


@given(st.sampled_from(sorted(set(NAMES.values()) | {"dualpipe"})), st.data())
def test_every_micro_batch_passes_every_stage_once_each_way(name, data):
    pp = data.draw(st.sampled_from([2, 4, 6, 8]))
    chunks = data.draw(st.sampled_from([2, 3])) if name in ("interleaved", "looped-bfs") else 1
    many = pp * data.draw(st.integers(2, 4))
    order, way = ordered(name, pp, many, chunks)
    passes = Counter(
        (action.kind, action.stage, action.micro_batch)
        for steps in order
        for step in steps
        for action in ((step,) if isinstance(step, Action) else step)
    )
    assert set(passes.values()) == {1}
    for stage in range(len(way.ranks)):
        for micro_batch in range(many):
            assert passes[Pass.FORWARD, stage, micro_batch]
            whole = passes[Pass.BACKWARD, stage, micro_batch]
            apart = {passes[kind, stage, micro_batch] for kind in Pass if kind in ("I", "W")}
            assert apart == {1 - whole}
    run = Run(name, pp, many, chunks)
    assert run.makespan >= 3 * many


def test_samples_are_timed_together_as_each_alone():
    compiled = Compiled.of(*ordered("1f1b", 4, 8))
    seconds = np.random.default_rng(0).uniform(0.5, 1.5, (len(compiled.runs), 5))
    together = compiled.times(seconds, hop_s=0.1).end
    for sample in range(5):
        alone = compiled.times(seconds[:, sample], hop_s=0.1).end
        assert together[:, sample] == pytest.approx(alone)
    assert compiled.times(seconds, hop_s=0.2).end.max() > together.max()


def test_an_order_that_waits_for_itself_is_refused_by_name():
    order, way = ordered("1f1b", 2, 4)
    order[0] = [order[0][-1], *order[0][:-1]]
    with pytest.raises(ScheduleError, match="rank 0 waits to run B of micro-batch 3 on stage 0"):
        Compiled.of(order, way)
