"""Rank orders in the space: each once where it differs, and only those a framework runs."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.layout import AXES, LayoutBatch
from models.rules.rule import Job
from models.workload import Workload
from planner.bounds import Bounds
from planner.space import Space
from tests.rank_orders import first_of_its_kind

Row = tuple[int, ...]
#: One value for most options, which keeps the list short.
PLAIN: dict[str, object] = {
    "kernels": "fused",
    "recompute": "none",
    "tp_sp": 0,
    "vp": 1,
    "micro_batch": 1,
    "zero": "0..1",
    "dp_replicate": 1,
    "stage_split": "even",
    "cp_method": "p2p",
}


def enumerated(gpus: int, framework: str = "unrestricted", **bounds: object) -> list[Row]:
    workload = Workload(seq_len=4096, global_batch=gpus)
    work = Job(architecture=load_architecture("llama-3.2-1b"), workload=workload, gpus=gpus)
    batches = Space(work, Bounds.parse({**PLAIN, **bounds}), framework).batches()
    columns = [[getattr(batch, axis).tolist() for axis in AXES] for batch in batches]
    return [row for batch in columns for row in zip(*batch, strict=True)]


def used(row: Row) -> tuple[bool, bool, bool]:
    """Return whether a layout uses cp, dp and pp."""
    axes = dict(zip(AXES, row, strict=True))
    return axes["ulysses"] * axes["ring"] > 1, axes["dp"] > 1, axes["pp"] > 1


@pytest.mark.parametrize(
    ("framework", "pins", "orders"),
    [
        # How many orders differ for the axes used: none, dp and pp, another two, all three.
        ("unrestricted", {}, (1, 2, 2, 6)),
        ("any", {}, (1, 2, 1, 2)),
        ("megatron", {}, (1, 2, 1, 2)),
        ("torchtitan", {"kernels": "eager", "cp_method": "all-gather", "zero": 0}, (1, 1, 1, 1)),
    ],
)
def test_rank_orders_are_enumerated_where_they_differ(
    framework: str, pins: dict[str, object], orders: tuple[int, ...]
) -> None:
    found = enumerated(16, framework, **pins)
    columns = np.array(found, dtype=np.int32).T
    assert first_of_its_kind(LayoutBatch(**dict(zip(AXES, columns, strict=True)))).all()
    assert len(found) == len(set(found))
    place = AXES.index("rank_order")
    without: dict[Row, list[int]] = {}
    for row in found:
        without.setdefault((*row[:place], 0, *row[place + 1 :]), []).append(row[place])
    alone, moved, two, three = orders
    for row, several in without.items():
        kind = used(row)
        expected = three if all(kind) else two if sum(kind) == 2 else alone
        assert len(several) == (moved if kind == (False, True, True) else expected), row
    assert {used(row) for row in without} >= {(True, True, True), (False, True, True)}


def test_a_pinned_order_keeps_its_name_and_equal_ones_count_once() -> None:
    place = AXES.index("rank_order")
    pinned = enumerated(8, rank_order="tp-pp-dp-cp-ep")
    assert {row[place] for row in pinned} == {5}
    both = enumerated(8, rank_order="tp-dp-pp-cp-ep,tp-pp-dp-cp-ep")
    first = {row for row in both if row[place] == 4}
    assert first == {(*row[:place], 4, *row[place + 1 :]) for row in pinned}
    again = {row for row in both if row[place] == 5}
    assert again == {row for row in pinned if used(row)[1:] == (True, True)}


def test_a_framework_runs_an_order_by_whatever_name() -> None:
    """Megatron's second order is tp-pp-dp-cp-ep where nothing cuts the sequence."""
    run = enumerated(8, "megatron", rank_order="tp-pp-dp-cp-ep")
    one = {(True, False, False), (False, True, False), (False, False, True)}
    assert {used(row) for row in run} == one | {(False, False, False), (False, True, True)}
