"""Catalogue files, users' own files, and what a user reads where one is broken."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import pytest

from topologies.catalogue import (
    DATA,
    accelerator_names,
    cluster_names,
    load_accelerator,
    load_cluster,
)
from topologies.errors import SpecError
from topologies.figure import Figure, Provenance
from topologies.yaml_file import LARGEST_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NODE = """\
name: mine
title: My nodes
accelerator: h100-sxm
accelerators_per_node: 8
tiers:
  - name: nvlink
    fabric: nvswitch
    spans: 8
    GBps: {value: 450, kind: spec, source: data sheet}
    usable_fraction: {value: 0.8, kind: measured, source: my sweep}
    latency_us: {value: 3.4, kind: spec, source: data sheet}
  - name: network
    fabric: nic
    spans: all
    GBps: {value: 50, kind: spec, source: data sheet}
    usable_fraction: {value: 0.9, kind: assumed, source: a guess}
    latency_us: {value: 14, kind: spec, source: data sheet}
"""


def figures(value: object) -> Iterator[Figure]:
    """Yield every figure inside a value."""
    if isinstance(value, Figure):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from figures(part)
    elif is_dataclass(value):
        for entry in fields(value):
            yield from figures(getattr(value, entry.name))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    def written(content: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return written


def problems(spec: str, **kwargs: Any) -> dict[str, str]:
    """Return field -> mend of the one error that a cluster raises."""
    with pytest.raises(SpecError) as caught:
        load_cluster(spec, **kwargs)
    return {p.field.removeprefix("mine.yaml: "): p.mend for p in caught.value.problems}


# ---------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("name", accelerator_names())
def test_every_accelerator_loads_with_sources_and_plausible_figures(name: str) -> None:
    found = load_accelerator(name)
    assert found.name == name
    every = list(figures(found))
    assert len(every) >= 4
    assert all(figure.source and figure.kind in Provenance for figure in every)
    core = found.vendor == "cpu"
    assert (1e10 if core else 1e14) < found.bf16_flops.value < (1e13 if core else 1e16)
    assert (1e9 if core else 8e9) < found.hbm_bytes.value < 1e12
    assert (1e9 if core else 5e11) < found.hbm_Bps.value < (1e12 if core else 2e13)
    # A peak that memory could feed at fewer than 10 or only beyond 2,000 FLOP a byte is a slip;
    # cores have caches instead.
    assert (2 if core else 10) < found.bf16_flops.value / found.hbm_Bps.value < 2000
    for best in (found.matmul_flops, found.fp8_flops):
        assert best is None or best.value > 0.3 * found.bf16_flops.value
    assert found.matmul_flops is None or found.matmul_flops.value < found.bf16_flops.value


@pytest.mark.parametrize("name", cluster_names())
def test_every_cluster_loads_with_sources_and_slows_down_outwards(name: str) -> None:
    found = load_cluster(f"{name}:2")
    assert found.name == name
    every = list(figures(found))
    assert every
    assert all(figure.source and figure.kind in Provenance for figure in every)
    for far in (False, True):  # a socket may be narrower than the network cards beyond it
        rates = [
            tier.Bps.value * tier.usable_fraction.value
            for tier in found.tiers
            if tier.scale_out is far
        ]
        assert rates == sorted(rates, reverse=True)
    latencies = [tier.latency_s.value for tier in found.tiers]
    assert latencies == sorted(latencies)
    assert all(1e-7 < latency < 1e-3 for latency in latencies)
    # Beyond a card, one GPU may use what its idle neighbours leave of a narrow spine.
    assert all(t.peer_Bps.value <= t.Bps.value for t in found.tiers if not t.pooled)
    assert found.tiers[-1].spans is None
    assert found.accelerators == 2 * found.accelerators_per_node


def test_the_folders_hold_what_the_names_say() -> None:
    assert len(cluster_names()) == len(list((DATA / "clusters").glob("*.yaml"))) > 20
    assert list(accelerator_names()) == sorted(accelerator_names())
    used = {load_cluster(name).accelerator.name for name in cluster_names()}
    assert used <= set(accelerator_names())


def test_h100_data_sheet_in_si_units() -> None:
    h100 = load_accelerator("h100-sxm")
    assert h100.bf16_flops.value == pytest.approx(989e12)
    assert h100.hbm_bytes.value == 80 * 2**30
    assert h100.hbm_Bps.value == pytest.approx(3.35e12)
    assert h100.compute_units.value == 132
    nvlink, network = load_cluster("h100-dgx").tiers
    assert nvlink.Bps.value == pytest.approx(450e9)
    assert network.Bps.value == pytest.approx(50e9)
    assert 1e-6 < network.latency_s.value < 1e-4
    assert (nvlink.scale_out, network.scale_out) == (False, True)


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [("h100_dgx", "h100-dgx"), ("H100-DGX", "h100-dgx"), ("gb200-nvl27:4", "gb200-nvl72")],
)
def test_an_unknown_cluster_offers_the_nearest(spec: str, nearest: str) -> None:
    (mend,) = problems(spec).values()
    assert f"did you mean {nearest}" in mend


def test_an_unknown_accelerator_of_a_file_offers_the_nearest(
    write: Callable[[str], str],
) -> None:
    found = problems(write(NODE.replace("h100-sxm", "h100sxm")))
    assert list(found) == ["accelerator"]
    assert "h100-sxm" in found["accelerator"]


@pytest.mark.parametrize(
    ("spec", "accelerators"), [("h100-dgx", 8), ("h100-dgx:1", 8), ("h100-dgx:32", 256)]
)
def test_nodes_follow_the_colon(spec: str, accelerators: int) -> None:
    assert load_cluster(spec).accelerators == accelerators


@pytest.mark.parametrize(
    "nodes", ["", "0", "-1", "1.5", "x", "1e3", " 2", "9" * 5000], ids=lambda nodes: nodes[:4]
)
def test_what_is_no_number_of_nodes_is_refused(nodes: str) -> None:
    assert "--cluster" in str(list(problems(f"h100-dgx:{nodes}")))


def test_a_catalogue_ends_somewhere() -> None:
    (mend,) = problems("h100-dgx:100000").values()
    assert "ends at 32768 accelerators" in mend


def test_a_file_says_how_many_nodes_it_has(write: Callable[[str], str]) -> None:
    path = write(f"{NODE}nodes: 4\n")
    assert load_cluster(path).accelerators == 32
    assert load_cluster(f"{path}:2").accelerators == 16
    assert load_cluster(path, gpus=16).accelerators == 16


@pytest.mark.parametrize(
    ("after", "gpus", "field", "mend"),
    [
        ("", 64, "--gpus", "mine.yaml states 4 nodes of 8: take at most 32 accelerators, or raise"),
        (":8", None, "--cluster {}:8", "take at most 32 accelerators, or raise nodes in mine.yaml"),
        (":8", 16, "--cluster {}:8", "take at most 32 accelerators, or raise nodes in mine.yaml"),
        (":2", 24, "--gpus", "states 2 nodes of 8: take at most 16 accelerators, or leave :2 out"),
        (":1", 16, "--gpus", "states 1 node of 8: take at most 8 accelerators, or leave :1 out"),
    ],
)
def test_no_more_is_taken_than_is_said_to_be_there(
    write: Callable[[str], str], after: str, gpus: int | None, field: str, mend: str
) -> None:
    path = write(f"{NODE}nodes: 4\n")
    found = problems(f"{path}{after}", gpus=gpus)
    assert list(found) == [field.format(path)]
    assert mend in found[field.format(path)]


def test_nodes_after_a_catalogue_name_bound_what_is_taken_of_them() -> None:
    assert load_cluster("h100-dgx:4", gpus=16).accelerators == 16
    assert load_cluster("h100-dgx:4", gpus=32).accelerators == 32
    assert problems("h100-dgx:4", gpus=64) == {
        "--gpus": "--cluster h100-dgx:4 states 4 nodes of 8: take at most 32 accelerators, "
        "or leave :4 out after h100-dgx"
    }
    # A sweep takes the other sizes from what it took first.
    with pytest.raises(SpecError, match="states 4 nodes"):
        load_cluster("h100-dgx:4", gpus=16).take(64)


def test_kinds_of_nodes_grow_without_bound(write: Callable[[str], str]) -> None:
    for name in ("h100-dgx", write(NODE)):
        assert load_cluster(name, gpus=64).accelerators == 64
        # What is asked when nothing fits on what a job has: would more accelerators do?
        assert load_cluster(f"{name}:4").take(64).accelerators == 64


# ------------------------------------------------------------------------------------ broken files

SLIPS: list[tuple[str, str, str, str]] = [
    ("tiers:\n", "teirs:\n", "teirs", "tiers"),  # field and mend of a misspelt key
    ("latency_us: {value: 14", "latency_ms: {value: 14", "tiers.1.latency_ms", "latency_us"),
    ("kind: measured", "kind: guessed", "tiers.0.usable_fraction.kind", "measured"),
    ("value: 450", "value: -450", "tiers.0.GBps.value", "greater than"),
    ("value: 450", "value: .inf", "tiers.0.GBps.value", "finite"),
    ("value: 450", "value: .nan", "tiers.0.GBps.value", "finite"),
    ("value: 450", "value: fast", "tiers.0.GBps.value", "number"),
    ("value: 0.9", "value: 1.5", "tiers.1.usable_fraction", "at most 1"),
    ("source: my sweep", "source: ''", "tiers.0.usable_fraction.source", "at least 1"),
    ("fabric: nic", "fabric: carrier-pigeon", "tiers.1.fabric", "nvswitch"),
    ("_node: 8", "_node: 0", "accelerators_per_node", "greater than or equal to 1"),
    ("_node: 8", "_node: 8.5", "accelerators_per_node", "integer"),
    ("spans: all", "spans: 64", "tiers.1.spans", "spans all"),
    ("spans: 8", "spans: all", "tiers.0.spans", "spans all"),
    ("spans: 8", "spans: -8", "tiers.0.spans", ""),
    ("name: mine\n", "", "name", "required"),
]


@pytest.mark.parametrize(
    ("right", "wrong", "field", "mend"), SLIPS, ids=[slip[1].strip() for slip in SLIPS]
)
def test_a_slip_in_a_file_is_named_with_its_mend(
    write: Callable[[str], str], right: str, wrong: str, field: str, mend: str
) -> None:
    assert right in NODE
    found = problems(write(NODE.replace(right, wrong, 1)))
    assert field in found
    assert mend in found[field]


def test_all_slips_of_a_file_come_at_once(write: Callable[[str], str]) -> None:
    broken = NODE
    for right, wrong, *_ in (SLIPS[1], SLIPS[2], SLIPS[3], SLIPS[9], SLIPS[10]):
        broken = broken.replace(right, wrong, 1)
    assert set(problems(write(broken))) >= {
        "accelerators_per_node",
        "tiers.0.GBps.value",
        "tiers.0.usable_fraction.kind",
        "tiers.1.fabric",
        "tiers.1.latency_ms",
        "tiers.1.latency_us",
    }


def test_tiers_must_nest(write: Callable[[str], str]) -> None:
    middle = NODE.replace(
        "  - name: network",
        "  - name: half\n    fabric: nvswitch\n    spans: 12\n"
        "    GBps: {value: 90, kind: spec, source: x}\n"
        "    usable_fraction: {value: 1, kind: spec, source: x}\n"
        "    latency_us: {value: 1, kind: spec, source: x}\n  - name: network",
    )
    assert problems(write(middle)) == {
        "tiers.1.spans": "a whole multiple of the tier inside it (8)"
    }
    assert load_cluster(write(middle.replace("spans: 12", "spans: 16"))).name == "mine"


BOMB = "a: &a [x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (BOMB, "aliases"),
        ("a: [1\nb: 2", "not YAML (line 2)"),
        ("- 1\n- 2\n", "not a mapping"),
        ("", "not a mapping"),
        ("just words", "not a mapping"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"name: a\x00b", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("# " + "x" * LARGEST_FILE_BYTES, "larger than"),
    ],
    ids=["bomb", "bracket", "list", "empty", "words", "binary", "nul", "python", "large"],
)
def test_what_is_no_description_says_so(
    write: Callable[[str | bytes], str], content: str | bytes, mend: str
) -> None:
    assert mend in problems(write(content))["file"]


def test_a_missing_file_or_a_folder_says_so(tmp_path: Path) -> None:
    assert "No such file" in problems(str(tmp_path / "none.yaml"))["file"]
    (tmp_path / "folder.yaml").mkdir()
    assert "not a regular file" in problems(str(tmp_path / "folder.yaml"))["file"]


@pytest.mark.parametrize("name", ["a\0b.yaml", "x" * 5000 + ".yaml"], ids=["nul", "long"])
def test_a_name_no_file_can_have_is_refused_like_any_other(name: str) -> None:
    assert problems(name)
