"""Pins and bounds: ``--tp 8``, ``--tp 4..8``, ``--zero 1,3``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.layout import AXES
from models.named_axes import NAMED_AXES, Recompute, Schedule
from models.recompute_modules import RecomputeModules
from planner.bounds import BOUNDED_AXES, Bound, Bounds, parse_bound
from topologies.errors import SpecError

BOUND = st.one_of(
    st.frozensets(st.integers(0, 9), min_size=1).map(lambda v: Bound(min(v), max(v), v)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: Bound(min(ends), max(ends))),
)


@pytest.mark.parametrize(
    ("axis", "given_value", "allowed"),
    [
        ("tp", 8, {8}),
        ("tp", "8", {8}),
        ("tp", " 8 ", {8}),
        ("tp", "2,8", {2, 8}),
        ("tp", [2, 8], {2, 8}),
        ("tp", (2, "8"), {2, 8}),
        ("tp", "2..4", {2, 3, 4}),
        ("tp", "4..4", {4}),
        ("zero", 0, {0}),
        ("zero", "1..3", {1, 2, 3}),
        ("tp_sp", True, {1}),
        ("tp_sp", False, {0}),
        ("tp_sp", "on", {1}),
        ("tp_sp", "off", {0}),
        ("shared_overlap", "on", {1}),
        ("shared_overlap", "off", {0}),
        ("shared_overlap", "on,off", {0, 1}),
        ("shared_overlap", False, {0}),
        ("schedule", "1f1b", {1}),
        ("schedule", "GPipe,interleaved", {0, 2}),
        ("schedule", Schedule.INTERLEAVED, {2}),
        ("recompute", [Recompute.NONE, Recompute.FULL], {0, 2}),
        ("cp_method", "all_gather", {1}),
        ("cp_method", "all-gather", {1}),
        ("rank_order", "tp-cp-ep-pp-dp", {1}),
        ("cp", "8,16", {8, 16}),
        ("recompute_layers", 0, {0}),
        ("recompute_modules", "core_attn", {1}),
        ("recompute_modules", "Core-Attn, layernorm", {3}),
        ("recompute_modules", "core_attn+mlp", {5}),
        ("recompute_modules", ["layernorm", "mlp"], {6}),
        ("recompute_modules", RecomputeModules.LAYERNORM | RecomputeModules.MLP, {6}),
    ],
)
def test_what_people_write_is_what_is_allowed(
    axis: str, given_value: object, allowed: set[int]
) -> None:
    bound = parse_bound(axis, given_value)
    column = np.arange(0, 20)
    assert set(column[bound.allows(column)].tolist()) == allowed


@pytest.mark.parametrize(
    ("axis", "given_value", "mend"),
    [
        ("tp", 0, "a whole number from 1"),
        ("tp", -1, "a whole number from 1"),
        ("tp", "4.0", "a whole number from 1"),
        ("tp", "four", "a whole number from 1"),
        ("tp", "", "a whole number from 1"),
        ("tp", "2,,4", "a whole number from 1"),
        ("tp", [], "a whole number from 1"),
        ("tp", "4..", "a whole number from 1"),
        ("tp", "..4", "a whole number from 1"),
        ("tp", "8..4", "a range goes up: 4..8"),
        ("tp", "10000001", "to 10000000"),
        ("tp", "9" * 5000, "to 10000000"),
        ("zero", 4, "from 0 to 3"),
        ("tp_sp", 2, "on or off"),
        ("shared_overlap", 5, "on or off"),
        ("tp", "on", "a whole number from 1"),
        ("schedule", "zb-h3", "one of gpipe, 1f1b, interleaved"),
        ("schedule", 9, "one of gpipe, 1f1b, interleaved"),
        ("recompute", "some", "one of none, selective, full"),
        ("recompute_modules", "mlp,attn", "one or more of core_attn, layernorm, mlp, moe_act"),
        ("recompute_modules", "", "one or more of core_attn"),
        ("recompute_modules", 0, "one or more of core_attn"),
        ("recompute_modules", 128, "one or more of core_attn"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_flag(
    axis: str, given_value: object, mend: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_bound(axis, given_value)
    (problem,) = caught.value.problems
    assert problem.field == f"--{axis.replace('_', '-')}"
    assert mend in problem.mend


def test_a_set_of_modules_is_shown_as_it_can_be_written() -> None:
    for text in ("mlp", "core_attn+layernorm+mlp", "moe_act+mla_up_proj+moe+shared_experts"):
        bound = parse_bound("recompute_modules", text)
        assert str(bound) == text
        assert RecomputeModules(bound.low).label == text


@pytest.mark.parametrize(
    ("axis", "text"),
    [("shared_overlap", "on"), ("tp_sp", "off,on"), ("tp_sp", "0..1"), ("tp", "2")],
)
def test_a_bound_is_shown_as_it_can_be_written(axis: str, text: str) -> None:
    assert str(parse_bound(axis, text)) == text


def test_all_problems_come_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        Bounds.parse({"tp": "x", "pp": 0, "sp": 4, "dp": 8, "zero": "5", "ring": None})
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["--tp", "--pp", "--sp", "--zero"]
    assert all(axis in str(caught.value) for axis in BOUNDED_AXES)


def test_axes_that_are_not_given_are_free() -> None:
    bounds = Bounds.parse({"tp": 4, "dp": None})
    assert "tp" in bounds
    assert "dp" not in bounds
    column = np.array([1, 4, 8])
    assert bounds.allows("tp", column).tolist() == [False, True, False]
    assert bounds.allows("dp", column).all()
    assert bounds.choose("dp", [8, 1, 8]) == [1, 8]


def test_a_pin_is_tried_even_if_nobody_would_have_and_a_range_only_filters() -> None:
    """``--micro-batch 3`` is meant; ``--micro-batch 3..6`` means the usual ones among them."""
    bounds = Bounds.parse({"micro_batch": 3, "tp": "3..6"})
    assert bounds.choose("micro_batch", [1, 2, 4]) == [3]
    assert bounds.choose("tp", [1, 2, 4, 8]) == [4]


@pytest.mark.parametrize("axis", sorted(NAMED_AXES))
def test_every_name_of_every_axis_can_be_pinned(axis: str) -> None:
    for value in NAMED_AXES[axis]:
        for written in (value.label, value.label.upper(), int(value), value):
            assert parse_bound(axis, written).values == {int(value)}


def test_every_axis_of_a_layout_can_be_bounded() -> None:
    assert set(BOUNDED_AXES) == {*AXES, "cp"}
    for axis in BOUNDED_AXES:
        assert parse_bound(axis, 1).values == {1}


@given(BOUND, BOUND)
def test_two_bounds_together_allow_what_both_allow(first: Bound, second: Bound) -> None:
    column = np.arange(-1, 11)
    both = first.allows(column) & second.allows(column)
    met = first.meet(second)
    if met is None:
        assert not both.any()
    else:
        assert met.allows(column).tolist() == both.tolist()


def test_bounds_that_exclude_each_other_leave_nothing() -> None:
    bounds = Bounds.parse({"tp": "2..8"})
    assert bounds.narrowed(Bounds.parse({"tp": 16}).axes) is None
    narrowed = bounds.narrowed(Bounds.parse({"tp": "4..64", "pp": 2}).axes)
    assert narrowed is not None
    assert narrowed.axes == {"tp": Bound(4, 8), "pp": Bound(2, 2, frozenset({2}))}
