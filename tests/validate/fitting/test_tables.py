"""Tables told by their headers, rows that rules leave out, and the command."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models.compute import Device
from models.profile import ProfileSchema, load_profile
from tests.validate.fitting.tables import FILES
from topologies.catalogue import load_accelerator
from topologies.errors import SpecError
from topologies.schema import checked
from topologies.yaml_file import read_yaml
from validate.cli.fit import fit
from validate.fitting import rules, work
from validate.fitting.formats import FORMATS, samples
from validate.fitting.labels import LABELS
from validate.fitting.sample import (
    BACKWARD,
    DECODE,
    FORWARD,
    MEMORY,
    PRODUCT,
    WITH_FORWARD,
    Sample,
)
from validate.fitting.table import Table


def of_file(name: str, device: str) -> list[Sample]:
    (path,) = (path for path in FILES if Path(path).name == name)
    return samples(Table.read(path), device)


def test_every_format_has_a_sample() -> None:
    assert {",".join(Table.read(path).header) for path in FILES} == set(FORMATS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: Path(path).stem)
def test_every_sample_speaks_of_some_device_and_of_no_other(path: str) -> None:
    table = Table.read(path)
    speaks = [device for device in LABELS if samples(table, device)]
    assert speaks
    assert len(speaks) < len(LABELS)


def test_a_product_has_the_time_its_library_took() -> None:
    (path,) = (path for path in FILES if path.endswith("gemm_bf16_h100_sxm.csv"))
    row = next(row for row in Table.read(path).rows if row["us_vllm"])
    vllm = next(each for each in of_file(Path(path).name, "h100-sxm") if each.library == "vllm")
    assert vllm.seconds[0] == pytest.approx(float(row["us_vllm"]) * 1e-6)
    assert [vllm.shapes[name][0] for name in "mnk"] == [float(row[name]) for name in "mnk"]


def test_operators_of_tensor_parallel_ranks_have_their_share_of_columns(tmp_path: Path) -> None:
    head = "source,cluster,kind,gpu,op,columns,values"
    row = "a,b,operator,NVIDIAA100-SXM4-80GB,linear3_fp16,mp|b|h|l|dim|F_dur(us)|B_dur(us)"
    path = tmp_path / "operators.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write(f"{head}\n{row},4.0|2.0|16.0|2048.0|4096.0|100.0|200.0\n")
    (sample,) = samples(Table.read(path), "a100-sxm-80gb")
    assert sample.kind == PRODUCT
    assert [float(sample.shapes[name][0]) for name in "mnk"] == [4096.0, 4096.0, 4096.0]
    assert sample.seconds[0] == pytest.approx(100e-6)


def test_attention_of_the_best_generation_alone_is_read() -> None:
    found = of_file("magiattention.csv", "h100-sxm")
    assert {each.kind for each in found} == {FORWARD, BACKWARD}
    assert max(each.seconds.max() for each in found) < 0.2
    # 701 TFLOP/s at 32k tokens without a mask: 64 heads of 128, four FLOP a pair and column.
    flop = 4.0 * 32768.0**2 * 64.0 * 128.0
    assert any(np.isclose(each.seconds, flop / 701e12).any() for each in found)


def test_forward_and_backward_together_are_a_backward_row_with_its_forward_kernel() -> None:
    (found,) = of_file("flash_attention.csv", "a100-sxm-80gb")
    assert (found.kind, len(found)) == (BACKWARD, 21)
    # 189 TFLOP/s at 16k tokens under a mask: 16 heads of 128, fourteen FLOP a pair and column.
    flop = 14.0 * 16384.0**2 / 2.0 * 16.0 * 128.0
    assert np.isclose(found.seconds, flop / 189e12).any()
    accelerator = load_accelerator("a100-sxm-80gb")
    device = Device(accelerator, load_profile(accelerator.name))
    bare = {name: values for name, values in found.shapes.items() if name != WITH_FORWARD}
    kernels = [replace(found, kind=kind, shapes=bare) for kind in (FORWARD, BACKWARD)]
    for told in (partial(work.seconds, device=device), work.flop):
        assert told(found) == pytest.approx(told(kernels[0]) + told(kernels[1]))


# ------------------------------------------------------------------------------ what is left out


def one(kind: str, seconds: list[float], **shapes: list[float]) -> Sample:
    columns = {name: np.array(values) for name, values in shapes.items()}
    return Sample(kind=kind, source="s", shapes=columns, seconds=np.array(seconds))


def left_out(sample: Sample) -> dict[str, int]:
    _, out = rules.kept([sample], load_accelerator("a100-sxm-80gb"))
    return {each.rule.name: each.rows for each in out}


def test_a_product_faster_than_the_peak_is_left_out() -> None:
    side = [4096.0] * 40
    least = 2 * 4096.0**3 / 312e12
    times = [least * 0.99] + [least * 1.5] * 39
    assert left_out(one(PRODUCT, times, m=side, n=side, k=side)) == {"faster than the device": 1}


def test_a_sample_with_many_impossible_rows_is_left_out_whole() -> None:
    many = [8.0] * 10
    keys = [65536.0] * 10
    nbytes = 4 * 8.0 * 65536 * 8 * 128
    times = [nbytes / 3.3e12] * 2 + [nbytes / 1.2e12] * 8
    sample = one(DECODE, times, b=many, keys=keys, kv_heads=many, width=[128.0] * 10)
    assert left_out(sample) == {"doubtful sample": 10}


def test_streams_that_a_cache_holds_may_be_faster_than_memory() -> None:
    assert not left_out(one(MEMORY, [1e-6], elements=[2e6], nbytes=[2.0]))
    assert left_out(one(MEMORY, [1e-6], elements=[2e8], nbytes=[2.0])) == {"doubtful sample": 1}


def test_every_rule_has_a_reason() -> None:
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    assert all(len(rule.reason) > 20 for rule in rules.RULES)


# ----------------------------------------------------------------------------------- the command


def test_the_command_writes_a_profile_that_loads(tmp_path: Path) -> None:
    out, record = tmp_path / "gh200.yaml", tmp_path / "fit.json"
    fit(FILES, "gh200", out=str(out), json_file=str(record))
    profile = checked(ProfileSchema, read_yaml(out), "gh200.yaml").build("gh200.yaml")
    told = json.loads(record.read_text())["parameters"]["gemm_fraction"]
    assert profile.gemm_fraction.value == pytest.approx(told["value"], rel=5e-3)
    assert "DebarghaG/estimate-train-time" in profile.gemm_fraction.source


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([FILES[0], "--device", "h100"], "h100"),
        ([FILES[0], "--device", "tpu-v5p"], "of this device"),
        ([FILES[0], "--device", "h100-sxm", "--kin", "h101"], "no such profile"),
        ([__file__, "--device", "h100-sxm"], "header"),
        (["nowhere.csv", "--device", "h100-sxm"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], told: str) -> None:
    from validate.fitting.fitted import Fitting

    table, _, device, *more = arguments
    kin = more[1] if more else "h100"
    with pytest.raises(SpecError, match=told):
        Fitting.run([table], device, kin=kin, seed=0)
