"""Every family that is read, against transformers, on configs no one has published."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from models.hf_config import FAMILIES, architecture_from_config
from tests.models.family_configs import DRAWN, draw
from tests.models.test_architecture import STRANGE_VALUES, crash
from tests.oracles import hf_parameters
from topologies.errors import SpecError

#: Families that transformers has no class for; counted by hand.
WITHOUT_CLASS = {"grok-1"}


def test_every_family_is_drawn() -> None:
    assert set(DRAWN) | WITHOUT_CLASS == set(FAMILIES)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", sorted(DRAWN))
def test_parameters_equal_those_of_transformers(family: str, seed: int) -> None:
    config = draw(family, Random(f"{family} {seed}"))
    assert architecture_from_config(config, family).params == hf_parameters.parameter_count(config)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", sorted(DRAWN))
def test_what_transformers_5_writes_gives_the_same_model(family: str, seed: int) -> None:
    config = draw(family, Random(f"again {family} {seed}"))
    rewritten = hf_parameters.causal_config(config).to_dict()
    ours, again = (architecture_from_config(fields, "mine") for fields in (config, rewritten))
    assert (again.layers, again.params, again.tied) == (ours.layers, ours.params, ours.tied)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "family",
    ["cohere2", "gemma2", "gemma3_text", "gpt_oss", "llama4_text", "olmo3", "qwen2", "qwen2_moe"],
)
def test_layers_see_what_transformers_lets_them_see(family: str, seed: int) -> None:
    config = draw(family, Random(f"windows {family} {seed}"))
    theirs = hf_parameters.causal_config(config)
    limits = {
        "full_attention": (None, None),
        "sliding_attention": (getattr(theirs, "sliding_window", None) or None, None),
        "chunked_attention": (None, getattr(theirs, "attention_chunk_size", None)),
    }
    ours = architecture_from_config(config, family).layers
    assert [(x.attention.window, x.attention.chunk) for x in ours] == [
        limits[kind] for kind in theirs.layer_types
    ]


# ---------------------------------------------------------------------------- fields that cannot be


def problems_of(family: str, **changed: Any) -> dict[str, str]:
    """Return field -> mend of the one error that some changed fields cause."""
    config = {**draw(family, Random(f"{family} 0")), **changed}
    with pytest.raises(SpecError) as caught:
        architecture_from_config(config, "mine")
    return {p.field.removeprefix("mine: "): p.mend for p in caught.value.problems}


@pytest.mark.parametrize(
    ("family", "changed", "fields"),
    [
        ("mixtral", {"num_experts_per_tok": 99}, {"num_experts_per_tok"}),
        ("mixtral", {"num_local_experts": 8, "num_experts": 4}, {"num_local_experts"}),
        ("mixtral", {"num_experts": -1, "num_experts_per_tok": 0}, None),
        ("deepseek_v3", {"n_group": 3}, {"n_group"}),
        ("deepseek_v3", {"topk_group": 9}, {"topk_group"}),
        ("deepseek_v3", {"first_k_dense_replace": 99}, {"first_k_dense_replace"}),
        ("deepseek_v3", {"moe_layer_freq": 2}, {"moe_layer_freq"}),
        ("qwen3_moe", {"mlp_only_layers": [99]}, {"mlp_only_layers"}),
        ("qwen3_next", {"layer_types": ["full_attention"]}, {"layer_types"}),
        ("qwen3_next", {"linear_num_key_heads": 4, "linear_num_value_heads": 6}, None),
        ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 2}, {"attn_layer_offset"}),
        ("mamba2", {"num_heads": 6, "head_dim": 9}, {"num_heads"}),
        ("mamba2", {"n_groups": 5}, {"n_groups"}),
        ("bamba", {"mamba_d_head": 7, "mamba_n_heads": 5}, None),
        ("bamba", {"attn_layer_indices": [77]}, {"attn_layer_indices"}),
        ("nemotron_h", {"num_hidden_layers": 77}, {"num_hidden_layers"}),
        ("nemotron_h", {"layers_block_type": ["mamba", "gru"]}, {"layers_block_type"}),
        ("nemotron_h", {"num_nextn_predict_layers": 1}, {"num_nextn_predict_layers"}),
        ("gpt_neox", {"head_dim": 7}, {"head_dim"}),
        ("opt", {"do_layer_norm_before": False}, {"do_layer_norm_before"}),
        ("opt", {"word_embed_proj_dim": 5}, {"word_embed_proj_dim"}),
        ("bloom", {"n_inner": 77}, {"n_inner"}),
        ("llama4_text", {"moe_layers": [99]}, {"moe_layers"}),
        ("llama4_text", {"no_rope_layers": [1]}, {"no_rope_layers"}),
        ("gpt_oss", {"layer_types": ["chunked_attention"]}, {"layer_types"}),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, {"quantization_config"}),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    family: str, changed: dict[str, Any], fields: set[str] | None
) -> None:
    mends = problems_of(family, **changed)
    assert set(mends) == (fields or set(mends))
    assert set(mends) & set(changed)


def test_every_problem_of_a_hybrid_comes_at_once() -> None:
    mends = problems_of(
        "jamba", num_experts_per_tok=99, attn_layer_offset=99, mamba_d_state=0, hidden_act="swish2"
    )
    wrong = {"num_experts_per_tok", "attn_layer_offset", "mamba_d_state", "hidden_act"}
    assert set(mends) == wrong


@pytest.mark.parametrize("family", sorted(DRAWN))
def test_one_strange_field_gives_a_model_or_one_error(family: str) -> None:
    usual = draw(family, Random(f"strange {family}"))
    usual |= {"layer_types": None, "quantization_config": None}
    broken = [{**usual, key: value} for key in usual for value in STRANGE_VALUES]
    crashed = [note for fields in broken if (note := crash(fields, usual))]
    assert not crashed, "\n".join(crashed)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", 8])
def test_weights_that_are_not_turned_back_are_refused_in_one_sentence(method: object) -> None:
    mends = problems_of("llama", quantization_config={"quant_method": method})
    assert list(mends) == ["quantization_config"]
    assert "not trained: give the config they were made from" in mends["quantization_config"]


@pytest.mark.parametrize(
    ("method", "family"),
    [("mxfp4", "gpt_oss"), ("fp8", "deepseek_v3"), ("fp8", "qwen3"), ("fbgemm_fp8", "llama")],
)
def test_weights_in_the_form_they_are_published_in_are_read(method: str, family: str) -> None:
    config = draw(family, Random("quantised"))
    quantised = {**config, "quantization_config": {"quant_method": method}}
    plain, noted = (architecture_from_config(fields, "mine") for fields in (config, quantised))
    assert (noted.layers, noted.params) == (plain.layers, plain.params)
    assert method in noted.notes[0]
    assert not plain.notes


@pytest.mark.parametrize(
    ("wrapper", "family"),
    [
        ("gemma3", "gemma3_text"),
        ("llama4", "llama4_text"),
        ("mistral3", "mistral"),
        ("qwen3_vl", "qwen3"),
        ("qwen3_vl_moe", "qwen3_moe"),
        ("qwen2_5_vl", "qwen2"),
        ("llava", "llama"),
    ],
)
def test_wrappers_give_their_text_part(wrapper: str, family: str) -> None:
    text = draw(family, Random(f"wrapped {family}"))
    inner = {key: value for key, value in text.items() if key != "model_type"}
    tied = inner.pop("tie_word_embeddings")
    wrapped = {"model_type": wrapper, "text_config": inner, "tie_word_embeddings": tied}
    plain, found = (architecture_from_config(fields, "mine") for fields in (text, wrapped))
    assert (found.layers, found.params, found.tied) == (plain.layers, plain.params, tied)
