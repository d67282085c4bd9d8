"""Pipeline schedules against published generators, formulas, and what any schedule must keep."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.named_axes import Schedule
from models.schedule import CHUNKED, VEE
from models.simulation.pipeline_order import Action, Pass
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled, ScheduleError
from tests.models.schedules import NAMES, published
from topologies.errors import SpecError


class Run:
    """One schedule with the seconds of its passes: what the table's columns say."""

    def __init__(self, schedule, pp, many, chunks=1, seconds=(1.0, 1.0, 1.0)):
        forward, inputs, weights = (float(value) / chunks for value in seconds)
        spent = {"F": forward, "B": inputs + weights, "I": inputs, "W": weights}
        self.compiled = Compiled.of(*ordered(schedule, pp, many, chunks))
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
    run = Run(Schedule.DUALPIPE, pp, many)
    assert run.makespan - many * 3 == pytest.approx((pp / 2 - 1) * (3 + 2 - 3))
    assert run.peak == pp + 1


@pytest.mark.parametrize(("pp", "many"), [(4, 8), (8, 16), (8, 32)])
def test_bubbles_are_those_of_the_papers(pp, many):
    ideal = 3.0 * many
    assert Run(Schedule.GPIPE, pp, many).makespan - ideal == (pp - 1) * 3
    assert Run(Schedule.ONE_F_ONE_B, pp, many).makespan - ideal == (pp - 1) * 3
    assert Run(Schedule.INTERLEAVED, pp, many, 2).makespan - ideal == (pp - 1) * 3 / 2
    assert Run(Schedule.ZB_H1, pp, many).makespan - ideal == pp - 1
    assert Run(Schedule.ZB_H2, pp, many).worst_bubble == 0
    assert Run(Schedule.ZB_V, pp, many, 2).worst_bubble == 0


@given(st.sampled_from(Schedule), st.data())
def test_every_micro_batch_passes_every_stage_once_each_way(schedule, data):
    pp = data.draw(st.sampled_from([2, 4, 6, 8]))
    chunks = data.draw(st.sampled_from([2, 3])) if CHUNKED[schedule] else 1 + int(VEE[schedule])
    many = pp * data.draw(st.integers(2, 4))
    order, way = ordered(schedule, pp, many, chunks)
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
    run = Run(schedule, pp, many, chunks)
    assert run.makespan >= 3 * many


def test_samples_are_timed_together_as_each_alone():
    compiled = Compiled.of(*ordered(Schedule.ONE_F_ONE_B, 4, 8))
    seconds = np.random.default_rng(0).uniform(0.5, 1.5, (len(compiled.runs), 5))
    together = compiled.times(seconds, hop_s=0.1).end
    for sample in range(5):
        alone = compiled.times(seconds[:, sample], hop_s=0.1).end
        assert together[:, sample] == pytest.approx(alone)
    assert compiled.times(seconds, hop_s=0.2).end.max() > together.max()


@pytest.mark.parametrize("waits", [False, True])
def test_sends_longer_than_passes_queue_in_samples_as_they_do_alone(waits):
    compiled = Compiled.of(*ordered(Schedule.ZB_H1, 4, 8))
    seconds = np.random.default_rng(0).uniform(0.5, 1.5, (len(compiled.runs), 3))
    together = compiled.times(seconds, hop_s=4.0, waits=waits)
    for sample in range(3):
        alone = compiled.times(seconds[:, sample], hop_s=4.0, waits=waits)
        for times, own in zip(together, alone, strict=True):
            assert times[:, sample] == pytest.approx(own)


def test_an_order_that_waits_for_itself_is_refused_by_name():
    order, way = ordered(Schedule.ONE_F_ONE_B, 2, 4)
    order[0] = [order[0][-1], *order[0][:-1]]
    with pytest.raises(ScheduleError, match="rank 0 waits to run B of micro-batch 3 on stage 0"):
        Compiled.of(order, way)


@pytest.mark.parametrize(
    ("schedule", "pp", "many", "vp", "why"),
    [
        (Schedule.ONE_F_ONE_B, 4, 8, 2, "holds 1 model chunks per rank, not 2"),
        (Schedule.ZB_V, 4, 8, 1, "holds 2 model chunks per rank, not 1"),
        (Schedule.INTERLEAVED, 4, 6, 2, "in multiples of the 4 ranks, not 6"),
        (Schedule.ZB_H2, 4, 6, 1, "needs 7 micro-batches or more on 4 ranks, not 6"),
        (Schedule.ZB_V, 4, 6, 2, "needs 7 micro-batches or more on 4 ranks, not 6"),
        (Schedule.DUALPIPE_V, 4, 7, 2, "needs 8 micro-batches or more on 4 ranks, not 7"),
        (Schedule.DUALPIPE, 4, 6, 1, "needs 8 micro-batches or more on 4 ranks, not 6"),
        (Schedule.DUALPIPE, 3, 8, 1, "even numbers of ranks and of micro-batches, not 3 and 8"),
        (Schedule.DUALPIPE, 4, 9, 1, "even numbers of ranks and of micro-batches, not 4 and 9"),
    ],
)
def test_there_is_no_order_of_what_cannot_be(schedule, pp, many, vp, why):
    with pytest.raises(SpecError, match=why):
        ordered(schedule, pp, many, vp)
