"""Checks beside a calibration: exact kernels, and the peak of every held-out block."""

from __future__ import annotations

import pytest
import torch

from tests.validate.calibration.jobs import TINY
from validate.calibration import checked
from validate.cases import cases
from validate.exactness import Checked

(CASE,) = (case for case in cases(4, ["bf16"]) if case.method == "ulysses" and case.causal)


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_every_attention_in_bf16_is_told_with_its_errors(monkeypatch, four_threads):
    """Computed on one core: its tensors are small."""
    asked, threads = [], []
    errors = {True: (1e-3, 2e-3, 3e-3, 4e-3), False: (1e-3, 2e-3, 3e-3, 0.5)}

    def check(wanted, device):
        asked.extend(wanted)
        threads.append(torch.get_num_threads())
        for each in errors.values():
            yield Checked(case=CASE, virtual=True, errors=each, one_device=(4e-3,) * 4)

    monkeypatch.setattr(checked, "check_virtually", check)
    good, bad = checked.exactness("cpu")
    assert asked == cases(4, ["bf16"])
    assert good == {
        "name": "ulysses causal", "ranks": "4x1", "tol": 8e-3, "ok": True,
        "rel_err": {"o": 1e-3, "dq": 2e-3, "dk": 3e-3, "dv": 4e-3},
    }  # fmt: skip
    assert bad["ok"] is False
    assert threads == [1]
    assert torch.get_num_threads() == 4


def test_the_peak_of_every_block_is_told_beside_the_inventorys():
    (found,) = checked.peaks("cpu", TINY)
    assert found["name"] == "peak of a block: hidden 32, 24 tokens"
    measured, predicted = found["backward_bytes"]
    assert found["error"] == pytest.approx(predicted / measured - 1.0)
    assert abs(found["error"]) < 0.5  # weights weigh more in a layer as small as this
    assert min(*found["forward_bytes"], *found["saved_bytes"]) > 0
