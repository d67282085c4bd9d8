"""Cutting layers into pipeline stages, against every possible cut."""

from __future__ import annotations

from itertools import accumulate, combinations, groupby
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layer_cuts import split_layers, stage_weights
from models.named_axes import Schedule, StageSplit
from models.simulation.pipeline_order import Pass
from models.simulation.schedules import ordered
from models.simulation.static_order import Compiled
from models.stages import layer_weights
from models.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence


def heaviest(sizes: tuple[int, ...], weights: tuple[float, ...], head: float) -> float:
    """Return the weight of the heaviest stage, the head counted with the last."""
    sums = [0.0, *accumulate(weights)]
    ends = list(accumulate(sizes))
    stages = [sums[end] - sums[end - size] for end, size in zip(ends, sizes, strict=True)]
    return max([*stages[:-1], stages[-1] + head])


def every_cut(layers: int, stages: int) -> list[tuple[int, ...]]:
    """Return all ways to give each stage at least one layer."""
    cuts = combinations(range(1, layers), stages - 1)
    return [tuple(np.diff([0, *cut, layers]).tolist()) for cut in cuts]


@given(
    weights=st.lists(st.floats(0.1, 10.0), min_size=1, max_size=9),
    stages=st.integers(1, 9),
    head=st.floats(0.0, 20.0),
)
def test_no_other_cut_has_a_lighter_heaviest_stage(
    weights: list[float], stages: int, head: float
) -> None:
    stages = min(stages, len(weights))
    sizes = split_layers(stages, StageSplit.BALANCED, tuple(weights), head)
    best = min(heaviest(cut, tuple(weights), head) for cut in every_cut(len(weights), stages))
    assert (len(sizes), sum(sizes), min(sizes) >= 1) == (stages, len(weights), True)
    assert heaviest(sizes, tuple(weights), head) == pytest.approx(best, rel=1e-7)


@given(
    layers=st.integers(1, 11), stages=st.integers(1, 11), head=st.sampled_from([0.0, 0.3, 1.0, 4.0])
)
def test_equal_layers_are_cut_optimally_too(layers: int, stages: int, head: float) -> None:
    """Ties everywhere: the case of every real model."""
    stages = min(stages, layers)
    weights = (1.0,) * layers
    sizes = split_layers(stages, StageSplit.BALANCED, weights, head)
    best = min(heaviest(cut, weights, head) for cut in every_cut(layers, stages))
    assert heaviest(sizes, weights, head) == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize(("layers", "stages"), [(32, 1), (32, 8), (126, 14), (80, 80)])
def test_even_cuts_give_every_stage_as_many(layers: int, stages: int) -> None:
    weights = tuple(np.linspace(1, 2, layers).tolist())
    assert split_layers(stages, StageSplit.EVEN, weights, 5.0) == (layers // stages,) * stages


def test_405b_on_16_stages_is_cut_as_it_was_trained() -> None:
    """Llama 3, arXiv:2407.21783 section 3.3: one layer less on the first and the last stage."""
    weights = layer_weights(
        load_architecture("llama-3.1-405b"), Workload(seq_len=8192, global_batch=1)
    )
    sizes = split_layers(16, StageSplit.BALANCED, *weights)
    assert sizes == (7, *(8,) * 14, 7)


def test_a_heavy_head_takes_layers_from_the_last_stage() -> None:
    """Head of gemma-3-1b: 262,144 words on 26 narrow layers."""
    weights, head = layer_weights(
        load_architecture("gemma-3-1b"), Workload(seq_len=4096, global_batch=1)
    )
    assert head > 5 * max(weights)
    sizes = split_layers(4, StageSplit.BALANCED, weights, head)
    assert sizes[-1] < min(sizes[:-1])


@pytest.mark.parametrize("head", [0.0, 0.3, 1.0, 2.5, 6.0])
@pytest.mark.parametrize(
    ("layers", "ranks", "vp"),
    [(61, 8, 7), (61, 16, 2), (80, 8, 2), (80, 8, 3), (94, 16, 4), (126, 16, 7), (28, 4, 4)],
)
def test_interleaved_cuts_take_no_longer_than_those_of_stages_alone(
    layers: int, ranks: int, vp: int, head: float
) -> None:
    """Walked pass by pass, as the event clock does."""
    weights = (1.0,) * layers
    sizes = split_layers(ranks * vp, StageSplit.BALANCED, weights, head, ranks)
    spread = split_layers(ranks * vp, StageSplit.BALANCED, weights, head)
    assert walked(sizes, weights, ranks, head) <= walked(spread, weights, ranks, head) * 1.001


@pytest.mark.parametrize(("layers", "ranks", "vp"), [(61, 8, 7), (94, 16, 4), (126, 16, 7)])
def test_long_stages_follow_each_other_up_to_the_head(layers: int, ranks: int, vp: int) -> None:
    sizes = split_layers(ranks * vp, StageSplit.BALANCED, (1.0,) * layers, 1.0, ranks)
    runs = [layers for layers, _ in groupby(sizes[:-1])]
    assert runs == sorted(runs)
    assert len(runs) == 2
    spread = split_layers(ranks * vp, StageSplit.BALANCED, (1.0,) * layers, 1.0)
    weights = (1.0,) * layers
    assert walked(sizes, weights, ranks, 1.0) < walked(spread, weights, ranks, 1.0) * 0.98


@given(
    weights=st.lists(st.floats(0.3, 3.0), min_size=6, max_size=10),
    ranks=st.sampled_from([2, 3]),
    head=st.floats(0.0, 4.0),
)
def test_layers_of_any_weight_are_cut_nearly_as_well_as_can_be(
    weights: list[float], ranks: int, head: float
) -> None:
    """Against every cut; a few are looked at, so that a little may be lost."""
    sizes = split_layers(2 * ranks, StageSplit.BALANCED, tuple(weights), head, ranks)
    assert (len(sizes), sum(sizes), min(sizes) >= 1) == (2 * ranks, len(weights), True)
    ends = [walked(cut, weights, ranks, head) for cut in every_cut(len(weights), 2 * ranks)]
    assert walked(sizes, weights, ranks, head) <= min(ends) * 1.35
    stages_only = split_layers(2 * ranks, StageSplit.BALANCED, tuple(weights), head)
    assert walked(sizes, weights, ranks, head) <= walked(stages_only, weights, ranks, head) * 1.001


def walked(sizes: Sequence[int], weights: Sequence[float], ranks: int, head: float) -> float:
    """Return how long an interleaved pipeline takes whose stages take what they hold."""
    held = stage_weights(sizes, [0.0, *accumulate(weights)], head)
    vp = len(sizes) // ranks
    order = Compiled.of(*ordered(Schedule.INTERLEAVED, ranks, 3 * ranks, vp))
    factor = {Pass.FORWARD: 1.0, Pass.BACKWARD: 2.0}
    seconds = [factor[run.kind] * held[run.stage] for (run,) in order.runs]
    return float(order.times(np.array(seconds)).end.max())
