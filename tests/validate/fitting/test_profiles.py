"""Shipped profiles against kernels that were measured on their devices."""

from __future__ import annotations

import numpy as np
import pytest

from models.compute import Device
from models.profile import load_profile
from tests.validate.fitting.tables import burst, errors, figures, measured
from topologies.catalogue import load_accelerator
from validate.fitting import work
from validate.fitting.sample import (
    BACKWARD,
    DECODE,
    FORWARD,
    GROUPED,
    MEMORY,
    NARROW_PRODUCT,
    PRODUCT,
)

#: Of each device and kind of kernel: the median error that its profile keeps below on the sample.
BOUNDS = {
    ("h100-sxm", PRODUCT): 0.08,
    ("h100-sxm", NARROW_PRODUCT): 0.10,
    ("h100-sxm", FORWARD): 0.13,
    ("h100-sxm", BACKWARD): 0.05,
    ("h100-sxm", DECODE): 0.13,
    ("a100-sxm-80gb", PRODUCT): 0.10,
    ("a100-sxm-80gb", FORWARD): 0.13,
    ("a100-sxm-80gb", BACKWARD): 0.13,
    ("a100-sxm-80gb", MEMORY): 0.22,
    ("a100-sxm-80gb", DECODE): 0.20,
    ("a100-pcie-80gb", PRODUCT): 0.05,
    ("a100-pcie-80gb", GROUPED): 0.08,
    ("b200-sxm", PRODUCT): 0.13,
    ("b200-sxm", NARROW_PRODUCT): 0.16,
    ("b200-sxm", FORWARD): 0.15,
    ("b200-sxm", BACKWARD): 0.18,
    ("b200-sxm", DECODE): 0.12,
    ("gh200", PRODUCT): 0.05,
    ("gh200", MEMORY): 0.22,
    ("h20-sxm", NARROW_PRODUCT): 0.08,
    ("h20-sxm", DECODE): 0.20,
}


@pytest.mark.parametrize(("name", "kind"), BOUNDS, ids=lambda each: each)
def test_a_profile_tells_what_was_measured_on_its_device(name: str, kind: str) -> None:
    found = measured(name, kind)
    off = abs(errors(burst(name), found))
    assert np.median(off) < BOUNDS[name, kind]


@pytest.mark.parametrize("kind", [PRODUCT, FORWARD, DECODE])
def test_times_in_another_order_are_noticed(kind: str) -> None:
    found = measured("h100-sxm", kind)
    taken = np.concatenate([each.seconds for each in found])
    shuffled = np.random.default_rng(0).permutation(taken)
    off = abs(errors(burst("h100-sxm"), found, shuffled))
    assert np.median(off) > 5 * np.median(abs(errors(burst("h100-sxm"), found)))


@pytest.mark.parametrize(
    ("name", "other", "kind"),
    [
        ("h100-sxm", "a100-sxm-80gb", FORWARD),
        ("b200-sxm", "a100-sxm-80gb", PRODUCT),
        ("a100-sxm-80gb", "b200-sxm", DECODE),
    ],
)
def test_another_device_s_figures_do_worse(name: str, other: str, kind: str) -> None:
    found = measured(name, kind)
    borrowed = figures(load_profile(other), gemm_sustained=1.0)
    off = errors(Device(load_accelerator(name), borrowed), found)
    assert np.median(abs(off)) > 1.15 * np.median(abs(errors(burst(name), found)))


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "gh200", "h20-sxm"])
def test_no_kernel_is_faster_than_its_device(name: str) -> None:
    device = burst(name)
    accelerator = device.accelerator
    for kind in (PRODUCT, NARROW_PRODUCT, FORWARD, BACKWARD, DECODE):
        for each in measured(name, kind):
            peak = accelerator.peak_flops("fp8" if kind == NARROW_PRODUCT else "bf16")
            taken = work.seconds(each, device)
            assert (work.flop(each) <= peak * taken).all()
            if kind == DECODE:
                assert (work.moved_bytes(each) < accelerator.hbm_Bps.value * taken).all()
