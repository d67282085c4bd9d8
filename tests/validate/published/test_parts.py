"""Rows by what they are, which count, and which are left out."""

from __future__ import annotations

import pytest

from tests.validate.published.made_up import guess, row
from validate.published.parts import parts
from validate.published.row import Row
from validate.published.standing import left_out_because


def _named(**cells: object) -> dict[str, list[str]]:
    found = parts([guess(row(**cells), 1.0, 1.0)])
    return {question: list(answers) for question, answers in found.items()}


def test_a_row_is_found_under_what_it_is() -> None:
    found = _named(
        experts=8,
        seq_len=32768,
        gpus=8,
        gpus_per_node=8,
        framework="MaxText (JAX)",
        precision_class="FP8",
        accelerator="H100",
    )
    assert found == {
        "standing": ["counted"],
        "kind": ["training_run"],
        "model": ["experts"],
        "length": ["32k and longer"],
        "scale": ["8 devices or fewer", "one node"],
        "framework": ["MaxText"],
        "precision": ["FP8"],
        "accelerator": ["H100"],
        "source": ["a"],
    }


@pytest.mark.parametrize(
    ("gpus", "node", "scale"),
    [
        (8, 4, ["8 devices or fewer", "many nodes"]),
        (16, 8, ["many nodes"]),
        (72, 72, ["one node"]),
        (16, "", ["nodes not stated"]),
    ],
)
def test_scale_is_of_devices_and_of_nodes(gpus: int, node: object, scale: list[str]) -> None:
    assert _named(gpus=gpus, gpus_per_node=node)["scale"] == scale


def test_other_hardware_is_told_apart_and_keeps_its_source() -> None:
    found = _named(split="other-hardware", accelerator="TPU", model="m")
    assert found["standing"] == ["other hardware"]
    assert (found["source"], found["accelerator"]) == (["a"], ["TPU"])
    assert not any(found[part] for part in ("model", "length", "scale", "framework", "precision"))


def test_adapters_are_in_no_part_but_their_own() -> None:
    found = _named(task="sft LoRA", split="other-hardware")
    assert {part for part, answers in found.items() if answers} == {"standing"}
    assert found["standing"] == ["LoRA"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"grade": "A", "step_s": "1"}, ""),
        ({"grade": "C", "step_s": "1"}, "grade C"),
        ({"step_s": "1"}, "grade not stated"),
        ({"grade": "B", "step_s": "1", "suspect": "slow"}, "marked as suspect"),
        ({"grade": "A"}, "nothing measured that can be predicted"),
    ],
)
def test_rows_are_left_out_for_a_reason(cells: dict[str, str], reason: str) -> None:
    assert left_out_because(Row(cells, 1.0), "AB") == reason
