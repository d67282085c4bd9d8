"""Generations of flash attention: what each takes on a device beside its best."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.attention_kernels import (
    _content,
    architecture_of,
    attention_kernels,
    best_kernel,
)
from models.compute import Device
from models.flash_attention import flash_attention
from models.operation import Kind
from models.profile import load_profile
from topologies.catalogue import accelerator_names, load_accelerator
from topologies.errors import SpecError

DATA = Path(__file__).parents[1] / "data" / "kernels"


def device(name: str, kernel: str | None = None) -> Device:
    chosen = None if kernel is None else attention_kernels()[kernel]
    return Device(load_accelerator(name), load_profile(name), chosen)


def seconds(on: Device, tokens: float, width: float, *, causal: bool, backward: bool) -> float:
    """Return the time of 16k tokens and 2,048 columns, as FlashAttention's benchmark has them."""
    rows = np.array([16384.0 * 2048.0 / width])
    seen = tokens * (0.5 if causal else 1.0)
    op = flash_attention(
        Kind.ATTENTION,
        backward=backward,
        pairs=rows * seen,
        rows=rows,
        inner=seen,
        width=width,
        value_width=width,
        elements=rows * width * 4.0,
        calls=np.ones(1),
        masked_rows=rows * float(causal),
        masked_keys=np.array([tokens]),
    )
    return float(on.seconds(op)[0])


def test_architectures_hold_accelerators_of_the_catalogue_once_each() -> None:
    members = [name for each in _content().architectures.values() for name in each]
    assert len(set(members)) == len(members)
    assert set(members) <= set(accelerator_names())


def test_the_best_has_ratios_of_one_and_others_are_slower_in_both_passes_together() -> None:
    for architecture in _content().architectures:
        name = _content().architectures[architecture][0]
        best = attention_kernels()[str(best_kernel(name))]
        for each in attention_kernels().values():
            if architecture in each.forward:
                passes = [each.slowdown(name, backward=backward) for backward in (False, True)]
                # A backward pass is two and a half forward ones.
                both = (passes[0] + 2.5 * passes[1]) / 3.5
                assert (passes == [1.0, 1.0]) if each is best else (both >= 1.0)


def test_the_best_generation_is_what_a_device_runs_unless_told() -> None:
    for name in ("a100-sxm-80gb", "h100-sxm", "b200-sxm"):
        for backward in (False, True):
            one, other = (
                seconds(device(name, kernel), 4096.0, 128.0, causal=True, backward=backward)
                for kernel in (None, best_kernel(name))
            )
            assert one == other


def test_both_passes_are_known_of_every_generation_that_runs() -> None:
    assert all(set(each.forward) == set(each.backward) for each in attention_kernels().values())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["FA2", "cuDNN"])
def test_flash_attention_s_own_charts_of_an_h100(kernel: str, causal: bool) -> None:
    """Times as long as FlashAttention 3, by width and length."""
    with (DATA / "flash_attention.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["hw"].startswith("H100")]
    charts = {
        (row["kernel"], row["head_dim"]): row
        for row in rows
        if row["pass"] == "fwd" and row["causal"] == str(int(causal))
    }
    off = []
    for (name, width), row in charts.items():
        best = charts["FA3", width]
        for column, tokens in (("seq1k", 1024.0), ("seq4k", 4096.0), ("seq16k", 16384.0)):
            if name == kernel and row[column] and best[column]:
                older, newer = (
                    seconds(device("h100-sxm", each), tokens, float(width), causal=causal,
                            backward=False)
                    for each in (name.lower(), None)
                )  # fmt: skip
                off.append(older / newer / (float(best[column]) / float(row[column])) - 1.0)
    assert len(off) >= 5
    assert np.median(np.abs(off)) < 0.1
    assert np.max(np.abs(off)) < 0.20


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("name", "chart"), [("h100-sxm", "h100"), ("b200-sxm", "b200")])
def test_cudnn_is_what_torch_runs_in_magiattention_s_charts(
    name: str, chart: str, backward: bool
) -> None:
    """Times as long as the best generation for one sequence, from 4k tokens on."""
    with (DATA / "magiattention.csv").open(encoding="utf-8", newline="") as file:
        bars = {
            (row["mask"], row["seq_len"], row["kernel"]): float(row["tflops"])
            for row in csv.DictReader(file)
            if row["hw"] == chart and row["pass"] == ("bwd" if backward else "fwd")
        }
    best = best_kernel(name)
    off = []
    for (mask, length, kernel), tflops in bars.items():
        tokens = 1024.0 * float(length.removesuffix("k"))
        if kernel == "sdpa" and tokens >= 4096.0:
            theirs = bars[mask, length, str(best)] / tflops
            ours = [
                seconds(device(name, each), tokens, 128.0, causal=mask == "causal",
                        backward=backward)
                for each in ("cudnn", best)
            ]  # fmt: skip
            off.append(ours[0] / ours[1] / theirs - 1.0)
    assert len(off) == 8
    assert np.mean(np.abs(off)) < 0.08
    assert abs(np.median(off)) < 0.04


def test_an_older_generation_loses_less_where_rows_and_heads_cost_most() -> None:
    def ratio(tokens: float, width: float) -> float:
        older, newer = (
            seconds(device("h100-sxm", each), tokens, width, causal=False, backward=False)
            for each in ("fa2", None)
        )
        return older / newer

    assert ratio(512.0, 64.0) < ratio(512.0, 128.0) < ratio(16384.0, 128.0)
    limit = attention_kernels()["fa2"].slowdown("h100-sxm", backward=False)
    assert ratio(2.0**24, 2.0**16) == pytest.approx(limit, rel=0.01)


def test_a_generation_that_does_not_run_is_refused_with_where_it_does() -> None:
    on = device("a100-sxm-80gb", "fa3")
    with pytest.raises(
        SpecError, match=r"does not run on a100-sxm-80gb \(ampere\): it does on hopper"
    ):
        seconds(on, 4096.0, 128.0, causal=True, backward=False)
    with pytest.raises(SpecError, match="of no known architecture"):
        attention_kernels()["fa2"].slowdown("tpu-v5p", backward=True)
    assert architecture_of("tpu-v5p") is None


def test_time_grows_with_the_ratio_in_both_passes() -> None:
    for backward in (False, True):
        times = [
            seconds(device("h100-sxm", each), 8192.0, 128.0, causal=True, backward=backward)
            for each in ("fa3", "cudnn", "fa2", "fa1")
        ]
        assert times == sorted(times)
        assert len(set(times)) == len(times)


def test_a_device_keeps_its_kernel_when_its_profile_is_replaced() -> None:
    on = device("h100-sxm", "fa2")
    assert replace(on, profile=load_profile("h200-sxm")).attention_kernel is on.attention_kernel
