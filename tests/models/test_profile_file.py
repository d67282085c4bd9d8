"""Profiles of users: what is laid over the catalogue's, and what a broken file says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from models.calibration import CalibrationSchema
from models.profile import PROFILES, ProfileSchema, load_profile
from models.profile_file import LARGEST_CALIBRATION_BYTES, MOST_PROBLEMS, open_profile, read_profile
from tests.calibrations import calibration, figure, ratio, written
from topologies.catalogue import accelerator_names
from topologies.collective import Collective
from topologies.errors import SpecError
from topologies.figure import Provenance
from topologies.schema import checked
from topologies.yaml_file import read_yaml

H100 = "h100-sxm"


def problems(path: str | Path, accelerator: str | None = H100) -> list[str]:
    """Return the lines of the one error a profile raises."""
    with pytest.raises(SpecError) as caught:
        read_profile(path, accelerator)
    return str(caught.value).splitlines()


def problem(path: str | Path, accelerator: str | None = H100) -> str:
    (line,) = problems(path, accelerator)
    return line


# ---------------------------------------------------------------------------------- what is shipped


def test_every_accelerator_belongs_to_one_profile() -> None:
    files = [checked(ProfileSchema, read_yaml(path), path.name) for path in PROFILES.glob("*.yaml")]
    every = [name for each in files for name in each.accelerators]
    assert len(set(every)) == len(every)
    assert set(every) <= set(accelerator_names())


@pytest.mark.parametrize("name", accelerator_names())
def test_every_figure_of_every_accelerator_has_a_source(name: str) -> None:
    profile = load_profile(name)
    assert all(figure.source for _, figure in profile.figures())


def test_what_a_device_s_own_file_does_not_give_is_its_kin_s_and_assumed() -> None:
    h800, h100 = (load_profile(name) for name in ("h800-sxm", H100))
    assert h800.decode_fraction.kind is Provenance.FITTED
    assert h800.hbm_fraction.value == h100.hbm_fraction.value
    assert h800.hbm_fraction.kind is Provenance.ASSUMED
    assert h800.hbm_fraction.source == f"as h100: {h100.hbm_fraction.source}"


# ---------------------------------------------------------------------------------- what is read


def test_what_was_measured_is_laid_over_the_profile_and_the_rest_stays(tmp_path: Path) -> None:
    measured = {"kernel_us": figure(4.5), "micro_batch_ms": figure(7), "context_GiB": figure(0.75)}
    found = read_profile(written(tmp_path, parameters=measured), H100)
    base = load_profile(H100)
    assert found.kernel_s.value == pytest.approx(4.5e-6)
    assert found.micro_batch_s.value == pytest.approx(7e-3)
    assert found.context_bytes.value == 0.75 * 2**30
    assert found.micro_batch_s.kind is Provenance.MEASURED
    assert found.micro_batch_s.source == "a test"
    changed = {"kernel_s", "micro_batch_s", "context_bytes"}
    others = {name: figure for name, figure in found.figures() if name not in changed}
    assert others == {name: figure for name, figure in base.figures() if name not in changed}
    assumed, left = (
        {name for name, each in profile.figures() if each.kind is Provenance.ASSUMED}
        for profile in (base, found)
    )
    assert left == assumed - {"context_bytes"}


def test_name_and_title_say_which_file(tmp_path: Path) -> None:
    found = read_profile(written(tmp_path), H100)
    assert found.name == "h100-sxm, measured (mine.json)"
    assert found.title == "h100-sxm, measured, over h100"


def test_a_calibration_that_measured_nothing_changes_no_figure(tmp_path: Path) -> None:
    found, base = read_profile(written(tmp_path), H100), load_profile(H100)
    assert list(found.figures()) == list(base.figures())
    assert found.collectives == base.collectives == ()


def test_ratios_of_collectives_are_read(tmp_path: Path) -> None:
    rows = [ratio("all_to_all", 2, 3, 0), ratio("all_to_all", scale_out=True), ratio("shift", 0)]
    found = read_profile(written(tmp_path, collectives=rows), H100).collectives
    assert [(one.collective, one.scale_out) for one in found] == [
        (Collective.ALL_TO_ALL, False),
        (Collective.ALL_TO_ALL, True),
        (Collective.SHIFT, False),
    ]
    first = found[0]
    assert (first.start.value, first.per_byte.value, first.per_root_byte.value) == (2, 3, 0)


def test_the_schema_writes_what_it_reads(tmp_path: Path) -> None:
    content = CalibrationSchema.model_validate(
        calibration(parameters={"kernel_us": figure(4)}, collectives=[ratio("all_reduce", 1.5)])
    )
    path = tmp_path / "again.json"
    path.write_text(content.model_dump_json())
    assert open_profile(path).content == content


def test_without_an_accelerator_it_is_checked_by_itself(tmp_path: Path) -> None:
    path = written(tmp_path, parameters={"kernel_us": figure(4.5)})
    assert read_profile(path).kernel_s.value == pytest.approx(4.5e-6)
    line = problem(written(tmp_path, accelerator="h100sxm"), None)
    assert line.startswith("mine.json: accelerator = h100sxm: not in the catalogue; did you mean")


def test_a_whole_profile_is_read_from_yaml(tmp_path: Path) -> None:
    text = (PROFILES / "h100.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(r"kernel_us: {value: [\d.]+", "kernel_us: {value: 30", text))
    found = read_profile(path, H100)
    assert found.kernel_s.value == pytest.approx(30e-6)
    assert found.name == "h100 (mine.yaml)"
    assert found.gemm_fraction == load_profile(H100).gemm_fraction


def test_a_whole_profile_of_no_device_is_for_any(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((PROFILES / "assumed.yaml").read_text())
    assert read_profile(path, "tpu-v4").gemm_fraction.value > 0


# ------------------------------------------------------------------------------------ what is not


def test_a_missing_file_a_folder_and_another_kind_of_file_say_so(tmp_path: Path) -> None:
    assert "--profile" in problem(tmp_path / "none.json")
    assert "No such file" in problem(tmp_path / "none.json")
    assert "No such file" in problem(tmp_path / "none.yaml")
    (tmp_path / "folder.json").mkdir()
    assert "not a regular file" in problem(tmp_path / "folder.json")
    for path in ("", tmp_path, tmp_path / "profile.txt"):
        assert "a .json file that `meshwright calibrate` wrote" in problem(path)


@pytest.mark.parametrize("name", ["a\0b.json", "x" * 5000 + ".json"], ids=["nul", "long"])
def test_a_name_no_file_can_have_is_refused(name: str) -> None:
    assert "--profile" in problem(name)


def test_a_file_cut_short_says_so_wherever_it_was_cut(tmp_path: Path) -> None:
    path = Path(written(tmp_path, parameters={"kernel_us": figure(4.5)}))
    text = path.read_text()
    for end in range(1, len(text)):
        path.write_text(text[:end])
        line = problem(path)
        assert line.startswith(f"--profile = {path}: ")
        assert line.endswith(": cut short: run `meshwright calibrate` again"), text[:end]


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[1, 2]", "not a calibration"),
        (b"{'a': 1}", "not JSON (line 1)"),
        (b'{"a": 1}\n{"a": 2}', "not JSON (line 2)"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b'{"name": "a", "name": "b"}', "the key name is there twice"),
        (b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}", "nested deeper than 50"),
        (b"[" * 200_000, "not a calibration: nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a calibration"),
    ],
    ids=["empty", "blank", "list", "quotes", "two", "binary", "twice", "deep", "deepest", "long"],
)
def test_what_is_no_calibration_says_so(tmp_path: Path, content: bytes, mend: str) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    assert mend in problem(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    with path.open("wb") as stream:
        stream.truncate(LARGEST_CALIBRATION_BYTES + 1)
    assert f"larger than {LARGEST_CALIBRATION_BYTES} bytes" in problem(path)


def test_another_version_names_both_and_says_nothing_else(tmp_path: Path) -> None:
    line = problem(written(tmp_path, schema_version="sp-profile/2", measurements=7))
    assert "schema_version = sp-profile/2: " in line
    assert "reads sp-profile/1: run `meshwright calibrate` again" in line
    path = tmp_path / "mine.yaml"
    path.write_text((PROFILES / "h100.yaml").read_text().replace("profile/1", "profile/9"))
    assert "meshwright-profile/9: this version of Meshwright reads meshwright-profile/1" in problem(
        path
    )


def test_another_device_names_both_and_the_mend(tmp_path: Path) -> None:
    line = problem(written(tmp_path), "h200-sxm")
    assert line == (
        "--profile mine.json = h100-sxm: the cluster has h200-sxm: give a profile of that device, "
        "or leave --profile out"
    )
    path = tmp_path / "mine.yaml"
    both = (PROFILES / "h100.yaml").read_text().replace("[h100-sxm]", "[h100-sxm, h800-sxm]")
    path.write_text(both)
    assert problem(path, "h200-sxm").startswith("--profile mine.yaml = h100-sxm, h800-sxm: ")


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("gemm_fractoin", 0.5, "no such parameter; did you mean gemm_fraction"),
        ("collectives", 1, "no such parameter"),
        ("kernel_us", -1, "greater than or equal to 0"),
        ("kernel_us", math.nan, "finite"),
        ("kernel_us", math.inf, "finite"),
        ("kernel_us", "3", "number"),
        ("kernel_us", 1e12, "less than"),
        ("gemm_fraction", 0, "above 0"),
        ("memory_spread", 0, "above 0"),
        ("steal_scale_up", 1.01, "at most 1"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(
    tmp_path: Path, name: str, value: Any, mend: str
) -> None:
    line = problem(written(tmp_path, parameters={name: figure(value)}))
    assert line.startswith(f"mine.json: parameters.{name}")
    assert mend in line


def test_a_parameter_in_two_units_is_refused(tmp_path: Path) -> None:
    both = {"kernel_us": figure(3), "kernel_ms": figure(4)}
    assert "there twice, in different units" in problem(written(tmp_path, parameters=both))


@pytest.mark.parametrize("t", [0, -1e-3, math.nan, math.inf])
def test_a_measurement_takes_time(tmp_path: Path, t: float) -> None:
    (row,) = calibration()["measurements"]
    line = problem(written(tmp_path, measurements=[row | {"t": t}]))
    assert line.startswith("mine.json: measurements.0.t = ")


@pytest.mark.parametrize("key", ["provenance", "checks", "predictions"])
def test_numbers_that_nobody_foresaw_are_finite_too(tmp_path: Path, key: str) -> None:
    value: Any = {"a": [1.0, {"b": math.nan}]}
    content = value if key == "provenance" else [value]
    where = f"{key}.a.1.b" if key == "provenance" else f"{key}.0.a.1.b"
    line = problem(written(tmp_path, **{key: content}))
    assert line == f"mine.json: {where} = not finite: a finite number"


def test_a_key_that_nobody_reads_and_one_that_is_missing_are_named(tmp_path: Path) -> None:
    content = calibration(extra=1)
    del content["fits"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    found = problems(path)
    assert len(found) == 2
    assert any(line.startswith("mine.json: extra = extra: no such key") for line in found)
    assert "mine.json: fits = missing: this key is required" in found


def test_a_ratio_that_is_there_twice_or_of_nothing_is_refused(tmp_path: Path) -> None:
    twice = [ratio("shift"), ratio("shift", scale_out=True), ratio("shift", 3)]
    assert "mine.json: collectives.2 = shift: there twice" in problem(
        written(tmp_path, collectives=twice)
    )
    line = problem(written(tmp_path, collectives=[ratio("all_to_one")]))
    assert "collectives.0.collective" in line
    assert "all_to_all" in line


def test_all_problems_come_at_once_but_not_thousands(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        parameters={"gemm_fraction": figure(0), "nothing_us": figure(1)},
        collectives=[ratio("shift"), ratio("shift")],
        provenance={"c_eff": math.nan},
    )
    assert len(problems(path, "h200-sxm")) == 5
    (row,) = calibration()["measurements"]
    many = problems(written(tmp_path, measurements=[row | {"t": 0}] * 500))
    assert len(many) == MOST_PROBLEMS + 1
    assert many[-1] == "mine.json = 480 more: alike"


def test_values_too_long_to_read_are_cut(tmp_path: Path) -> None:
    lines = problems(written(tmp_path, measurements="x" * 10_000, schema_version="sp-profile/1"))
    assert all(len(line) < 300 for line in lines)
    assert len(problem(written(tmp_path, schema_version="y" * 10_000))) < 300


def test_a_whole_profile_names_what_is_missing(tmp_path: Path) -> None:
    lines = (PROFILES / "h100.yaml").read_text().splitlines(keepends=True)
    left = [line for line in lines if not line.strip().startswith(("kernel_us", "micro_batch_ms"))]
    path = tmp_path / "mine.yaml"
    path.write_text("".join(left))
    assert problems(path) == [
        "mine.yaml: parameters = kernel_s: this parameter is missing",
        "mine.yaml: parameters = micro_batch_s: this parameter is missing",
    ]
