"""What steps do not hold whole on their devices, against bytes counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.layout import Layout
from models.named_axes import Recompute
from planner.scenario import Scenario
from validate.published.row import Row, UnexpressedError
from validate.published.sparing import Sparing, plan_of

LAYERS, HIDDEN, VOCAB, TOKENS = 32, 4096, 128256, 131072
LAYOUT = Layout(ulysses=8, zero=3, recompute=Recompute.FULL)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario.load("llama-3.1-8b", "h100-dgx", gpus=8, seq_len=8 * TOKENS, global_batch=1)


def held(scenario: Scenario, **spared: bool) -> float:
    return Sparing(**spared).bytes_on_device(scenario, LAYOUT)


def fragmentation(scenario: Scenario) -> float:
    bill = plan_of(scenario, LAYOUT).memory_bytes
    return bill["fragmentation"] / sum(bill[x] for x in ("activations", "logits", "working"))


@pytest.mark.parametrize(
    ("cells", "spared"),
    [
        ({}, {}),
        ({"offload": "none", "method": "Ulysses"}, {}),
        ({"method": "ALST off: baseline (no liger, no tiling, no ckpt offload)"}, {}),
        ({"method": "Ulysses (DeepSpeed ALST, no tiling)"}, {}),
        ({"method": "ALST liger+ckpt offload, no tiled MLP"}, {"loss": True}),
        ({"method": "ALST liger+tiled MLP, no ckpt offload"}, {"loss": True, "mlp": True}),
        ({"offload": "activation checkpoints to CPU"}, {"checkpoints": True}),
        ({"offload": "optimizer+param CPU"}, {"optimizer": True, "parameters": True}),
        (
            {"offload": "optimizer CPU + activation checkpoints CPU"},
            {"optimizer": True, "checkpoints": True},
        ),
    ],
)
def test_rows_say_what_is_spared(cells: dict[str, str], spared: dict[str, bool]) -> None:
    assert Sparing.of(Row(cells, 1.0)) == Sparing(**spared)


def test_other_offloads_are_refused() -> None:
    with pytest.raises(UnexpressedError, match="not modelled: kv chunks"):
        Sparing.of(Row({"offload": "activation checkpoints to CPU + KV chunks to CPU"}, 1.0))


def test_nothing_spared_is_the_plan(scenario: Scenario) -> None:
    assert held(scenario) == pytest.approx(plan_of(scenario, LAYOUT).memory_total_bytes, rel=1e-9)


def test_states_leave_with_their_bytes(scenario: Scenario) -> None:
    """16 bytes of each of 8.03e9 parameters over 8 ranks, less the 2 of the parameter itself."""
    assert held(scenario) - held(scenario, optimizer=True) == pytest.approx(
        8.03e9 / 8 * 16, rel=2e-3
    )
    moved = held(scenario) - held(scenario, parameters=True)
    assert moved == pytest.approx(8.03e9 / 8 * 2 * (1 - 2 / LAYERS), rel=2e-3)


def test_checkpoints_leave_with_their_bytes(scenario: Scenario) -> None:
    moved = held(scenario) - held(scenario, checkpoints=True)
    counted = (LAYERS - 2) * TOKENS * HIDDEN * 2.0
    assert moved == pytest.approx(counted * (1.0 + fragmentation(scenario)), rel=0.02)


def test_tiles_leave_no_logits(scenario: Scenario) -> None:
    """What a loss adds no longer grows with the vocabulary, but for the parameters."""
    wider = replace(scenario, architecture=replace(scenario.architecture, vocab=VOCAB + 8 * 10**4))
    added = 2 * 8e4 * HIDDEN * 18 / 8 + 2 * 8e4 * HIDDEN * 2.0  # states of two ends; gathered
    assert held(wider, loss=True) - held(scenario, loss=True) < 1.2 * added
    assert held(wider) - held(scenario) > 4 * 8e4 * TOKENS
    assert held(scenario, loss=True, mlp=True) < held(scenario, loss=True) < held(scenario)


def test_pipelines_and_experts_are_refused(scenario: Scenario) -> None:
    with pytest.raises(UnexpressedError, match="pipelines"):
        Sparing(checkpoints=True).bytes_on_device(
            scenario, Layout(ulysses=4, pp=2, recompute=Recompute.FULL)
        )
    experts = Scenario.load("mixtral-8x7b", "h100-dgx", gpus=8, seq_len=8192, global_batch=1)
    with pytest.raises(UnexpressedError, match="tiles of experts"):
        Sparing(mlp=True).bytes_on_device(experts, LAYOUT)
