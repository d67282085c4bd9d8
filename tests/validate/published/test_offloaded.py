"""Saved tensors of some layers in host memory."""

from __future__ import annotations

import pytest

from models.memory_bill import LINES
from validate.published.evaluated import evaluate
from validate.published.job_of import scenario_of
from validate.published.offloaded import offloaded_layers
from validate.published.row import Row, UnexpressedError

#: As NVIDIA-NeMo/Megatron-Bridge publishes it of 64 GB200 with Megatron-FSDP.
JOB = {
    "accelerator": "GB200",
    "gpus": "64",
    "gpus_per_node": "4",
    "model": "llama3-70b",
    "layers": "80",
    "hidden": "8192",
    "heads": "64",
    "kv_heads": "8",
    "head_dim": "128",
    "ffn": "28672",
    "vocab": "128256",
    "glu": "1",
    "precision": "FP8",
    "seq_len": "8192",
    "global_batch": "256",
    "tp": "1",
    "pp": "1",
    "cp": "1",
    "micro_batch": "2",
    "zero": "3",
    "recompute": "none",
    "framework": "Megatron-Bridge/Megatron-Core",
    "step_s": "7.8",
}


def ran(**cells: str) -> Row:
    return Row({**JOB, **cells}, 1.0)


def plan_of(**cells: str):
    (found,) = evaluate([ran(**cells)], lambda _: None)
    assert found.plan is not None, found.reason
    return found.plan


def test_what_layers_save_leaves_the_device_by_their_share_and_takes_no_time():
    whole, away = plan_of(), plan_of(offload="CPU offload of activations, 40 layers")
    gone = plan_of(offload="CPU offload of activations, 200 layers")
    assert away.step_time_s == whole.step_time_s
    saved = [each.memory_bytes["activations"] for each in (whole, away, gone)]
    assert saved[1] == pytest.approx((saved[0] + saved[2]) / 2)
    # What a head of 128,256 words keeps of two sequences, and what goes into it and its norm.
    assert 2 * 8192 * 128256 * 2 <= saved[2] <= 2 * 8192 * (128256 * 4 + 8192 * 8)
    grown = ("activations", "fragmentation")
    assert all(away.memory_bytes[x] == whole.memory_bytes[x] for x in LINES if x not in grown)
    scale = away.memory_total_bytes / whole.memory_total_bytes
    assert away.memory_interval_bytes == pytest.approx(
        [scale * bound for bound in whole.memory_interval_bytes]
    )
    assert (whole.fits, away.fits) == (False, True)


def test_silent_runs_beside_their_host_offload_what_does_not_fit():
    """Rather than compute it again, which takes longer."""
    silent, stated = plan_of(recompute=""), plan_of()
    assert silent.layout == stated.layout
    assert silent.fits
    assert silent.memory_total_bytes <= silent.capacity_bytes < stated.memory_total_bytes
    assert silent.memory_total_bytes > 0.98 * silent.capacity_bytes
    apart = plan_of(recompute="", framework="torchtitan")
    assert apart.layout.recompute != stated.layout.recompute
    assert apart.step_time_s > silent.step_time_s


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"accelerator": "H100", "gpus_per_node": "8"}, "over PCIe is not modelled"),
        ({"pp": "4", "zero": "1"}, "from stages of a pipeline is not modelled"),
    ],
)
def test_what_cannot_be_taken_off_a_plan_is_said(cells: dict[str, str], reason: str) -> None:
    (found,) = evaluate(
        [ran(**cells, offload="CPU offload of activations, 40 layers")], lambda _: None
    )
    assert found.plan is None
    assert reason in found.reason


def test_other_offloads_are_not_expressed() -> None:
    assert [offloaded_layers(ran(offload=said)) for said in ("", "none", "0")] == [0, 0, 0]
    with pytest.raises(UnexpressedError, match="offload not modelled: host offload: mlpwo"):
        scenario_of(ran(offload="host offload: mlpwo"))
