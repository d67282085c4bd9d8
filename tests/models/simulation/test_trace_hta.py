"""Holistic Trace Analysis reads the traces and finds the figures that the timeline gives itself.

Run with ``pip install -e ".[test,trace-test]"``, then ``pytest tests/models/simulation``. It rounds
times to whole microseconds, so that spans here start and end on them.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given, settings

from models.simulation.timeline import COMMUNICATION, Stream
from models.simulation.trace import write_trace
from tests.models.simulation.timelines import by_hand, timelines

pytest.importorskip("hta")
# Warnings of its own and of its pandas.
pytestmark = pytest.mark.filterwarnings("ignore")


def analysed(step):
    from hta.trace_analysis import TraceAnalysis

    with TemporaryDirectory() as folder:
        write_trace(step, f"{folder}/", device="H100")
        return TraceAnalysis(trace_dir=folder)


def rows(frame):
    return {int(row["rank"]): row for row in frame.to_dict("records")}


def agree(step):
    analysis = analysed(step)
    overlap = rows(analysis.get_comm_comp_overlap(visualize=False))
    breakdown = rows(analysis.get_temporal_breakdown(visualize=False))
    assert sorted(overlap) == sorted(breakdown) == sorted(step.ranks)
    for rank, number in enumerate(step.ranks):
        percentage = overlap[number]["comp_comm_overlap_pctg"]
        assert percentage == pytest.approx(100 * step.overlap_fraction(rank), abs=0.005001)
        found, busy = breakdown[number], step.busy(rank)
        # It looks from the first kernel to the last.
        lasts = (busy.end_s[-1] - busy.start_s[0]) * 1e6
        compute = step.busy_s(rank, [Stream.COMPUTE]) * 1e6
        assert found["kernel_time(us)"] == pytest.approx(lasts)
        assert found["idle_time(us)"] == pytest.approx(lasts - busy.length_s * 1e6, abs=1e-3)
        assert found["compute_time(us)"] == pytest.approx(compute)
        other = busy.length_s * 1e6 - compute
        assert found["non_compute_time(us)"] == pytest.approx(other, abs=1e-3)


def test_it_agrees_on_the_step_worked_by_hand():
    agree(by_hand())


@settings(max_examples=12)
@given(timelines(unit_s=1e-6, shortest=1))
def test_it_agrees_on_random_steps(step):
    for rank in range(len(step.ranks)):
        assume(step.busy_s(rank, COMMUNICATION) > 0)
        assume(step.busy_s(rank, [Stream.COMPUTE]) > 0)
    agree(step)


def test_it_loads_the_file_of_a_single_rank(tmp_path):
    from hta.trace_analysis import TraceAnalysis

    write_trace(by_hand(), tmp_path / "step.json", device="H100")
    analysis = TraceAnalysis(trace_files={0: str(tmp_path / "step.json")})
    assert len(analysis.t.get_trace(0)) >= len(by_hand().rank)


def test_it_tells_communication_copies_and_compute_apart():
    step = by_hand()
    kinds, _ = analysed(step).get_gpu_kernel_breakdown(visualize=False, include_memory_kernels=True)
    found = dict(zip(kinds["kernel_type"], kinds["sum"] / 1e6, strict=True))
    both = step.overlap_s(0) + step.overlap_s(1)
    assert found == {
        "COMMUNICATION": step.exposed_s(0) + step.exposed_s(1),
        "COMPUTATION": sum(step.busy_s(rank, [Stream.COMPUTE]) for rank in (0, 1)) - both,
        "COMPUTATION overlapping COMMUNICATION": both,
        "MEMORY": step.busy_s(1, [Stream.COPY]),
    }
