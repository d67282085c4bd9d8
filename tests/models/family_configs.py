"""Small configs of every family with unusual values, drawn with a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Fields = dict[str, Any]


def draw(family: str, random: Random) -> Fields:
    """Return a config of a family that transformers accepts."""
    return {"model_type": family, **DRAWN[family](random)}


def _any(random: Random) -> bool:
    return random.random() < 0.5


def _size(random: Random, *, square: bool = False) -> Fields:
    """Return hidden size, heads and what every family with attention has."""
    kv_heads = random.choice([1, 2, 3])
    heads = kv_heads * random.choice([1, 2, 4])
    width = random.choice([8, 12, 20])
    fields = {
        "vocab_size": random.randrange(100, 300),
        "hidden_size": heads * width,
        "intermediate_size": random.randrange(30, 200),
        "num_hidden_layers": random.randrange(2, 9),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 256,
        "tie_word_embeddings": _any(random),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return fields if square or _any(random) else {**fields, "head_dim": random.choice([6, 16, 24])}


def _with(*flags: str, square: bool = False) -> Callable[[Random], Fields]:
    """Return a drawing of the common fields and of some yes-or-no fields."""

    def drawing(random: Random) -> Fields:
        asked = {flag: _any(random) for flag in flags if _any(random)}
        return {**_size(random, square=square), **asked}

    return drawing


def _all_heads(fields: Fields) -> Fields:
    """Return the fields of a family without grouped heads."""
    return {key: value for key, value in fields.items() if key != "num_key_value_heads"}


def _whole(random: Random, draws: Callable[[Random], Fields]) -> Fields:
    return {**(fields := draws(random)), "head_dim": fields.get("head_dim", 16)}


def _bloom(random: Random) -> Fields:
    size = _size(random, square=True)
    return {
        "vocab_size": size["vocab_size"],
        "n_layer": size["num_hidden_layers"],
        "n_head": size["num_attention_heads"],
        random.choice(["hidden_size", "n_embed"]): size["hidden_size"],
        "tie_word_embeddings": size["tie_word_embeddings"],
    }


def _gpt2(random: Random) -> Fields:
    size = _size(random, square=True)
    return {
        "vocab_size": size["vocab_size"],
        "n_layer": size["num_hidden_layers"],
        "n_head": size["num_attention_heads"],
        "n_embd": size["hidden_size"],
        "n_positions": 100,
        **({"n_inner": 77} if _any(random) else {}),
        "tie_word_embeddings": size["tie_word_embeddings"],
    }


def _opt(random: Random) -> Fields:
    fields = _all_heads(_with("enable_bias", square=True)(random))
    fields["ffn_dim"] = fields.pop("intermediate_size")
    return fields


def _counts(random: Random, name: str) -> Fields:
    experts = random.choice([4, 6, 8])
    return {name: experts, "num_experts_per_tok": random.randrange(1, 5)}


def _mixtral(random: Random) -> Fields:
    window = random.choice([None, 17])
    name = random.choice(["num_experts", "num_local_experts"])
    return {**_size(random), **_counts(random, name), "sliding_window": window}


def _gpt_oss(random: Random) -> Fields:
    size = _whole(random, _with("attention_bias"))
    kinds = random.choices(["full_attention", "sliding_attention"], k=size["num_hidden_layers"])
    given = {"layer_types": kinds} if _any(random) else {}
    return {**size, **_counts(random, "num_local_experts"), "sliding_window": 9, **given}


def _steps(random: Random, layers: int) -> Fields:
    only = random.sample(range(layers), random.randrange(layers))
    return {
        "decoder_sparse_step": random.choice([1, 2, 3]),
        "mlp_only_layers": random.choice([None, [], only]),
        "moe_intermediate_size": random.randrange(8, 40),
    }


def _qwen2_moe(random: Random) -> Fields:
    size = _with("qkv_bias")(random)
    shared = {"shared_expert_intermediate_size": random.randrange(8, 50)}
    windows = {"use_sliding_window": _any(random), "sliding_window": 11, "max_window_layers": 3}
    steps = _steps(random, size["num_hidden_layers"])
    return {**size, **_counts(random, "num_experts"), **steps, **shared, **windows}


def _qwen3_moe(random: Random) -> Fields:
    size = _whole(random, _with("attention_bias"))
    name = random.choice(["num_experts", "num_local_experts"])
    return {**size, **_counts(random, name), **_steps(random, size["num_hidden_layers"])}


def _qwen3_next(random: Random) -> Fields:
    size = _whole(random, _with("attention_bias"))
    layers = size["num_hidden_layers"]
    kinds = random.choices(["linear_attention", "full_attention"], k=layers)
    key_heads = random.choice([1, 2])
    return {
        **size,
        **_counts(random, "num_experts"),
        **_steps(random, layers),
        "shared_expert_intermediate_size": random.randrange(8, 50),
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": key_heads * random.choice([1, 3]),
        "linear_key_head_dim": random.choice([6, 10]),
        "linear_value_head_dim": random.choice([7, 12]),
        "linear_conv_kernel_dim": random.choice([3, 4]),
        **random.choice([{}, {"full_attention_interval": 3}, {"layer_types": kinds}]),
    }


def _deepseek(random: Random) -> Fields:
    size = _all_heads(_with("attention_bias", square=True)(random))
    return {
        **size,
        "n_routed_experts": 8,
        "num_experts_per_tok": random.choice([1, 2, 4]),
        "n_group": 4,
        "topk_group": 2,
        "n_shared_experts": random.choice([1, 2, 3]),
        "moe_intermediate_size": random.randrange(8, 40),
        "first_k_dense_replace": random.randrange(size["num_hidden_layers"] + 1),
        "q_lora_rank": random.choice([None, 14]),
        "kv_lora_rank": random.choice([10, 18]),
        "qk_nope_head_dim": random.choice([6, 12]),
        "qk_rope_head_dim": random.choice([4, 8]),
        "v_head_dim": random.choice([5, 12]),
    }


def _deepseek_v2(random: Random) -> Fields:
    return {**_deepseek(random), "mlp_bias": _any(random)}


def _deepseek_v3(random: Random) -> Fields:
    return {**_deepseek(random), "num_nextn_predict_layers": random.choice([0, 1, 2])}


def _glm4_moe(random: Random) -> Fields:
    size = _with("attention_bias", "use_qk_norm")(random)
    experts = {k: v for k, v in _deepseek(random).items() if k.startswith(("n_", "moe", "topk"))}
    first = random.randrange(size["num_hidden_layers"] + 1)
    return {**size, **experts, "num_experts_per_tok": 2, "first_k_dense_replace": first}


def _llama4(random: Random) -> Fields:
    size = _whole(random, _with("attention_bias", "use_qk_norm"))
    layers = size["num_hidden_layers"]
    sparse = random.sample(range(layers), random.randrange(layers + 1))
    return {
        **size,
        **_counts(random, "num_local_experts"),
        "intermediate_size_mlp": random.randrange(30, 90),
        **random.choice([{}, {"interleave_moe_layer_step": 2}, {"moe_layers": sparse}]),
        **random.choice([{}, {"no_rope_layers": []}, {"no_rope_layers": [0, *[1] * (layers - 1)]}]),
        "attention_chunk_size": random.choice([None, 16]),
    }


def _mamba2_size(random: Random, heads: str, head_dim: str) -> Fields:
    return {
        "hidden_size": 24,
        "num_hidden_layers": random.randrange(2, 6),
        "vocab_size": random.randrange(100, 300),
        "tie_word_embeddings": _any(random),
        "expand": 2,
        **random.choice([{heads: 6, head_dim: 8}, {heads: 12, head_dim: 4}]),
    }


def _mamba2(random: Random) -> Fields:
    flags = {flag: _any(random) for flag in ("use_bias", "use_conv_bias") if _any(random)}
    return {
        **_mamba2_size(random, "num_heads", "head_dim"),
        "state_size": random.choice([5, 16]),
        "n_groups": random.choice([1, 2, 3]),
        "conv_kernel": random.choice([3, 4]),
        **flags,
    }


def _mamba(random: Random) -> Fields:
    flags = {flag: _any(random) for flag in ("use_bias", "use_conv_bias") if _any(random)}
    return {
        "hidden_size": random.choice([24, 40]),
        "num_hidden_layers": random.randrange(2, 6),
        "vocab_size": random.randrange(100, 300),
        "tie_word_embeddings": _any(random),
        "expand": random.choice([2, 3]),
        "state_size": random.choice([5, 16]),
        "conv_kernel": random.choice([3, 4]),
        "time_step_rank": random.choice(["auto", 7]),
        **flags,
    }


def _prefixed(random: Random, hidden: int) -> Fields:
    """Return the fields of a Mamba-2 mixer beside attention."""
    heads = random.choice([2, 4])
    flags = {f: _any(random) for f in ("mamba_conv_bias", "mamba_proj_bias") if _any(random)}
    return {
        "mamba_n_heads": heads,
        "mamba_d_head": random.choice(["auto", 2 * hidden // heads]),
        "mamba_n_groups": random.choice([1, 2]),
        "mamba_d_state": random.choice([5, 16]),
        "mamba_d_conv": random.choice([3, 4]),
        "mamba_expand": 2,
        **flags,
    }


def _bamba(random: Random) -> Fields:
    size = _with("attention_bias", "mlp_bias")(random)
    attends = random.sample(range(size["num_hidden_layers"]), 2)
    indices = random.choice([None, [], attends])
    return {**size, **_prefixed(random, size["hidden_size"]), "attn_layer_indices": indices}


def _falcon_h1(random: Random) -> Fields:
    flags = ("attention_bias", "mlp_bias", "mamba_rms_norm", "projectors_bias")
    size = _with(*flags)(random)
    fields = {**size, **_prefixed(random, size["hidden_size"]), "mamba_d_ssm": None}
    if _any(random):
        fields |= {"mamba_d_ssm": 12 * fields["mamba_n_heads"], "mamba_d_head": 12}
    return fields


def _granite_hybrid(random: Random) -> Fields:
    size = _with("attention_bias", square=True)(random)
    names = random.choice([("mamba", "attention"), ("linear_attention", "full_attention")])
    kinds = random.choices(names, k=size["num_hidden_layers"])
    return {
        **size,
        **_prefixed(random, size["hidden_size"]),
        "num_local_experts": random.choice([0, 4]),
        "num_experts_per_tok": 2,
        "shared_intermediate_size": random.randrange(8, 60),
        "layer_types": random.choice([None, kinds]),
    }


def _jamba(random: Random) -> Fields:
    flags = ("mamba_conv_bias", "mamba_proj_bias")
    attends, sparse = random.randrange(1, 5), random.randrange(1, 4)
    return {
        **_with(*flags)(random),
        **_counts(random, "num_experts"),
        **random.choice([{}, {"num_experts": 1, "num_experts_per_tok": 1}]),
        "attn_layer_period": attends,
        "attn_layer_offset": random.randrange(attends),
        "expert_layer_period": sparse,
        "expert_layer_offset": random.randrange(sparse),
        "mamba_d_state": random.choice([5, 16]),
        "mamba_d_conv": random.choice([3, 4]),
        "mamba_expand": random.choice([1, 2]),
        "mamba_dt_rank": random.choice(["auto", 9]),
    }


def _nemotron_h(random: Random) -> Fields:
    size = _whole(random, _with("mlp_bias", "use_bias", "use_conv_bias"))
    del size["num_hidden_layers"], size["tie_word_embeddings"]
    pattern = "".join(random.choices("M*-E", k=random.randrange(2, 9)))
    names = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    listed = {"layers_block_type": [names[letter] for letter in pattern]}
    return {
        **size,
        **random.choice([{"hybrid_override_pattern": pattern}, listed]),
        **_counts(random, "n_routed_experts"),
        "moe_intermediate_size": random.randrange(8, 40),
        "moe_shared_expert_intermediate_size": random.randrange(8, 40),
        "moe_latent_size": random.choice([None, 10]),
        "mamba_num_heads": random.choice([4, 6]),
        "mamba_head_dim": random.choice([6, 10]),
        "n_groups": random.choice([1, 2]),
        "ssm_state_size": random.choice([5, 16]),
        random.choice(["conv_kernel", "mamba_d_conv"]): random.choice([3, 4]),
    }


def _granite_moe(random: Random) -> Fields:
    return {**_with("attention_bias")(random), **_counts(random, "num_local_experts")}


def _olmoe(random: Random) -> Fields:
    size = {**_with("attention_bias", square=True)(random), **_counts(random, "num_experts")}
    return {**size, "num_key_value_heads": size["num_attention_heads"]}


def _windowed(*flags: str, period: int, square: bool = False) -> Callable[[Random], Fields]:
    """Return a drawing with windows in layers by a period or by name."""

    def drawing(random: Random) -> Fields:
        size = _with(*flags, square=square)(random)
        layers = size["num_hidden_layers"]
        kinds = random.choices(["full_attention", "sliding_attention"], k=layers)
        by = random.choice([{}, {"sliding_window_pattern": period + 1}, {"layer_types": kinds}])
        return {**size, "sliding_window": 13, **by}

    return drawing


def _gpt_neox(random: Random) -> Fields:
    return _all_heads(_with("attention_bias", "use_parallel_residual", square=True)(random))


def _gemma(draws: Callable[[Random], Fields]) -> Callable[[Random], Fields]:
    return lambda random: _whole(random, draws)


DRAWN: dict[str, Callable[[Random], Fields]] = {
    "bamba": _bamba,
    "bloom": _bloom,
    "cohere": _with("attention_bias", "use_qk_norm"),
    "cohere2": _windowed("attention_bias", period=3, square=True),
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "falcon_h1": _falcon_h1,
    "gemma": _gemma(_with("attention_bias")),
    "gemma2": _gemma(_windowed("attention_bias", period=1)),
    "gemma3_text": _gemma(_windowed("attention_bias", period=5)),
    "glm4_moe": _glm4_moe,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "gpt_oss": _gpt_oss,
    "granite": _with("attention_bias", "mlp_bias"),
    "granitemoe": _granite_moe,
    "granitemoehybrid": _granite_hybrid,
    "jamba": _jamba,
    "llama": _with("attention_bias", "mlp_bias"),
    "llama4_text": _llama4,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "mistral": _windowed(period=1),
    "mixtral": _mixtral,
    "nemotron": _with("attention_bias", "mlp_bias"),
    "nemotron_h": _nemotron_h,
    "olmo2": _with("attention_bias"),
    "olmo3": _windowed("attention_bias", period=3),
    "olmoe": _olmoe,
    "opt": _opt,
    "phi3": _windowed(period=1, square=True),
    "qwen2": _windowed("use_sliding_window", period=1),
    "qwen2_moe": _qwen2_moe,
    "qwen3": _gemma(_windowed("attention_bias", "use_sliding_window", period=1)),
    "qwen3_moe": _qwen3_moe,
    "qwen3_next": _qwen3_next,
    "stablelm": _with("use_qkv_bias", "qk_layernorm", "use_parallel_residual", square=True),
    "starcoder2": _with("use_bias"),
}
