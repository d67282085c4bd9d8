"""The enumerated space, against every combination of values filtered by the rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import planner.space
from models.catalogue import load_architecture
from models.framework_choice import frameworks, runnable
from models.hf_config import architecture_from_config
from models.layout import AXES, Layout, LayoutBatch
from models.legality import legal
from models.named_axes import (
    CpMethod,
    CpPlacement,
    Kernels,
    RankOrder,
    Recompute,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.rules.rule import Job
from models.stages import stage_sizes
from models.workload import Workload
from planner.bounds import Bounds
from planner.options import FEWEST
from planner.space import Space
from tests.models.cases import TOY_MOE
from tests.rank_orders import first_of_its_kind
from topologies.divisors import divisors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.rules.rule import Mask

Row = tuple[int, ...]


def job(name: str, gpus: int, *, seq_len: int = 4096, global_batch: int = 8) -> Job:
    return Job(
        architecture=load_architecture(name),
        workload=Workload(seq_len=seq_len, global_batch=global_batch),
        gpus=gpus,
    )


def rows(batch: LayoutBatch) -> list[Row]:
    return list(zip(*(getattr(batch, axis).tolist() for axis in AXES), strict=True))


def enumerated(work: Job, framework: str = "unrestricted", **bounds: object) -> list[Row]:
    space = Space(work, Bounds.parse(bounds), framework)
    return [row for batch in space.batches() for row in rows(batch)]


# -------------------------------------------------------------------- every combination, one by one


#: Schedules that are not dominated, with chunks per rank that suit them and some that do not.
ORDERS = [
    *((Schedule.INTERLEAVED, vp) for vp in range(1, 9)),
    *((Schedule.ONE_F_ONE_B, vp) for vp in (1, 2)),
    (Schedule.ZB_H1, 1),
    (Schedule.ZB_H2, 1),
    *((Schedule.ZB_V, vp) for vp in (1, 2)),
    (Schedule.DUALPIPE, 1),
    (Schedule.DUALPIPE_V, 2),
]


#: Recomputation, layers, modules (core attention 1, norms 2, MLP 4); some that do not go together.
AGAIN = [
    (Recompute.NONE, 0, 1),
    (Recompute.NONE, 0, 2),
    (Recompute.FULL, 0, 1),
    (Recompute.FULL, FEWEST, 1),
    (Recompute.SELECTIVE, FEWEST, 1),
    *((Recompute.SELECTIVE, 0, modules) for modules in (1, 2, 4, 6)),
]


def every_row(work: Job, framework: str, fixed: dict[str, list[int]] | None = None) -> set[Row]:
    """Return all lawful layouts of a job that say no more than they mean."""
    found: set[Row] = set()
    for every in every_combination(work, fixed):
        batch = every.take(says_no_more_than_it_means(every, work))
        # However many layers are recomputed in the end, it is some of them and not all.
        layers = np.where(batch.recompute_layers == FEWEST, 1, batch.recompute_layers)
        meant = batch.with_columns(recompute_layers=layers)
        keep = legal(meant, work) & runnable(meant, work.architecture, framework)
        if framework == "unrestricted":  # the MLP alone only where norms alone cannot be
            keep &= meant.recompute_modules != 4
        found.update(rows(batch.take(keep)))
    return found


def every_combination(
    work: Job, fixed: dict[str, list[int]] | None = None
) -> Iterator[LayoutBatch]:
    """Yield every value of every axis with every other, one mesh at a time."""
    gpus = range(1, work.gpus + 1)
    for tp, ulysses, ring, pp, dp in product(gpus, repeat=5):
        if tp * ulysses * ring * pp * dp != work.gpus:
            continue
        zigzag = work.workload.seq_len % (2 * ulysses * ring) == 0
        candidates: dict[str, Any] = {
            "dp": [dp],
            "tp": [tp],
            "pp": [pp],
            "ulysses": [ulysses],
            "ring": [ring],
            "inner_ring": [2**k for k in range(ring.bit_length())],
            "micro_batch": [1, 2, 4, 8, 16, 32, 64],
            "zero": range(4),
            "dp_replicate": [1, 2, 4, 8, 16],
            "tp_sp": [0, 1],
            "cp_method": list(CpMethod),
            "sequence_order": [SequenceOrder.ZIGZAG if zigzag else SequenceOrder.CONTIGUOUS],
            "cp_placement": list(CpPlacement),
            "kernels": list(Kernels),
            "rank_order": [0],
            "stage_split": list(StageSplit),
            "recompute_method": [0],
            "ep": [1, 2],
            "etp": [1],
            "dispatch": [0],
            "shared_overlap": [0],
            "expert_overlap": [0],
        } | (fixed or {})
        paired = ("schedule", "vp", "recompute", "recompute_layers", "recompute_modules")
        single = [axis for axis in AXES if axis not in paired]
        recomputes = candidates.get("recompute", list(Recompute))
        repeated = [each for each in AGAIN if each[0] in recomputes]
        sizes = range(len(ORDERS)), range(len(repeated))
        values = [*sizes, *(candidates[axis] for axis in single)]
        grids = np.meshgrid(*(np.array(each, dtype=np.int32) for each in values))
        order, again, *columns = (grid.ravel() for grid in grids)
        together = (
            np.array(ORDERS, dtype=np.int32)[order],
            np.array(repeated, dtype=np.int32)[again],
        )
        axes = dict(zip(single, columns, strict=True))
        axes |= dict(zip(paired, np.concatenate(together, axis=1).T, strict=True))
        batch = LayoutBatch(**axes)
        for order in RankOrder:
            yield batch.with_columns(rank_order=np.full(len(batch), order, dtype=np.int32))


def says_no_more_than_it_means(batch: LayoutBatch, work: Job) -> Mask:
    """Return which layouts give an axis without effect its first value, and nothing twice."""
    cp, ranks = batch.cp, batch.dp * batch.cp
    keep = (batch.ring > 1) | (batch.cp_method == CpMethod.P2P)
    keep &= ((batch.ulysses > 1) & (batch.ring > 1)) | (batch.cp_placement == 0)
    keep &= (batch.pp > 1) | (batch.stage_split == StageSplit.EVEN)
    keep &= first_of_its_kind(batch)
    keep &= (batch.dp * cp > 1) | (batch.zero == 0)
    keep &= (batch.dp_replicate == 1) | (ranks > batch.dp_replicate)  # something is left to shard
    cuts = (batch.pp * 1000 + batch.vp) * len(Schedule) + batch.schedule
    balanced = cuts[batch.stage_split == StageSplit.BALANCED]
    even = [cut for cut in np.unique(balanced).tolist() if is_even(work, *parts_of(cut))]
    keep &= (batch.stage_split == StageSplit.EVEN) | ~np.isin(cuts, even)
    return keep


@pytest.mark.parametrize(
    ("work", "framework"),
    [
        (job("llama-3.2-1b", 4), "unrestricted"),
        (job("llama-3.2-1b", 4), "any"),
        (job("llama-3.1-8b", 8, global_batch=16), "megatron"),
        (job("llama-3.2-1b", 8), "torchtitan"),
        (job("llama-3.2-1b", 8), "deepspeed"),
        (job("llama-3.2-1b", 8, global_batch=4), "unrestricted"),  # double rings of 4 and 8
        (job("gemma-3-1b", 4), "unrestricted"),  # windows, one key/value head, 26 layers
        (job("qwen2.5-7b", 6, seq_len=4104, global_batch=12), "unrestricted"),  # 28 heads over 4
        (job("gpt2-xl", 5, seq_len=1000, global_batch=5), "unrestricted"),  # 25 heads
        (job("llama-3.2-1b", 4, seq_len=1028, global_batch=6), "unrestricted"),  # not in halves
        (job("llama-3.2-1b", 1), "any"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else f"{value.architecture.name}-{value.gpus}"
    ),
)
def test_the_space_is_every_lawful_combination(work: Job, framework: str) -> None:
    found = enumerated(work, framework)
    assert len(found) == len(set(found))
    expected = every_row(work, framework)
    assert len(expected) > 4
    assert set(found) == expected


#: Of a job with experts, the axes that others' tests vary.
PLAIN = {
    "kernels": [1],
    "recompute": [0],
    "recompute_layers": [0],
    "micro_batch": [1],
    "inner_ring": [1],
    "cp_method": [0],
    "stage_split": [0],
}
EXPERTS = {"ep": [1, 2, 3, 4, 8], "etp": [1, 2, 4], "dispatch": [0, 1, 2], "shared_overlap": [0, 1]}


def test_passes_beside_the_exchange_are_tried_where_asked_for() -> None:
    work, at = job("mixtral-8x7b", 4), AXES.index("expert_overlap")
    pins = {axis: values[0] for axis, values in PLAIN.items()}
    unasked = enumerated(work, "unrestricted", **pins)
    assert {row[at] for row in unasked} == {0}
    asked = enumerated(work, "unrestricted", **pins, expert_overlap="on,off")
    assert {row for row in asked if row[at] == 0} == set(unasked)
    beside = {row for row in asked if row[at] == 1}
    assert beside == {
        row
        for row in every_row(work, "unrestricted", {**PLAIN, **EXPERTS, "expert_overlap": [1]})
        if row[AXES.index("etp")] in (1, row[AXES.index("tp")])
    }


@pytest.mark.parametrize("framework", ["unrestricted", "any"])
@pytest.mark.parametrize("name", ["mixtral-8x7b", "qwen2-moe"])
def test_experts_lie_on_every_lawful_mesh(name: str, framework: str) -> None:
    """They are whole, or cut as attention is."""
    work = job("mixtral-8x7b", 4)
    if name != "mixtral-8x7b":  # with shared experts
        config = {**TOY_MOE, "model_type": "qwen2_moe"}
        work = replace(work, architecture=architecture_from_config(config, name))
    pins = {axis: values[0] for axis, values in PLAIN.items()}
    found = enumerated(work, framework, **pins, schedule="1f1b")
    assert len(found) == len(set(found))
    etp, tp = (AXES.index(axis) for axis in ("etp", "tp"))
    schedule = AXES.index("schedule")
    expected = {
        row
        for row in every_row(work, framework, {**PLAIN, **EXPERTS})
        if row[etp] in (1, row[tp]) and row[schedule] == Schedule.ONE_F_ONE_B
    }
    assert set(found) == expected
    assert len({row[AXES.index("ep")] for row in found}) == 3


def test_batches_hold_whole_meshes_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    work = job("llama-3.2-1b", 8)
    whole = enumerated(work)
    for size in (1, 1000):
        monkeypatch.setattr(planner.space, "BATCH", size)
        batches = list(Space(work, Bounds.parse({}), "unrestricted").batches())
        assert len(batches) > 10
        assert [row for batch in batches for row in rows(batch)] == whole
        meshes = [
            {(b.tp[i], b.ulysses[i], b.ring[i], b.pp[i], b.dp[i]) for i in range(len(b))}
            for b in batches
        ]
        counted = Counter(mesh for found in meshes for mesh in found)
        assert set(counted.values()) == {1}


def test_a_space_can_be_enumerated_twice() -> None:
    work = job("gemma-3-1b", 4)
    assert enumerated(work) == enumerated(work)
    space = Space(work, Bounds.parse({}), "any")
    first, second = ([rows(b) for b in space.batches()] for _ in range(2))
    assert first == second


# ------------------------------------------------------------------------------- pins and bounds

FREE = job("llama-3.2-1b", 8)


@pytest.mark.parametrize(
    ("bounds", "allowed"),
    [
        ({"tp": 2}, {"tp": {2}}),
        ({"tp": "2..4"}, {"tp": {2, 4}}),
        ({"dp": "1,8"}, {"dp": {1, 8}}),
        ({"micro_batch": 2}, {"micro_batch": {2}}),
        ({"zero": "1..2"}, {"zero": {1, 2}}),
        ({"recompute": "none,selective"}, {"recompute": {0, 1}, "recompute_layers": {0}}),
        ({"recompute_modules": "layernorm"}, {"recompute_modules": {2}, "recompute": {1}}),
        ({"vp": 2}, {"vp": {2}, "schedule": {2, 6, 8}}),
        ({"schedule": "1f1b"}, {"schedule": {1}, "vp": {1}}),
        ({"kernels": "fused"}, {"kernels": {1}}),
        ({"tp_sp": True}, {"tp_sp": {1}, "tp": {2, 4, 8}}),
        ({"cp_method": "all-gather", "ring": "2..8"}, {"cp_method": {1}, "ulysses": {1}}),
        ({"inner_ring": 2}, {"inner_ring": {2}, "ring": {4, 8}, "cp_method": {0}}),
        ({"inner_ring": "2..8"}, {"inner_ring": {2, 4}, "ring": {4, 8}}),
        ({"inner_ring": "1,4"}, {"inner_ring": {1, 4}}),
        ({"dp_replicate": 2}, {"dp_replicate": {2}, "zero": {1, 2, 3}}),
        ({"stage_split": "balanced", "pp": 2}, {"stage_split": {1}, "pp": {2}}),
        ({"rank_order": 1, "pp": 2, "dp": 2}, {"rank_order": {1}}),
    ],
    ids=str,
)
def test_bounds_leave_exactly_what_they_allow(
    bounds: dict[str, object], allowed: dict[str, set[int]]
) -> None:
    """Every layout of the free space that a bound allows, and no other.

    An axis that a mesh does not use takes the pinned value: ``--zero 3`` leaves tp 8 in.
    """
    free, found = enumerated(FREE), enumerated(FREE, **bounds)
    inside = Bounds.parse(bounds)
    expected = {
        row
        for row in free
        if all(inside.allows(axis, np.array([row[AXES.index(axis)]]))[0] for axis in bounds)
    }
    assert len(found) == len(set(found))
    assert expected <= set(found)
    assert {idle_values_dropped(row) for row in set(found) - expected} <= set(free)
    for axis, values in allowed.items():
        assert {row[AXES.index(axis)] for row in found} == values, axis


def idle_values_dropped(row: Row) -> Row:
    """Return a layout with the first value of what its mesh does not use."""
    axes = dict(zip(AXES, row, strict=True))
    if axes["dp"] * axes["ulysses"] * axes["ring"] == 1:
        axes["zero"] = 0
    if is_even(FREE, axes["pp"], axes["vp"], axes["schedule"]):
        axes["stage_split"] = StageSplit.EVEN
    return tuple(axes.values())


def parts_of(cut: int) -> tuple[int, int, int]:
    """Return the pp, vp and schedule of a number for the three."""
    rest, schedule = divmod(cut, len(Schedule))
    return (*divmod(rest, 1000), schedule)


def is_even(work: Job, pp: int, vp: int, schedule: int) -> bool:
    """Return whether balanced stages hold as many layers each."""
    if pp * vp > len(work.architecture.layers):
        return False
    layout = Layout(pp=pp, vp=vp, schedule=Schedule(schedule), stage_split=StageSplit.BALANCED)
    return len(set(stage_sizes(work.architecture, work.workload, layout))) == 1


def test_cp_bounds_the_product_of_ulysses_and_ring() -> None:
    ulysses, ring = AXES.index("ulysses"), AXES.index("ring")
    for bound, allowed in ((4, {4}), ("2..4", {2, 4})):
        found = enumerated(FREE, cp=bound)
        assert {row[ulysses] * row[ring] for row in found} == allowed
        assert len({(row[ulysses], row[ring]) for row in found}) > 2


def test_what_is_left_out_can_be_pinned() -> None:
    """GPipe, looped BFS, contiguous rings, micro-batches of 3, numbers of recomputed layers."""
    work = job("llama-3.2-1b", 8, global_batch=24)
    for pinned, chunks in (("gpipe", {1}), ("looped-bfs", {2, 4, 8})):
        found = enumerated(work, schedule=pinned, pp=2, stage_split="even")
        assert {row[AXES.index("schedule")] for row in found} == {Schedule.from_label(pinned)}
        assert {row[AXES.index("vp")] for row in found} == chunks
    contiguous = enumerated(work, sequence_order="contiguous", ring=8)
    assert {row[AXES.index("sequence_order")] for row in contiguous} == {0}
    assert {row[AXES.index("micro_batch")] for row in enumerated(work, micro_batch=3)} == {3}
    modules = enumerated(work, recompute_modules="core_attn,layernorm,mlp")
    assert {row[AXES.index("recompute_modules")] for row in modules} == {7}
    usual = enumerated(work, recompute_modules="core_attn")  # means that something is repeated
    assert {row[AXES.index("recompute")] for row in usual} == {Recompute.SELECTIVE}
    some = enumerated(work, recompute="full", recompute_layers=5)
    assert {row[AXES.index("recompute_layers")] for row in some} == {5}


def test_windows_that_are_no_power_of_two_can_be_pinned() -> None:
    work = job("llama-3.2-1b", 12, seq_len=6144, global_batch=12)
    place = AXES.index("inner_ring")
    assert {row[place] for row in enumerated(work)} == {1, 2, 4}
    assert {row[place] for row in enumerated(work, inner_ring="3,6", cp="6..12")} == {3, 6}


@pytest.mark.parametrize("framework", ["any", *sorted(frameworks())])
def test_windows_are_tried_only_where_a_framework_has_them(framework: str) -> None:
    flat = {row[AXES.index("inner_ring")] for row in enumerated(FREE, framework)}
    assert flat == {1}
    assert enumerated(FREE, framework, inner_ring=2) == []


def test_pins_that_nothing_satisfies_leave_an_empty_space() -> None:
    for bounds in ({"tp": 3}, {"tp": 4, "dp": 4}, {"pp": 32}, {"micro_batch": 5}, {"cp": 16}):
        assert enumerated(FREE, **bounds) == []


def test_refusals_say_which_rule_emptied_the_space() -> None:
    space = Space(FREE, Bounds.parse({"micro_batch": 5}), "unrestricted")
    assert list(space.batches()) == []
    assert space.refused["micro_batch"] > 0


@pytest.mark.parametrize("framework", sorted(frameworks()))
def test_a_framework_sees_only_what_it_runs(framework: str) -> None:
    """Also once the number of recomputed layers is filled in: one of 16, say."""
    columns = np.array(enumerated(FREE, framework), dtype=np.int32).T
    found = LayoutBatch(**dict(zip(AXES, columns, strict=True)))
    filled = np.where(found.recompute_layers == FEWEST, 1, found.recompute_layers)
    meant = found.with_columns(recompute_layers=filled.astype(np.int32))
    assert runnable(meant, FREE.architecture, framework).all()


@pytest.mark.parametrize("number", [1, 2, 12, 97, 256, 1000, 32768])
def test_divisors_divide(number: int) -> None:
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]
