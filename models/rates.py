"""What users compare steps by: throughput and utilisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.inventory import full_attention_flop, model_flop

if TYPE_CHECKING:
    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What users compare steps by; arrays over layouts.

    Parameters
    ----------
    tokens_per_s_per_gpu
        Tokens of the step over its time and the accelerators.
    tflops_per_gpu, mfu
        FLOP that MFU counts, per second and accelerator in 1e12, and over the dense peak of what
        the layers' products run in.
    mfu_full_attention
        The same with attention counted unmasked, for comparison with published figures.
    """

    tokens_per_s_per_gpu: Array
    tflops_per_gpu: Array
    mfu: Array
    mfu_full_attention: Array


def rates(prepared: Prepared, step_s: Array, device: Device) -> Rates:
    """Return throughput and utilisation of steps that take `step_s` seconds."""
    per_gpu = 1.0 / (step_s * prepared.batch.gpus)
    counted = model_flop(prepared.architecture, prepared.workload) * per_gpu
    unmasked = full_attention_flop(prepared.architecture, prepared.workload) * per_gpu
    peak = device.accelerator.peak_flops(prepared.workload.recipe.peak)
    return Rates(
        tokens_per_s_per_gpu=prepared.workload.tokens_per_step * per_gpu,
        tflops_per_gpu=counted / 1e12,
        mfu=counted / peak,
        mfu_full_attention=unmasked / peak,
    )
