"""Muon's memory and step, and bf16 weights that are their own master, by hand."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.data_parallel import DataParallelClock
from models.layout import Layout
from models.memory import memory_bill
from models.model_states import ModelStates
from models.muon import newton_schulz
from models.rank_parts import RankParts
from planner import estimate, simulate
from tests.models.cases import machine, prepared

LLAMA = load_architecture("llama-3.1-8b")
DEVICE, FABRIC = machine()
#: Llama 3.1 8B: 32 layers; embedding and head of 128,256 words, the head with the last norm.
LAYERS, ENDS = 32 * 218_112_000, 2 * 128_256 * 4096 + 4096
#: Matrices of a layer as products make them: rows and columns.
MATRICES = [(6144, 4096), (4096, 4096), (28_672, 4096), (4096, 14_336)]
MUON = ModelStates("muon")


def step_s(states: ModelStates, layout: Layout) -> float:
    work = prepared(LLAMA, layout, states=states)
    return float(DataParallelClock(work, DEVICE, FABRIC, RankParts.of(work, 0)).optimizer()[0])


@pytest.mark.parametrize(("zero", "share"), [(0, 1), (1, 8)])
def test_layers_have_one_momentum_and_ends_two(zero: int, share: int) -> None:
    """Fp32 weights and a momentum, 8 bytes; AdamW's 12 for the embedding and the head."""
    found = memory_bill(prepared(LLAMA, Layout(dp=8, zero=zero), states=MUON), DEVICE.profile)
    assert found.optimizer[0] == pytest.approx((8 * LAYERS + 12 * ENDS) / share, rel=1e-12)
    assert found.total[0] == pytest.approx(sum(_lines(found)), rel=1e-12)


def _lines(found: object) -> list[float]:
    names = ("parameters", "gradients", "optimizer", "activations", "logits")
    more = ("working", "buffers", "step", "fragmentation")
    last = ("context", "communicators", "workspaces")
    return [float(getattr(found, name)[0]) for name in (*names, *more, *last)]


def test_five_iterations_of_three_products() -> None:
    """Each 4 m^2 n + 2 m^3, m the smaller side (arXiv:2502.16982)."""
    (layer,) = prepared(LLAMA, Layout()).layers
    found = sum(float(op.flop[0]) for op in newton_schulz(layer, 5.0, experts=False))
    sides = [sorted(matrix) for matrix in MATRICES]
    assert found == 5 * sum(4 * m * m * n + 2 * m**3 for m, n in sides)


def test_the_step_streams_states_and_computes() -> None:
    """What is streamed of layers: 8 bytes twice, a gradient read and a parameter written."""
    whole = step_s(MUON, Layout(zero=0))
    streamed = (LAYERS * (2 * 8 + 4 + 2) + ENDS * (2 * 12 + 4 + 2)) / DEVICE.streaming_Bps
    flop = 32 * 5 * sum(4 * m * m * n + 2 * m**3 for m, n in map(sorted, MATRICES))
    best = 0.8 * 989e12 * DEVICE.profile.gemm_sustained.value
    assert streamed + flop / best < whole < streamed + 1.2 * flop / best
    assert step_s(MUON, Layout(dp=8, zero=1)) == pytest.approx(whole / 8)
    assert step_s(MUON, Layout(dp=8, zero=0)) == whole


def test_both_clocks_take_the_same_step() -> None:
    job = ("llama-3.1-8b", "h100-dgx")
    work = {"seq_len": 8192, "global_batch": 16, "optimizer": "muon", "tp": 2, "zero": 1}
    closed = estimate(*job, **work)
    assert simulate(*job, **work).step.step_s == pytest.approx(closed.step_time_s, rel=0.01)
    usual = estimate(*job, **{**work, "optimizer": "adamw"})
    assert closed.time_s["optimizer"] > usual.time_s["optimizer"]


def test_pure_bf16_reads_the_weight_that_it_updates() -> None:
    """Two moments in bf16 read and written, a gradient read, a weight read and written."""
    states = ModelStates("adamw-pure-bf16", "bf16", "bf16")
    assert states.optimizer_bytes == 4
    assert states.traffic_bytes == 2 * 4 + 2 + 2 * 2
