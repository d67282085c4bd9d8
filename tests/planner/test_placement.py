"""Where ranks sit, against loops written out, lists written by hand, and what users see."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.layout import Layout
from models.named_axes import CpPlacement, RankOrder
from planner.cli.placement_report import first_nodes, sentence
from planner.placement import Placement
from topologies import load_cluster
from topologies.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Axes of every rank order, innermost first, written by hand; cp is ulysses and ring.
LOOPS = {
    RankOrder.TP_CP_EP_DP_PP: ("tp", "cp", "dp", "pp"),
    RankOrder.TP_CP_EP_PP_DP: ("tp", "cp", "pp", "dp"),
    RankOrder.TP_PP_CP_EP_DP: ("tp", "pp", "cp", "dp"),
    RankOrder.TP_DP_CP_EP_PP: ("tp", "dp", "cp", "pp"),
    RankOrder.TP_DP_PP_CP_EP: ("tp", "dp", "pp", "cp"),
    RankOrder.TP_PP_DP_CP_EP: ("tp", "pp", "dp", "cp"),
}


def counted(layout: Layout) -> Iterator[dict[str, int]]:
    """Yield the coordinates of ranks 0, 1, 2, ... from loops around loops."""
    inner = ["ulysses", "ring"]
    if layout.cp_placement is CpPlacement.CONTEXT_FIRST:
        inner = ["ring", "ulysses"]
    names = [n for axis in LOOPS[layout.rank_order] for n in (inner if axis == "cp" else [axis])]
    first, second, third, fourth, fifth = names
    for e in range(getattr(layout, fifth)):
        for d in range(getattr(layout, fourth)):
            for c in range(getattr(layout, third)):
                for b in range(getattr(layout, second)):
                    for a in range(getattr(layout, first)):
                        yield {first: a, second: b, third: c, fourth: d, fifth: e}


def placed(cluster: str = "h100-dgx", **axes: object) -> Placement:
    layout = Layout(**axes)
    return Placement.of(layout, load_cluster(cluster, layout.gpus))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    axes = ("tp", "ulysses", "ring", "dp", "pp")
    degrees = {axis: draw(st.sampled_from([1, 2, 3, 4])) for axis in axes}
    return Layout(
        **degrees,
        rank_order=draw(st.sampled_from(list(RankOrder))),
        cp_placement=draw(st.sampled_from(list(CpPlacement))),
    )


def on_some_cluster(layout: Layout) -> Placement:
    """Return a placement on nodes of 4, whatever the number of ranks: some are only begun."""
    return Placement.of(layout, replace(load_cluster("gb200-nvl72:1"), accelerators=layout.gpus))


@given(layouts())
def test_the_map_is_that_of_loops_around_loops(layout: Layout) -> None:
    placement = on_some_cluster(layout)
    columns = placement.ranks()
    expected = list(counted(layout))
    assert len(expected) == layout.gpus
    used = [axis.name for axis in placement.axes]
    assert set(used) == {axis for axis in expected[0] if getattr(layout, axis) > 1}
    for rank, where in enumerate(expected):
        kept = {axis: where[axis] for axis in used}
        assert placement.coordinates(rank) == kept
        assert {axis: int(columns[axis][rank]) for axis in used} == kept
        assert placement.accelerator(**where) == rank == placement.accelerator(**kept)


@given(layouts())
def test_the_map_is_a_bijection(layout: Layout) -> None:
    placement = on_some_cluster(layout)
    spans = [range(axis.size) for axis in placement.axes]
    names = [axis.name for axis in placement.axes]
    reached = [placement.accelerator(**dict(zip(names, at, strict=True))) for at in product(*spans)]
    assert sorted(reached) == list(range(layout.gpus))
    for inner, outer in pairwise(placement.axes):
        assert outer.stride == inner.stride * inner.size


@given(layouts(), st.data())
def test_blocks_hold_every_rank_once_and_in_order(layout: Layout, data: st.DataObject) -> None:
    placement = on_some_cluster(layout)
    start = data.draw(st.integers(0, layout.gpus - 1))
    stop = data.draw(st.integers(start + 1, layout.gpus))
    blocks = placement.blocks(range(start, stop))
    held = [
        sorted(
            placement.accelerator(**dict(zip(block, at, strict=True)))
            for at in product(*block.values())
        )
        for block in blocks
    ]
    assert [rank for block in held for rank in block] == list(range(start, stop))
    assert len(blocks) <= max(2 * len(placement.axes) - 1, 1)


def groups(placement: Placement, axis: str) -> list[list[int]]:
    """Return the ranks of every group of an axis: those that share all other coordinates."""
    found: dict[tuple[int, ...], list[int]] = {}
    for rank in range(placement.accelerators):
        where = placement.coordinates(rank)
        key = tuple(place for name, place in where.items() if name != axis)
        found.setdefault(key, []).append(rank)
    return sorted(found.values())


def test_megatron_s_own_example() -> None:
    """16 ranks, tp 2, pp 4: the groups that Megatron-LM's initialize_model_parallel lists."""
    placement = placed(tp=2, pp=4, dp=2)
    assert groups(placement, "tp") == [[rank, rank + 1] for rank in range(0, 16, 2)]
    assert groups(placement, "dp") == [
        *([0, 2], [1, 3], [4, 6], [5, 7]),
        *([8, 10], [9, 11], [12, 14], [13, 15]),
    ]
    assert groups(placement, "pp") == [
        *([0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]),
    ]


def test_megatron_s_other_order() -> None:
    """The same ranks with --use-tp-pp-dp-mapping, and with context parallelism in place of tp."""
    placement = placed(tp=2, pp=4, dp=2, rank_order=RankOrder.TP_CP_EP_PP_DP)
    assert groups(placement, "pp") == [
        *([0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15]),
    ]
    assert groups(placement, "dp") == [[rank, rank + 8] for rank in range(8)]
    both = placed(ring=2, pp=2, dp=2, rank_order=RankOrder.TP_CP_EP_PP_DP)
    assert groups(both, "ring") == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert groups(both, "pp") == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert groups(both, "dp") == [[0, 4], [1, 5], [2, 6], [3, 7]]


REACHES = [
    ("h100-dgx:4", {"tp": 4, "ulysses": 4, "dp": 2}, "nvlink infiniband infiniband"),
    ("h100-dgx:4", {"tp": 4, "ulysses": 2, "dp": 4}, "nvlink nvlink infiniband"),
    ("h100-dgx:4", {"pp": 4, "ring": 8, "rank_order": 2}, "nvlink infiniband"),
    ("h100-dgx:4", {"pp": 4, "ring": 8, "rank_order": 0}, "nvlink infiniband"),
    ("gb200-nvl72:36", {"ulysses": 8, "dp": 18}, "nvlink infiniband"),
    ("gb200-nvl72:36", {"ulysses": 16, "dp": 9}, "infiniband infiniband"),  # 64..79 straddle racks
    ("gb200-nvl72:36", {"dp": 9, "ulysses": 16, "rank_order": 3}, "nvlink infiniband"),
    ("gb200-nvl72:36", {"dp": 9, "tp": 8, "pp": 2}, "nvlink nvlink infiniband"),
    ("meta-24k:768", {"tp": 8, "ring": 16, "pp": 16, "dp": 3}, "nvlink roce roce spine"),
    (
        "meta-24k:768",
        {"tp": 8, "ring": 16, "pp": 16, "dp": 3, "rank_order": 1},
        "nvlink roce spine spine",  # pp: ranks 2048 to 4095 lie in pods of 3072
    ),
    (
        "meta-24k:768",
        {"tp": 8, "ring": 16, "pp": 16, "dp": 3, "rank_order": 3},
        "nvlink roce roce spine",  # tp, dp and ring fill 384 of a pod's 3072
    ),
]


@pytest.mark.parametrize(("cluster", "axes", "reaches"), REACHES)
def test_the_reach_by_hand(cluster: str, axes: dict[str, int], reaches: str) -> None:
    order = RankOrder(axes.get("rank_order", 0))
    layout = Layout(**{**axes, "rank_order": order})
    placement = Placement.of(layout, load_cluster(cluster))
    assert layout.gpus == placement.accelerators
    assert [axis.reach for axis in placement.axes] == reaches.split()


def test_axes_come_innermost_first_with_their_strides() -> None:
    axes = {"tp": 2, "ulysses": 2, "ring": 4, "dp": 2, "pp": 2}
    order, inner = RankOrder.TP_PP_CP_EP_DP, CpPlacement.CONTEXT_FIRST
    placement = placed(**axes, rank_order=order, cp_placement=inner)
    assert [(axis.name, axis.size, axis.stride) for axis in placement.axes] == [
        *(("tp", 2, 1), ("pp", 2, 2), ("ring", 4, 4), ("ulysses", 2, 16), ("dp", 2, 32)),
    ]
    assert [placement.node(rank) for rank in (0, 7, 8, 63)] == [0, 0, 1, 7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tp": 4}, "tp = 4: from 0 to 3"),
        ({"dp": -1}, "dp = -1: from 0 to 3"),
        ({"pp": 1}, "pp = 1: from 0 to 0"),
        ({"cp": 0}, "cp = 0: no such axis; axes are tp, ulysses, ring, inner_ring, dp, pp"),
    ],
)
def test_coordinates_that_are_not_there_are_refused(wrong: dict[str, int], message: str) -> None:
    placement = placed(tp=4, dp=4)
    with pytest.raises(SpecError, match=message):
        placement.accelerator(**wrong)
    assert placement.accelerator(tp=3, dp=3, pp=0) == 15
    for ask in (placement.coordinates, placement.node):
        for rank in (-1, 16):
            with pytest.raises(SpecError, match=f"rank = {rank}: from 0 to 15"):
                ask(rank)


def test_nodes_read_as_ranges() -> None:
    whole = placed(tp=4, ulysses=4, dp=8, pp=2)
    assert first_nodes(whole) == [
        "node 0: pp0 dp0 ulysses0..1 tp0..3",
        "node 1: pp0 dp0 ulysses2..3 tp0..3",
    ]
    across = placed(ring=3, dp=4, pp=2)
    assert first_nodes(across) == [
        "node 0: pp0 dp0..1 ring0..2 + pp0 dp2 ring0..1",
        "node 1: pp0 dp2 ring2 + pp0 dp3 ring0..2 + pp1 dp0 ring0..2 + pp1 dp1 ring0",
    ]
    assert first_nodes(placed(dp=4)) == ["node 0: dp0..3"]


def test_the_sentence_names_the_links_of_every_axis() -> None:
    three = placed("meta-24k", tp=8, ring=16, pp=16, dp=3)
    assert sentence(three, "the first") == (
        "Placement of the first (innermost first): tp 8 inside nvlink; ring 16 and dp 3 across "
        "roce; pp 16 across spine."
    )
    assert sentence(placed(tp=2, ring=2, dp=2), "it").endswith(
        "tp 2, ring 2 and dp 2 inside nvlink."
    )
    assert sentence(placed(), "it") == ""


def test_all_ranks_come_as_arrays() -> None:
    columns = placed("meta-24k", tp=8, ring=16, pp=16, dp=12).ranks()
    assert list(columns) == ["tp", "ring", "dp", "pp"]
    assert {column.shape for column in columns.values()} == {(24_576,)}
    assert len(np.unique(np.stack(list(columns.values())), axis=1).T) == 24_576


def test_windows_of_a_double_ring_are_neighbours() -> None:
    layout = Layout(tp=2, ring=8, inner_ring=4, dp=2)
    placement = Placement.of(layout, load_cluster("h100-dgx:4"))
    found = {axis.name: (axis.size, axis.stride, axis.reach) for axis in placement.axes}
    assert found == {
        "tp": (2, 1, "nvlink"),
        "inner_ring": (4, 2, "nvlink"),
        "ring": (2, 8, "infiniband"),
        "dp": (2, 16, "infiniband"),
    }
