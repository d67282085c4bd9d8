"""Small configs of families whose layers differ from a Llama's: attention, norms, MLP, shape."""

from __future__ import annotations

from typing import Any

from tests.models.cases import TOY

_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LATENT = {
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "first_k_dense_replace": 8,
    "num_key_value_heads": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_num_value_heads": 2,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "layer_types": ["full_attention"] * 8,
    "mlp_only_layers": list(range(8)),
}
_ALL_HEADS = {"num_key_value_heads": 8}

#: Name -> the family and what is changed; the first layer is compared.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("cohere", {"use_qk_norm": True}),
    "cohere without head norms": ("cohere", {}),
    "cohere2": ("cohere2", {}),
    "deepseek_v2": ("deepseek_v2", _LATENT),
    "deepseek_v3": ("deepseek_v3", _LATENT),
    "deepseek_v3 without query latents": ("deepseek_v3", {**_LATENT, "q_lora_rank": None}),
    "gemma": ("gemma", {"head_dim": 32}),
    "gpt_neox": ("gpt_neox", _ALL_HEADS),
    "gpt_neox one after the other": ("gpt_neox", {**_ALL_HEADS, "use_parallel_residual": False}),
    "granite": ("granite", {}),
    "llama4_text": ("llama4_text", {"head_dim": 32, "interleave_moe_layer_step": 9}),
    "nemotron": ("nemotron", {}),
    "olmo2": ("olmo2", {"attention_bias": True}),
    "olmo3": ("olmo3", {}),
    "opt": ("opt", {**_ALL_HEADS, "ffn_dim": 1024, "word_embed_proj_dim": 256}),
    "phi3": ("phi3", {}),
    "phi3 partly rotated": ("phi3", {"partial_rotary_factor": 0.5}),
    "qwen3_next": ("qwen3_next", {"head_dim": 32, **_LINEAR}),
    "stablelm": ("stablelm", {"qk_layernorm": True, "use_qkv_bias": True}),
    "stablelm in parallel": ("stablelm", {"use_parallel_residual": True}),
    "starcoder2": ("starcoder2", {}),
}


def variant(name: str) -> dict[str, Any]:
    """Return the config of a variant."""
    family, changed = VARIANTS[name]
    fields = {**TOY, **_TOKENS, "model_type": family, "intermediate_size": 1024}
    if family == "llama4_text":
        fields["intermediate_size_mlp"] = 1024
    return {**fields, **changed}
