"""What a step is computed from: figures that it reads, and no others."""

from __future__ import annotations

from planner.scenario import Scenario
from topologies.figure import Provenance


def figures(cluster: str, precision: str) -> dict[str, object]:
    work = {"seq_len": 4096, "global_batch": 8, "gpus": 8}
    return Scenario.load("llama-3.2-1b", cluster, **work, precision=precision).figures


def test_figures_that_no_training_step_reads_are_not_among_them() -> None:
    in_bf16, in_fp8 = (figures("mi300x", name) for name in ("bf16", "fp8-tensorwise"))
    assert not [name for name in in_fp8 if name.startswith("decode")]
    assert "gemm_fp8_fraction" not in in_bf16
    assert "gemm_fp8_fraction" in in_fp8


def test_products_in_fp4_are_assumed_to_reach_the_share_of_those_in_fp8() -> None:
    found = figures("b200-dgx", "nvfp4")
    fp8, fp4 = (found[f"gemm_{name}_fraction"] for name in ("fp8", "fp4"))
    assert fp4.value == fp8.value
    assert (fp8.kind, fp4.kind) == (Provenance.FITTED, Provenance.ASSUMED)
