"""The peak of one layer, on the way a machine without a GPU takes, against the inventory."""

from __future__ import annotations

import pytest
import torch

from validate.calibration.peak import measured_peak, predicted_peak
from validate.llama import Size

SIZES = {
    "grouped heads": Size(hidden=4096, heads=32, kv_heads=8, mlp=14_336),
    "a head each": Size(hidden=4096, heads=32, kv_heads=32, mlp=11_008),
    "a narrow mlp": Size(hidden=4096, heads=32, kv_heads=8, mlp=1_024),
}


@pytest.mark.parametrize("tokens", [8_192, 131_072])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_a_layer_peaks_where_the_inventory_says(size: Size, tokens: int) -> None:
    """Its weights' gradients, of a few per mille, are there for a moment beside the sums."""
    measured = measured_peak(size, tokens, torch.device("cpu"), torch.bfloat16)
    predicted = predicted_peak(size, tokens)
    assert predicted.saved_bytes == pytest.approx(measured.saved_bytes, rel=1e-6)
    assert predicted.backward_bytes == pytest.approx(measured.backward_bytes, rel=0.01)
    if size.mlp > size.hidden:  # else the norm's fp32 tensors are the forward pass' peak
        assert predicted.forward_bytes == pytest.approx(measured.forward_bytes, rel=0.01)


def test_a_run_leaves_the_default_dtype_alone() -> None:
    before = torch.get_default_dtype()
    measured_peak(Size(), 64, torch.device("cpu"), torch.bfloat16)
    assert torch.get_default_dtype() is before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_allocator_agrees() -> None:
    size = SIZES["grouped heads"]
    measured = measured_peak(size, 8_192, torch.device("cuda"), torch.bfloat16)
    predicted = predicted_peak(size, 8_192)
    for line in ("forward_bytes", "backward_bytes", "saved_bytes"):
        assert getattr(predicted, line) == pytest.approx(getattr(measured, line), rel=0.1), line
