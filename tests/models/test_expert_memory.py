"""What experts keep, against torch, and what runs beside them, against numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.architecture import Layer, Mlp, Moe
from models.catalogue import load_architecture
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.layout import Layout
from models.memory import memory_bill
from models.operation import Compute
from models.precision import load_precision
from tests.models.cases import TOY_MOE, machine, prepared, shapes
from tests.oracles import fused_experts


def gated() -> Any:
    """Return a layer with shared experts and their gate."""
    config = {**TOY_MOE, "model_type": "qwen2_moe", "intermediate_size": 1024}
    return architecture_from_config(config, "shared").layers[0]


@pytest.mark.parametrize("gate", [False, True])
def test_fused_kernels_keep_what_a_layer_of_them_keeps(gate: bool) -> None:
    """All bf16 tensors but a gate's number a token; routing keeps scores and places, not bf16."""
    tokens, hidden = 64, 32
    mixture = Moe(
        experts=8,
        top_k=2,
        expert=Mlp(intermediate=16),
        shared=Mlp(intermediate=24),
        shared_gate=gate,
    )
    kept = fused_experts.saved_bytes(mixture, tokens, hidden)
    work = layer_work(Layer(mixer=None, mlp=mixture), hidden, shapes(tokens))
    counted = {item.name: float(item.nbytes[0]) for item in work.saved}
    statistics, gates = 4 * tokens, 2 * tokens * gate
    assert sum(counted.values()) - counted["router"] - statistics == kept - gates


def test_routers_keep_their_input_in_bf16_beside_the_quantised_one_of_shared_experts() -> None:
    model = load_architecture("deepseek-v3")
    kept = {
        name: {
            item.name: float(item.nbytes[0])
            for item in layer_work(
                model.layers[-1],
                model.hidden,
                replace(shapes(4096), precision=load_precision(name)),
            ).saved
        }
        for name in ("bf16", "fp8-delayed")
    }
    plain, fp8 = kept["bf16"], kept["fp8-delayed"]
    assert fp8["moe norm"] == plain["moe norm"]
    assert fp8["shared input"] - plain["shared input"] == 4096 * 7168
    assert fp8["dispatched tokens"] == plain["dispatched tokens"] / 2


@pytest.mark.parametrize(("ep", "experts_sent"), [(8, False), (4, True)])
def test_experts_that_no_other_rank_holds_are_not_gathered(ep: int, experts_sent: bool) -> None:
    """FSDP's two layers in bf16 and the gradients of one in fp32, experts only where sharded."""
    model = load_architecture("mixtral-8x7b")
    work = prepared(model, *(Layout(dp=8, ep=ep, zero=zero) for zero in (1, 3)))
    never, gathered = memory_bill(work, machine()[0].profile).buffers
    table = work.parameters
    own, experts = float(table.layers[0][0]), float(table.experts[0][0])
    head = 2 * float(table.head[0])
    assert gathered - never == head + (own + experts * experts_sent) * (2 * 2 + 4)


def test_gates_and_sums_of_shared_experts_move_their_output() -> None:
    """Scaled: read, written, and backward read once more; added to the routed: three tensors."""
    work = layer_work(gated(), 256, shapes(4096))
    for operations, scaled in ((work.forward, 4), (work.backward, 6)):
        moved = {op.name: op.nbytes[0] for op in operations if isinstance(op, Compute)}
        assert moved["shared gating"] == 4096 * 256 * scaled
        assert moved["shared sum"] == 4096 * 256 * 6


def test_gates_of_one_column_are_not_quantised() -> None:
    meant = replace(shapes(4096), precision=load_precision("fp8-blockwise"))
    work = layer_work(gated(), 256, meant)
    peaks = {op.name: op.peak for op in work.forward if isinstance(op, Compute)}
    assert (peaks["router"], peaks["shared gate"], peaks["shared up"]) == ("bf16", "bf16", "fp8")
