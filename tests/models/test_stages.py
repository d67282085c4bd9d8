"""Cutting layers into pipeline stages, against every possible cut."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from models.stages import StageTable
from tests.models.cases import prepared, toy


@pytest.mark.parametrize(
    ("pp", "vp", "split"),
    [(1, 1, 0), (4, 1, 0), (4, 2, 0), (3, 1, 1), (5, 2, 1), (13, 2, 0), (7, 3, 1)],
)
@pytest.mark.parametrize("name", ["gemma-3-1b", "llama-3.1-8b"])
def test_kinds_of_rank_add_up_to_the_model(name: str, pp: int, vp: int, split: int) -> None:
    architecture = load_architecture(name)
    layers = len(architecture.layers)
    if split == StageSplit.EVEN and layers % (pp * vp):
        pp, vp = 2, 1
    schedule = Schedule.INTERLEAVED if vp > 1 else Schedule.ONE_F_ONE_B
    layout = Layout(pp=pp, vp=vp, schedule=schedule, stage_split=StageSplit(split))
    stages = prepared(architecture, layout).stages
    many = stages.multiplicity[0]
    assert many.sum() == pp
    assert (many * stages.layers[0]).sum() == layers
    assert (many * stages.first[0]).sum() == 1
    assert (many * stages.last[0]).sum() == 1
    per_kind = (many[:, None] * stages.counts[0]).sum(axis=0)
    assert list(per_kind) == [
        architecture.kind_of_layer.count(kind) for kind in range(len(architecture.kinds))
    ]
    assert stages.position[0][stages.first[0] == 1] == 0


def test_interleaved_ranks_hold_every_pp_th_chunk() -> None:
    """Chunks 0 and 4 of 8 on rank 0: gemma's full layers 5 and 23 fall on ranks 1 and 3."""
    architecture = toy(num_hidden_layers=24, model_type="gemma3_text", sliding_window=512)
    layout = Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED)
    work = prepared(architecture, layout)
    full = architecture.kinds.index(next(k for k in architecture.kinds if not k.mixer.window))
    chunks = [range(3 * c, 3 * c + 3) for c in range(8)]
    held = [
        sum((layer + 1) % 6 == 0 for c in (rank, rank + 4) for layer in chunks[c])
        for rank in range(4)
    ]
    stages, many = work.stages, work.stages.multiplicity[0].astype(int)
    found = np.repeat(stages.counts[0][:, full], many)
    assert sorted(found) == sorted(held)


def test_a_batch_with_several_cuts_gives_each_layout_its_own() -> None:
    architecture = load_architecture("llama-3.1-8b")
    layouts = [Layout(pp=8), Layout(pp=1), Layout(pp=2), Layout(pp=8)]
    work = prepared(architecture, *layouts)
    stages, cut = work.stages, work.stage_index
    assert list(stages.look_up(stages.layers, cut, 0)) == [4, 32, 16, 4]
    ranks = sum(stages.look_up(stages.multiplicity, cut, rank) for rank in range(stages.width))
    assert list(ranks) == [8, 1, 2, 8]


def test_a_v_has_both_ends_of_the_model_on_the_first_rank() -> None:
    """Eight stages of three layers on four ranks: 0 with 7, 1 with 6, 2 with 5, 3 with 4."""
    architecture = toy(num_hidden_layers=24, model_type="gemma3_text", sliding_window=512)
    full = architecture.kinds.index(next(k for k in architecture.kinds if not k.mixer.window))
    layout = Layout(pp=4, vp=2, schedule=Schedule.ZB_V)
    stages = prepared(architecture, layout).stages
    many = stages.multiplicity[0].astype(int)
    held = [
        sum((layer + 1) % 6 == 0 for c in (rank, 7 - rank) for layer in range(3 * c, 3 * c + 3))
        for rank in range(4)
    ]
    assert sorted(np.repeat(stages.counts[0][:, full], many)) == sorted(held)
    assert (stages.layers[0] == 6).all()
    both = (stages.first[0] > 0) & (many > 0)
    assert list(stages.last[0][both]) == [1]
    assert list(stages.position[0][both]) == [0]
    assert (many * stages.last[0]).sum() == 1


def test_a_pipeline_both_ways_holds_the_model_twice() -> None:
    architecture = load_architecture("llama-3.1-8b")
    stages = prepared(architecture, Layout(pp=4, schedule=Schedule.DUALPIPE)).stages
    many = stages.multiplicity[0]
    assert many.sum() == 4
    assert (many * stages.layers[0]).sum() == 2 * 32
    assert (many * stages.first[0]).sum() == (many * stages.last[0]).sum() == 2
    assert (stages.first[0] == stages.last[0]).all()


@pytest.mark.parametrize(
    ("name", "pp", "vp"), [("nemotron-h-8b", 8, 3), ("nemotron-h-8b", 16, 3), ("gemma-3-1b", 4, 3)]
)
def test_of_equal_ranks_that_counts_which_holds_most(name: str, pp: int, vp: int) -> None:
    layout = Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED, stage_split=StageSplit.BALANCED)
    work = prepared(load_architecture(name), layout, global_batch=2 * pp)

    def fullest(stages: StageTable) -> dict[tuple[float, ...], float]:
        passes = 2 * (pp - 1 - stages.position[0]) + (vp - 1) * pp + 1
        most = stages.held[0].sum(axis=-1) * passes / vp
        found: dict[tuple[float, ...], float] = {}
        for counts, first, last, much in zip(
            stages.counts[0].tolist(), stages.first[0], stages.last[0], most, strict=True
        ):
            key = (*counts, first, last)
            found[key] = max(found.get(key, 0.0), much)
        return found

    one_by_one = StageTable.one_by_one(work.architecture, work.batch, work.workload)
    assert fullest(work.stages) == pytest.approx(fullest(one_by_one))
