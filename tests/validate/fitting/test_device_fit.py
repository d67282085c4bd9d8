"""Figures found back from made-up kernels, and the folds that tell how good they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.compute import Device
from models.profile import load_profile
from tests.validate.fitting.tables import burst, figures, measured
from topologies.figure import Provenance
from validate.fitting import work
from validate.fitting.device_fit import MOST_WEIGHT, DeviceFit, weights
from validate.fitting.sample import (
    BACKWARD,
    DECODE,
    FORWARD,
    MEMORY,
    NARROW_PRODUCT,
    PRODUCT,
    Sample,
)

#: A make of device far from the profile that fits start from.
TRUE = {
    "hbm_fraction": 0.6, "kernel_s": 8e-6,
    "gemm_fraction": 0.55, "gemm_half_waves": 0.4, "gemm_half_depth": 300.0,
    "gemm_fp8_fraction": 0.4,
    "attention_fraction": 0.5, "attention_half_waves": 0.3, "attention_half_tokens": 150.0,
    "attention_half_width": 25.0, "attention_mask_keys": 128.0,
    "attention_backward_ratio": 0.6, "attention_backward_half_tokens": 300.0,
    "decode_fraction": 0.5, "decode_s": 20e-6, "decode_pair_s": 0.05e-6,
}  # fmt: skip
NAME = "h100-sxm"


def made_up(noise: float = 0.0, seed: int = 0) -> list[Sample]:
    """Return the kernels of the tables, with the times of a device whose figures are known."""
    device = Device(burst(NAME).accelerator, figures(burst(NAME).profile, **TRUE))
    draw = np.random.default_rng(seed)
    streams = np.geomspace(1e5, 1e9, 40)
    shapes = {"elements": streams, "nbytes": np.full(40, 6.0)}
    kinds = (PRODUCT, NARROW_PRODUCT, FORWARD, BACKWARD, DECODE)
    found = [each for kind in kinds for each in measured(NAME, kind)]
    found.append(Sample(kind=MEMORY, source="made up", shapes=shapes, seconds=streams))
    return [
        replace(
            each,
            seconds=work.seconds(each, device) * np.exp(noise * draw.standard_normal(len(each))),
        )
        for each in found
    ]


def factors(done: DeviceFit) -> dict[str, float]:
    return {name: done.figures[name].value / value for name, value in TRUE.items()}


def test_without_noise_every_figure_is_found_back() -> None:
    done = DeviceFit(made_up(), burst(NAME))
    # Width of backward is not varied in the tables: it is taken as forward's.
    assert done.figures["attention_backward_half_width"].value == pytest.approx(25.0, rel=0.02)
    # The true backward has the shipped width half, which the ratio makes up for at one width.
    apart = {"attention_backward_ratio"}
    for name, factor in factors(done).items():
        if name not in apart:
            assert factor == pytest.approx(1.0, rel=0.02), name
    for kind, each in done.fits.items():
        assert np.median(abs(each.fitted.held_out)) < 2e-3, kind


def test_noise_of_a_tenth_leaves_rates_within_a_twentieth() -> None:
    done = DeviceFit(made_up(noise=0.1, seed=1), burst(NAME))
    for name in ("hbm_fraction", "gemm_fraction", "gemm_fp8_fraction", "decode_fraction"):
        assert factors(done)[name] == pytest.approx(1.0, rel=0.05), name
    assert done.fits[PRODUCT].summary()["held_out_median"] == pytest.approx(0.067, abs=0.02)


def test_times_in_another_order_cannot_be_fitted() -> None:
    rows = [
        replace(each, seconds=np.random.default_rng(3).permutation(each.seconds))
        for each in measured(NAME, PRODUCT)
    ]
    real = DeviceFit(measured(NAME, PRODUCT), burst(NAME)).fits[PRODUCT]
    mixed = DeviceFit(rows, burst(NAME)).fits[PRODUCT]
    held = [each.summary()["held_out_median"] for each in (real, mixed)]
    assert held[1] > 5 * held[0]


def test_every_source_weighs_alike_up_to_a_bound() -> None:
    def rows(source: str, count: int) -> Sample:
        one = np.ones(count)
        return Sample(kind=PRODUCT, source=source, shapes={"m": one}, seconds=one)

    alike = weights([rows("a", 30), rows("b", 10), rows("a", 10)])
    assert alike[:30].sum() + alike[40:].sum() == pytest.approx(alike[30:40].sum())
    assert weights([rows("a", 10_000), rows("b", 2)])[-1] == MOST_WEIGHT


def test_sources_of_backward_passes_that_disagree_meet_in_the_middle() -> None:
    """However few rows one has; of other kinds the longer table would win."""
    (rows,) = measured(NAME, BACKWARD)
    slower = replace(rows, source="another", seconds=1.4 * rows.seconds).only(np.array([0, 1]))
    alone, both = (
        DeviceFit(found, burst(NAME)).figures["attention_backward_ratio"].value
        for found in ([rows], [rows, slower])
    )
    assert alone / both == pytest.approx(1.4**0.5, rel=0.05)
    assert weights([rows, slower])[-1] == pytest.approx((len(rows) + 2) / 4)


def wide_heads(ratio: float, widths: tuple[float, ...]) -> list[Sample]:
    """Return forward kernels of heads of some widths, of which wide ones reach a share."""
    width = np.repeat(np.array(widths), 12)
    tokens = np.tile(2.0 ** np.arange(9, 15), 2 * len(widths))
    one = np.ones(len(width))
    shapes = {
        "b": 4.0 * one,
        "tokens": tokens,
        "heads": np.tile(np.repeat([8.0, 64.0], 6), len(widths)),
        "kv_heads": 8.0 * one,
        "width": width,
        "value_width": width,
        "causal": one,
    }
    bare = Sample(kind=FORWARD, source="made up", shapes=shapes, seconds=one)
    device = burst("a100-sxm-80gb")
    device = replace(device, profile=figures(device.profile, attention_wide_ratio=ratio))
    return [replace(bare, seconds=work.seconds(bare, device))]


def test_heads_on_both_sides_of_the_bound_tell_how_fast_wide_ones_are() -> None:
    device = burst("a100-sxm-80gb")
    found = DeviceFit(wide_heads(0.6, (64.0, 128.0, 192.0, 256.0)), device)
    assert found.figures["attention_wide_ratio"].value == pytest.approx(0.6, rel=0.02)
    for widths in ((64.0, 96.0, 128.0), (160.0, 192.0, 256.0)):
        alone = DeviceFit(wide_heads(0.6, widths), device)
        assert "attention_wide_ratio" not in alone.figures


@pytest.mark.parametrize("kind", [FORWARD, BACKWARD])
def test_wide_heads_of_ampere_are_as_slow_in_sources_that_know_nothing_of_each_other(
    kind: str,
) -> None:
    """Operators on A100 SXM (estimate-train-time) and on A100 PCIe (SimuMax)."""
    name = f"attention_{'backward_' if kind == BACKWARD else ''}wide_ratio"
    ratios = [getattr(load_profile(device), name) for device in ("a100-sxm-80gb", "a100-pcie-80gb")]
    assert all(ratio.kind is Provenance.FITTED for ratio in ratios)
    assert ratios[0].value == pytest.approx(ratios[1].value, rel=0.08)
    assert ratios[0].value < 0.95


def test_a_lone_source_is_held_out_library_by_library() -> None:
    found = DeviceFit(measured(NAME, DECODE), burst(NAME)).fits[DECODE]
    assert len(found.sources) == 2
    assert all(off is not None and len(off) == rows for rows, off in found.sources.values())


def test_a_figure_s_source_tells_rows_and_errors() -> None:
    done = DeviceFit(measured(NAME, PRODUCT), burst(NAME))
    found = done.fits[PRODUCT]
    told = done.figures["gemm_fraction"].source
    assert f"fitted to {len(found.whole):,} rows of aiconfigurator-core 0.12.0" in told
    assert f"held out {found.summary()['held_out_median']:.1%}" in told
    assert "fitted with gemm_fraction" in done.figures["gemm_half_depth"].source
