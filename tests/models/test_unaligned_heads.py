"""Batched products of heads whose rows tensor cores cannot be fed from."""

from __future__ import annotations

import numpy as np
import pytest

from models.compute import Device
from models.operation import Kind
from models.profile import load_profile
from models.unfused_attention import unfused_attention
from topologies.catalogue import load_accelerator

A100 = Device(load_accelerator("a100-sxm-80gb"), load_profile("a100-sxm-80gb"))
#: Peak of an A100's fp32 units, beside its tensor cores (its data sheet).
FP32_FLOPS = 19.5e12


def products(width, *, backward=False, value_width=None, heads=8.0):
    every = unfused_attention(
        "scores",
        backward=backward,
        heads=np.array([heads]),
        queries=np.array([2048.0]),
        keys=np.array([2048.0]),
        width=width,
        value_width=value_width or width,
    )
    return [op for op in every if op.kind is Kind.GEMM]


def rate(width, **more):
    ops = products(width, **more)
    return sum(op.flop[0] for op in ops) / sum(A100.seconds(op)[0] for op in ops)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("width", [108.0, 150.0, 225.0, 450.0])
def test_unaligned_heads_run_at_less_than_units_beside_tensor_cores_reach(width, backward):
    assert 0.3 * FP32_FLOPS < rate(width, backward=backward) < FP32_FLOPS


@pytest.mark.parametrize(("unaligned", "aligned"), [(108.0, 112.0), (225.0, 224.0), (450.0, 448.0)])
def test_a_multiple_of_eight_columns_is_several_times_as_fast(unaligned, aligned):
    assert rate(aligned) > 4.0 * rate(unaligned)


def test_alignment_is_of_bytes_and_of_values_too():
    assert all(op.aligned for op in products(8.0))
    assert not any(op.aligned for op in products(12.0))
    assert not any(op.aligned for op in products(128.0, value_width=100.0))


def test_published_runs_with_unaligned_heads_take_as_much_longer():
    """153.9 s a step with 128 heads of 108 columns, 110.3 s with 96 of 144, otherwise alike.

    78 layers of hidden size 13,824, 2,048 sequences of 2,048 tokens on 8 x 4 x 12 A100, recomputed
    whole: 43.6 s more, of which more heads alone (softmax, dropout) take about an eighth.
    """
    sequences, layers = 2048 / 8, 78 / 12
    bubble = 1.0 + 11.0 / (2048 / 8 / 4)

    def step_s(heads, width):
        own = heads / 4 * sequences
        return bubble * layers * sum(
            passes * A100.seconds(op)[0]
            for backward, passes in ((False, 2.0), (True, 1.0))
            for op in products(width, backward=backward, heads=own)
        )  # fmt: skip

    assert step_s(128.0, 108.0) - step_s(96.0, 144.0) == pytest.approx(43.6, rel=0.35)
