"""Rank orders: strides written by hand, and what the order costs."""

from __future__ import annotations

import numpy as np
import pytest

from models.layout import Layout, LayoutBatch, Strides, strides
from models.named_axes import CpPlacement, RankOrder
from models.rank_order import first_alike, in_order
from models.shape import Shapes
from planner.scenario import Scenario

ORDERS = list(RankOrder)
MESH = {"tp": 2, "ulysses": 3, "ring": 5, "dp": 7, "pp": 11}
#: tp 2, cp 15, dp 7, pp 11: strides of cp, dp and pp.
BY_HAND = {
    "tp-cp-ep-dp-pp": (2, 30, 210),
    "tp-cp-ep-pp-dp": (2, 330, 30),
    "tp-pp-cp-ep-dp": (22, 330, 2),
    "tp-dp-cp-ep-pp": (14, 2, 210),
    "tp-dp-pp-cp-ep": (154, 2, 14),
    "tp-pp-dp-cp-ep": (154, 22, 2),
}


def test_names_and_numbers_stay() -> None:
    assert RankOrder.labels() == list(BY_HAND)
    assert (RankOrder.TP_CP_EP_DP_PP, RankOrder.TP_CP_EP_PP_DP) == (0, 1)


@pytest.mark.parametrize("placement", list(CpPlacement))
def test_strides_by_hand(placement: CpPlacement) -> None:
    layouts = [Layout(**MESH, rank_order=order, cp_placement=placement) for order in ORDERS]
    found = strides(LayoutBatch.of(layouts))
    assert found.tp.tolist() == [1] * len(ORDERS)
    moved = zip(found.cp.tolist(), found.dp.tolist(), found.pp.tolist(), strict=True)
    assert list(moved) == list(BY_HAND.values())
    inner, outer = found.ulysses, found.ring
    if placement is CpPlacement.CONTEXT_FIRST:
        inner, outer = outer, inner
    assert inner.tolist() == found.cp.tolist()
    assert (outer / inner).tolist() == [3 if placement is CpPlacement.HEAD_FIRST else 5] * 6


def test_each_layout_of_a_batch_has_its_own_order() -> None:
    layouts = [Layout(**MESH, rank_order=order) for order in ORDERS]
    layouts += [Layout(**{**MESH, "dp": 2}, rank_order=order) for order in reversed(ORDERS)]
    together = strides(LayoutBatch.of(layouts))
    alone = [strides(LayoutBatch.of([layout])) for layout in layouts]
    for axis in Strides.__slots__:
        assert getattr(together, axis).tolist() == [getattr(one, axis)[0] for one in alone]


@pytest.mark.parametrize(
    ("mesh", "first"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"pp": 1}, [0, 0, 0, 3, 3, 3]),
        ({"dp": 1}, [0, 0, 2, 0, 2, 2]),
        ({"ulysses": 1, "ring": 1}, [0, 1, 1, 0, 0, 1]),
        ({"ulysses": 1, "ring": 1, "dp": 1}, [0] * 6),
        ({"tp": 1}, [0, 1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_orders_that_put_used_axes_alike_are_one(mesh: dict[str, int], first: list[int]) -> None:
    layouts = [Layout(**{**MESH, **mesh}, rank_order=order) for order in ORDERS]
    batch = LayoutBatch.of(layouts)
    assert first_alike(batch).tolist() == first
    found = strides(batch)
    used = [axis for axis in MESH if {**MESH, **mesh}[axis] > 1]
    rows = np.stack([getattr(found, axis) for axis in used] or [np.ones(6)], axis=-1)
    alike = [[bool((a == b).all()) for b in rows] for a in rows]
    assert alike == [[a == b for b in first] for a in first]
    assert in_order(batch, [4]).tolist() == [one == first[4] for one in first]


def test_shapes_of_equal_degrees_differ_by_the_stride_of_their_ring() -> None:
    work = Scenario.load("llama-3.1-8b", "h100-dgx:8", seq_len=32768, global_batch=64)
    mesh = {"tp": 2, "ring": 4, "dp": 4, "pp": 2}
    batch = LayoutBatch.of([Layout(**mesh, rank_order=order) for order in ORDERS])
    shapes, index = Shapes.of(batch, work.workload)
    assert shapes.strides()["ring"][index].tolist() == [2, 2, 4, 8, 16, 16]
    assert len(shapes) == 4
    uncut = LayoutBatch.of([Layout(tp=2, dp=16, pp=2, rank_order=order) for order in ORDERS])
    assert len(Shapes.of(uncut, work.workload)[0]) == 1


def test_an_order_costs_the_same_in_a_batch_as_alone_and_where_it_matters_not_the_same() -> None:
    work = Scenario.load("llama-3.1-8b", "h100-dgx:8", seq_len=32768, global_batch=64)
    mesh = {"tp": 2, "ulysses": 4, "dp": 4, "pp": 2, "tp_sp": True}
    layouts = [Layout(**mesh, rank_order=order) for order in ORDERS]
    together = work.evaluate(LayoutBatch.of(layouts))
    alone = [work.evaluate(LayoutBatch.of([layout]))[0] for layout in layouts]
    assert [plan.time_s for plan in together] == [plan.time_s for plan in alone]
    by_order = dict(zip(BY_HAND, together, strict=True))
    # Nodes of 8: ulysses of stride 2 stays inside, of stride 8 it does not.
    inside, outside = by_order["tp-cp-ep-dp-pp"], by_order["tp-dp-cp-ep-pp"]
    assert inside.time_s["cp"] < outside.time_s["cp"]
    assert inside.time_s["tp"] == outside.time_s["tp"]
    # The next stage is two ranks away, or 32.
    assert by_order["tp-pp-cp-ep-dp"].time_s["pp"] < inside.time_s["pp"]
