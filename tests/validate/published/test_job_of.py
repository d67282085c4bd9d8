"""How rows state layouts and machines in words of their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.layout import LayoutBatch
from models.named_axes import CpMethod
from models.recompute_modules import RecomputeModules
from tests.validate.published.made_up import row
from validate.published.job_of import layout_of, scenario_of
from validate.published.machine_of import cluster_name, machine_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from models.layout import Layout

LLAMA = {
    "accelerator": "H100",
    "gpus": 64,
    "gpus_per_node": 8,
    "model": "llama3-8b",
    "layers": 32,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "ffn": 14336,
    "vocab": 128256,
    "gated": 1,
    "seq_len": 8192,
    "global_batch": 64,
    "micro_batch": 1,
    "recompute": "none",
    "framework": "Megatron-Bridge/Megatron-Core",
}
EXPERTS = {
    **LLAMA,
    "model": "qwen3-30b-a3b",
    "layers": 48,
    "hidden": 2048,
    "kv_heads": 4,
    "ffn": 6144,
    "vocab": 151936,
    "experts": 128,
    "top_k": 8,
    "expert_ffn": 768,
    "ep": 8,
}


def layout(**cells: object) -> Layout:
    one = row(**{**LLAMA, **cells})
    return layout_of(one, scenario_of(one))


@pytest.mark.parametrize(
    ("said", "modules"),
    [
        ("modules mla_up_proj,mlp", RecomputeModules.MLA_UP_PROJ | RecomputeModules.MLP),
        ("['layernorm', 'core_attn']", RecomputeModules.LAYERNORM | RecomputeModules.CORE_ATTN),
        ("", RecomputeModules.CORE_ATTN),
    ],
)
def test_modules_that_are_repeated_are_those_named(said: str, modules: RecomputeModules) -> None:
    model = {
        "model": "deepseek-v3",
        "layers": 61,
        "hidden": 7168,
        "gpus": 256,
        "ep": 64,
        "global_batch": 256,
    }
    found = layout(**model, recompute="selective", recompute_detail=said)
    assert RecomputeModules(found.recompute_modules) == modules


def test_full_recomputation_of_some_layers_is_of_every_chunk() -> None:
    said = "recompute=2 layers per a preset"
    assert layout(pp=4, vp=2, recompute="full", recompute_detail=said).recompute_layers == 4
    assert layout(pp=4, recompute="full", recompute_detail="every layer").recompute_layers == 0


def test_recomputation_that_a_run_does_not_state_is_the_least_that_fits() -> None:
    """Four sequences of 8k tokens a pass are too much to keep, and too little to do all again."""
    cells = {**LLAMA, "gpus": 8, "tp": 2, "tp_sp": 1, "micro_batch": 4, "zero": 1}
    del cells["recompute"]
    one = row(**cells)
    scenario = scenario_of(one)
    found = layout_of(one, scenario)
    chosen, *others = scenario.evaluate(
        LayoutBatch.of(
            [found, *(layout_of(row(**cells, recompute=way), scenario) for way in ("none", "full"))]
        )
    )
    assert chosen.fits
    assert [plan.fits for plan in others] == [False, True]
    assert others[0].step_time_s < chosen.step_time_s < others[1].step_time_s


@pytest.mark.parametrize(
    ("said", "axes"),
    [
        ("ring/p2p (TE default)", {"cp_method": CpMethod.P2P, "inner_ring": 1}),
        ("all-gather (Llama 3)", {"cp_method": CpMethod.ALL_GATHER, "inner_ring": 1}),
        ("BurstEngine", {"cp_method": CpMethod.P2P, "inner_ring": 8}),
        ("double ring", {"cp_method": CpMethod.P2P, "inner_ring": 8}),
    ],
)
def test_keys_and_values_travel_as_stated(said: str, axes: dict[str, int]) -> None:
    found = layout(cp=32, cp_kind=said, global_batch=2)
    assert {name: getattr(found, name) for name in axes} == axes


@pytest.mark.parametrize(
    ("framework", "said", "method"),
    [
        ("torchtitan", "", CpMethod.ALL_GATHER),
        ("torchtitan", "CP", CpMethod.ALL_GATHER),
        ("torchtitan", "CP, alltoall", CpMethod.P2P),
        ("torchtitan", "ring attention", CpMethod.P2P),
        ("Megatron-LM", "", CpMethod.P2P),
    ],
)
def test_torchs_context_parallelism_gathers_unless_told_otherwise(
    framework: str, said: str, method: CpMethod
) -> None:
    found = layout(framework=framework, cp=8, cp_kind=said, global_batch=8)
    assert (found.ring, found.cp_method) == (8, method)


def test_tensor_parallelism_beside_experts_is_along_the_sequence() -> None:
    assert layout(**EXPERTS, tp=2).tp_sp
    assert not layout(tp=2).tp_sp


def test_ranks_that_share_experts_and_data_are_said_to_be_another_layout() -> None:
    with pytest.raises(UnexpressedError, match="hold the same data"):
        layout(**EXPERTS, dp=8)
    assert layout(**EXPERTS, dp=64).dp == 64


def test_nodes_have_as_many_accelerators_as_the_row_says() -> None:
    four = machine_of(row(accelerator="H100", gpus=32, gpus_per_node=4))
    assert (four.accelerators_per_node, four.fast_domain, four.nodes) == (4, 4, 8)
    each = "NDR, 400 Gb/s per GPU"
    half = machine_of(row(accelerator="H100", gpus=32, gpus_per_node=4, interconnect=each))
    assert half.tiers[1].Bps.value == pytest.approx(50e9)
    tray = machine_of(row(accelerator="GB200", gpus=32, gpus_per_node=4))
    assert (tray.accelerators_per_node, tray.fast_domain) == (4, 32)


@pytest.mark.parametrize(
    ("cells", "cluster"),
    [
        ({"accelerator": "H100"}, "h100-dgx"),
        ({"accelerator": "H100", "device_memory": "80"}, "h100-dgx"),
        ({"accelerator": "H100", "device_memory": "96"}, "h100-96gb"),
        ({"accelerator": "H100 96GB"}, "h100-96gb"),
        ({"accelerator": "A100", "device_memory": "40.0"}, "a100-40gb-dgx"),
        ({"accelerator": "A100-80GB", "device_memory": "80"}, "a100-dgx"),
        ({"accelerator": "A100-80GB (40GB elsewhere)"}, "a100-dgx"),
        ({"accelerator": "A800-SXM4-80GB"}, "a800-hgx"),
        ({"accelerator": "GB200 NVL72"}, "gb200-nvl72"),
        ({"accelerator": "H100 80GB", "interconnect": "NVLink + AWS EFA v2"}, "aws-p5"),
        ({"accelerator": "H100", "interconnect": "GCP A3 (GPUDirect-TCPX)"}, "gcp-a3-high"),
        ({"accelerator": "H100", "interconnect": "GPUDirect-TCPXO"}, "gcp-a3-mega"),
        ({"accelerator": "MI300X OAM"}, "mi300x"),
    ],
)
def test_machines_are_told_apart_by_their_memory(cells: dict[str, str], cluster: str) -> None:
    assert cluster_name(row(**cells)) == cluster
