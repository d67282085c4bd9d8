"""Modules of experts and of latent attention, whose layers the fused reference does not have."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.inventory import layer_work, repeatable_modules
from models.layout import Layout
from models.named_axes import Recompute
from models.recompute_modules import RecomputeModules
from models.simulation.step import StepSimulation
from models.training import step_time
from planner.recompute_sets import CHEAP, SETS, module_sets
from tests.models.cases import machine, prepared, shapes

DEVICE, FABRIC = machine("h100-dgx:8")
SEQ_LEN = 4096


def freed(name: str, modules: RecomputeModules, **axes: int) -> float:
    """Return bytes per token that modules free in the last layer of a model."""
    architecture = load_architecture(name)
    work = layer_work(architecture.layers[-1], architecture.hidden, shapes(SEQ_LEN, **axes))
    return float((work.saved_bytes() - work.selective_bytes(modules))[0]) / SEQ_LEN


def test_models_have_the_modules_of_their_layers() -> None:
    dense, experts, latent = map(load_architecture, ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"))
    assert repeatable_modules(dense).label == "core_attn+layernorm+mlp"
    assert repeatable_modules(experts).label == "core_attn+layernorm+moe_act+moe"
    assert repeatable_modules(latent) == ~RecomputeModules(0)


def test_the_search_tries_few_sets_and_none_twice() -> None:
    assert [each.label for each in module_sets(load_architecture("llama-3.1-8b"), "megatron")] == [
        "core_attn",
        "mlp",
    ]
    mixtral = load_architecture("mixtral-8x7b")
    assert [each.label for each in module_sets(mixtral, "megatron")] == [
        "core_attn",
        "layernorm+moe_act",
    ]
    assert module_sets(load_architecture("deepseek-v3"), "megatron") == sorted(SETS)
    assert module_sets(mixtral, "torchtitan") == [RecomputeModules.CORE_ATTN]


def test_experts_free_what_they_would_keep() -> None:
    """Mixtral: two experts of 14,336 columns per token, gate and value, and their product."""
    width, hidden, experts = 14336, 4096, 8
    one_tensor = 2 * 2 * width
    assert freed("mixtral-8x7b", RecomputeModules.MOE_ACT) == one_tensor
    scores = experts * 9
    given = 2 * 2 * hidden
    assert freed("mixtral-8x7b", RecomputeModules.MOE) == 3 * one_tensor + given + scores
    both = RecomputeModules.MOE | RecomputeModules.MOE_ACT
    assert freed("mixtral-8x7b", both) == freed("mixtral-8x7b", RecomputeModules.MOE)


def test_up_projections_free_queries_keys_and_values_unless_ulysses_copied_them() -> None:
    """DeepSeek V3: 128 heads of 192 for queries and keys, of 128 for values."""
    up = RecomputeModules.MLA_UP_PROJ
    assert freed("deepseek-v3", up) == 2 * 128 * (192 + 192 + 128)
    assert freed("deepseek-v3", up, ulysses=2) == 0
    shared = freed("deepseek-v3", RecomputeModules.SHARED_EXPERTS)
    assert shared == 2 * 3 * 2048


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3"])
def test_both_clocks_agree_on_modules_of_experts_and_of_latent_attention(name: str) -> None:
    architecture = load_architecture(name)
    for modules in {*SETS, CHEAP | RecomputeModules.MOE}:
        layout = Layout(
            tp=2,
            ep=8,
            dp=4,
            tp_sp=True,
            recompute=Recompute.SELECTIVE,
            recompute_modules=modules & repeatable_modules(architecture),
        )
        work = prepared(architecture, layout, seq_len=8192, global_batch=16)
        (closed,) = step_time(work, DEVICE, FABRIC).total
        played = StepSimulation(work, DEVICE, FABRIC, contention=False).step().step_s
        assert played == pytest.approx(closed, rel=0.01)
