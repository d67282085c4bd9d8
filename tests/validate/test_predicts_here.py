"""The one timed test: calibrate on this machine, then predict what no fit has seen.

Times are of cores, not of clocks on the wall. On a machine whose cores are too few or too uneven
while it measures, timings say nothing and the test is skipped; the probe is that of
:mod:`validate.calibration.probe`. Products run on vector units, which all cores have: those of
matrix units (AMX) follow the rows of an operand more than their size, by a factor of two.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from validate.calibration.asked import Asked
from validate.calibration.calibrate import calibrate

if TYPE_CHECKING:
    from pathlib import Path

#: Largest errors wanted: median and ninetieth percentile.
MEDIAN, P90 = 0.10, 0.20
#: oneDNN's name for the vector units of cores with AVX-512; on cores without, it changes nothing.
VECTOR_UNITS = "AVX512_CORE"


@pytest.mark.timed
def test_held_out_layers_and_blocks_take_what_the_inventory_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ranks are processes that start with this environment.
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", VECTOR_UNITS)
    asked = Asked.parse(
        out=str(tmp_path / "profile.json"),
        device="cpu",
        world=None,
        accelerator=None,
        cluster=None,
        rounds=4,
        budget_s=90.0,
        seed=0,
        timeout_s=120.0,
        fresh=False,
    )
    found = calibrate(asked, lambda done, total: None)
    assert found is not None
    assert found.cores is not None
    if found.cores.noisy:
        pytest.skip(f"too noisy for timings: {found.cores.to_dict()}")
    predictions = found.fitted.predictions
    off = np.abs([each.error for each in predictions])
    wall = np.abs([each.wall_error for each in predictions])
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(off)} held-out layers and blocks: seconds of cores off by "
            f"{np.median(off):.1%}, 90% within {np.percentile(off, 90):.1%}; wall with "
            f"{found.cores.median:.2f} cores by {np.median(wall):.1%}, 90% within "
            f"{np.percentile(wall, 90):.1%}\n"
        )
    kinds = {each.measurement.item.kind for each in predictions}
    assert kinds == {"layer", "block"}
    assert np.median(off) <= MEDIAN
    assert np.percentile(off, 90) <= P90
