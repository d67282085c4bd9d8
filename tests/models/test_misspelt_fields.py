"""Fields of a config that are misspelt are refused; those that nobody reads are passed over."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from models.catalogue import CONFIGS, model_names, read_json
from models.hf_config import FAMILIES, WRAPPERS, architecture_from_config
from models.hf_config.asked import Asked
from models.hf_config.wrappers import text_part
from tests.models.family_configs import DRAWN, draw
from tests.planner.test_cli import refused
from topologies.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path


def llama(**changed: Any) -> dict[str, Any]:
    """Return a usual config with some fields changed; those that are None are left out."""
    config = {**read_json(CONFIGS / "llama-3.1-8b.json"), **changed}
    return {name: value for name, value in config.items() if value is not None}


def problems(config: dict[str, Any]) -> list[str]:
    """Return in words what is wrong with a config."""
    try:
        architecture_from_config(config, "mine")
    except SpecError as error:
        return [str(each) for each in error.problems]
    return []


@pytest.mark.parametrize(
    ("meant", "slip", "value"),
    [
        ("num_key_value_heads", "num_key_value_head", 8),
        ("num_key_value_heads", "num_keyvalue_heads", 8),
        ("tie_word_embeddings", "tie_word_embedding", True),
        ("attention_bias", "atention_bias", True),
        ("max_position_embeddings", "max_positions_embeddings", 8192),
        ("hidden_size", "hiden_size", 4096),  # required: its lack is not told beside
        ("vocab_size", "Vocab_size", 128256),
    ],
)
def test_a_misspelt_field_is_refused_with_the_one_meant(
    meant: str, slip: str, value: object
) -> None:
    found = problems(llama(**{meant: None, slip: value}))
    assert found == [f"mine: {slip} = {value}: no field that is read; did you mean {meant}?"]


def test_the_command_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(llama(num_key_value_heads=None, num_key_value_head=8))
    )
    (line,) = refused("models", "show", str(tmp_path))
    assert line.endswith("did you mean num_key_value_heads?")


@pytest.mark.parametrize(
    "more",
    [
        {"num_key_value_head": 8},  # beside the right one, which is there
        {"n_layers": 32, "n_heads": 32},  # other names of fields that are there
        {"_sliding_windows": 8, "_attention_bias": True},  # software's own
        {"rope_theta": 5e5, "attention_dropout": 0.0, "pretraining_tp": 1},
    ],
)
def test_fields_that_mean_nothing_here_are_passed_over(more: dict[str, Any]) -> None:
    assert problems(llama(**more)) == []


def test_a_misspelling_in_the_text_part_of_a_wrapper_is_found() -> None:
    inner = llama(num_key_value_heads=None, num_key_value_head=8)
    (line,) = problems({"model_type": "llava", "text_config": inner})
    assert "did you mean num_key_value_heads?" in line


@pytest.mark.parametrize("family", sorted(DRAWN))
def test_no_field_of_a_family_is_taken_for_another(family: str) -> None:
    """Layers of some kinds are not in every config, and then nobody asks for their fields."""
    for seed in range(30):
        assert problems(draw(family, Random(f"{family} {seed}"))) == []


@pytest.mark.parametrize("kind", sorted({*FAMILIES, *WRAPPERS} - {"grok-1"}))
def test_no_field_that_transformers_writes_is_taken_for_another(kind: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind).to_dict()
    assert not [line for line in problems(config) if "did you mean" in line]


@pytest.mark.parametrize("name", model_names())
def test_every_published_config_has_no_slip(name: str) -> None:
    assert problems(read_json(CONFIGS / f"{name}.json")) == []


def test_a_config_is_read_as_the_mapping_that_it_is() -> None:
    config = text_part(llama(), "mine")
    assert dict(Asked(config)) == config
    assert len(Asked(config)) == len(config)
    assert "hidden_size" in Asked(config)
    assert "depth" not in Asked(config)
