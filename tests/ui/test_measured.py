"""Tables of predicted runs: any in the documented form, and nothing else."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import SpecError
from ui.figures.accuracy import scatter
from ui.jobs import accuracy
from ui.measured import Measured, committed

ROWS = Path(__file__).parent.parent / "data" / "published_runs.csv"


def test_a_table_of_runs_is_predicted_and_read_back():
    with ROWS.open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))[:12]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    told = []
    record = accuracy("runs.csv", text.getvalue(), told.append)
    table = Measured.of(record, "runs.csv")
    assert len(table.points) + table.skipped == len(record["rows"])
    assert table.points
    for point in table.points:
        assert point.predicted / point.measured - 1 == pytest.approx(point.error, abs=1e-6)
        assert point.low <= point.predicted <= point.high
    assert table.rows()[0]["runs"] == "all"
    assert told


@pytest.mark.parametrize("content", [{}, {"overall": 1, "rows": []}, {"overall": {}, "rows": {}}])
def test_what_is_no_table_is_refused(content):
    with pytest.raises(SpecError, match="accuracy --json"):
        Measured.of(content, "x.json")


def test_odd_rows_are_skipped_and_counted():
    rows = [
        {"id": "a", "measured": 1.0, "predicted": 1.1, "interval": [1.0, 1.2], "error": 0.1},
        {"id": "b", "measured": None, "predicted": None, "interval": None},
        {"id": "c", "measured": float("nan"), "predicted": 1.0},
        {"id": "d", "measured": "1", "predicted": 1.0},
        7,
    ]
    table = Measured.of({"overall": {"n": 1}, "by_source": {"x": 3}, "rows": rows}, "t.json")
    assert [point.id for point in table.points] == ["a"]
    assert table.skipped == 4
    assert table.by_source == {}


def test_the_committed_table_is_drawn_and_picked_from():
    own = committed()
    assert own is not None, "meshwright accuracy ... --json ACCURACY.json writes it"
    assert own.overall.n > 300
    assert own.by_kind
    kind, source = own.points[0].kind, own.points[0].source
    timed = [point for point in own.points if point.quantity == "time"]
    assert {point.source for point in timed} <= set(own.by_source)
    picked = own.picked(kind, source)
    assert 0 < len(picked) < len(own.points)
    assert {(point.kind, point.source) for point in picked} == {(kind, source)}
    assert own.picked("", "") == own.points
    assert own.picked("no such kind", "") == ()


def test_yes_and_no_is_not_drawn():
    rows = [{"id": "a", "quantity": "fits", "measured": 1.0, "predicted": 1.0, "interval": None}]
    assert Measured.of({"overall": {"n": 0}, "rows": rows}, "t.json").points == ()


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
names = st.sampled_from(["measured", "predicted", "interval", "error", "quantity", "id", "source"])
rows = st.lists(st.dictionaries(names, plain | st.lists(plain, max_size=3), max_size=7) | plain)
errors = st.dictionaries(st.sampled_from(["n", "bias", "median_abs_error"]), plain) | plain


@given(rows, errors, st.dictionaries(st.text(max_size=5), errors) | plain)
def test_any_table_is_read_or_refused_and_drawn(listed, overall, groups):
    content = {"overall": overall, "rows": listed, "by_source": groups, "parts": {"kind": groups}}
    try:
        table = Measured.of(content, "t.json")
    except SpecError:
        return
    assert table.rows()
    assert len(table.points) + table.skipped == len(listed)
    scatter(table.points, "s")


def test_what_is_too_large_for_a_number_is_skipped():
    rows = [{"id": "a", "quantity": "time", "measured": 10**400, "predicted": 1.0}]
    assert Measured.of({"overall": {"n": 10**400}, "rows": rows}, "t.json").skipped == 1
