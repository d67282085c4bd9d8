"""Every family that is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.hf_config import channel, latent, nemotron_h, recurrent, softmax
from models.hf_config.channel import sparse_layers
from models.hf_config.family import Family

if TYPE_CHECKING:
    from models.architecture import Moe
    from models.hf_config.reader import ConfigReader

_ATTENTION_BIAS: dict[str, Any] = {
    "qkv_bias": ("attention_bias", False),
    "out_bias": ("attention_bias", False),
}
_GEMMA: dict[str, Any] = {
    **_ATTENTION_BIAS,
    "norm": "rms_offset",
    "norms": 4,
    "tied": True,
    "head_dim": 256,
    "activation": "gelu_pytorch_tanh",
}
_BIASED: dict[str, Any] = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
_SPARSE: dict[str, Any] = {"mlps": sparse_layers}


def _granite_moe(reader: ConfigReader, family: Family, hidden: int) -> Moe:
    """Return Granite 4's experts with the MLP that every token visits beside them."""
    routed = channel.plain_moe("intermediate_size", "softmax_of_chosen")(reader, family, hidden)
    shared = channel.dense(reader, family, hidden, "shared_intermediate_size")
    return replace(routed, shared=shared)


_DENSE: dict[str, Family] = {
    "bloom": Family(
        **_BIASED,
        joint_attention=True,
        positions="alibi",
        square=True,
        gated=False,
        activation="gelu_pytorch_tanh",
        four_times=True,
        norm="layer",
        tied=True,
        embedding_norm=True,
        fixed={"apply_residual_connection_post_layernorm": False},
        times_hidden={"n_inner": 4, "intermediate_size": 4},
    ),
    "cohere": Family(
        **_ATTENTION_BIAS,
        qk_norm=("use_qk_norm", False),
        qk_weights="each",
        norm="layer_no_bias",
        parallel=True,
        parallel_norms=1,
        tied=True,
    ),
    "cohere2": Family(
        **_ATTENTION_BIAS,
        windows=softmax.by_pattern(4),
        square=True,
        norm="layer_no_bias",
        parallel=True,
        parallel_norms=1,
        tied=True,
    ),
    "gemma": Family(**{**_GEMMA, "norms": 2}),
    "gemma2": Family(**_GEMMA, windows=softmax.by_pattern(2)),
    "gemma3_text": Family(**_GEMMA, qk_norm=True, windows=softmax.by_pattern(6)),
    "gpt2": Family(
        **_BIASED,
        joint_attention=True,
        positions="learned",
        square=True,
        gated=False,
        activation="gelu_new",
        four_times=True,
        norm="layer",
        tied=True,
    ),
    "gpt_neox": Family(
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        mlp_bias=True,
        joint_attention=True,
        square=True,
        gated=False,
        activation="gelu",
        norm="layer",
        parallel=("use_parallel_residual", True),
        rotary_share=0.25,
    ),
    "granite": Family(**_ATTENTION_BIAS, mlp_bias=("mlp_bias", False)),
    "llama": Family(**_ATTENTION_BIAS, mlp_bias=("mlp_bias", False)),
    "mistral": Family(windows=softmax.every_layer),
    "nemotron": Family(
        **_ATTENTION_BIAS,
        mlp_bias=("mlp_bias", False),
        gated=False,
        activation="relu2",
        norm="layer_offset",
        rotary_share=0.5,
    ),
    "olmo2": Family(
        **_ATTENTION_BIAS, qk_norm=True, qk_weights="each", norm="rms_wide", norms_after=True
    ),
    "olmo3": Family(
        **_ATTENTION_BIAS,
        qk_norm=True,
        qk_weights="each",
        norm="rms_wide",
        norms_after=True,
        windows=softmax.by_pattern(4),
    ),
    "opt": Family(
        qkv_bias=("enable_bias", True),
        out_bias=("enable_bias", True),
        mlp_bias=("enable_bias", True),
        positions="learned",
        spare_positions=2,
        square=True,
        gated=False,
        activation="relu",
        norm="layer",
        tied=True,
        fixed={
            "do_layer_norm_before": True,
            "layer_norm_elementwise_affine": True,
            "_remove_final_layer_norm": False,
        },
        times_hidden={"word_embed_proj_dim": 1},
    ),
    "phi3": Family(windows=softmax.every_layer, joint_attention=True, joint=True, rotary_share=1.0),
    "qwen2": Family(qkv_bias=True, windows=softmax.late_when_asked),
    "qwen3": Family(**_ATTENTION_BIAS, qk_norm=True, head_dim=128, windows=softmax.late_when_asked),
    "stablelm": Family(
        qkv_bias=("use_qkv_bias", False),
        qk_norm=("qk_layernorm", False),
        qk_weights="each",
        square=True,
        norm="layer",
        parallel=("use_parallel_residual", False),
        parallel_norms=1,
        rotary_share=0.25,
    ),
    "starcoder2": Family(
        qkv_bias=("use_bias", True),
        out_bias=("use_bias", True),
        mlp_bias=("use_bias", True),
        windows=softmax.every_layer,
        gated=False,
        activation="gelu_pytorch_tanh",
        norm="layer",
        tied=True,
    ),
}
_EXPERTS: dict[str, Family] = {
    "deepseek_v2": Family(
        **_SPARSE,
        mixers=latent.latent_everywhere,
        sparse=channel.after_first,
        moe=channel.deepseek_moe("softmax"),
        mlp_bias=("mlp_bias", False),
        fixed={"moe_layer_freq": 1},
    ),
    "deepseek_v3": Family(
        **_SPARSE,
        mixers=latent.latent_everywhere,
        sparse=channel.after_first,
        moe=channel.deepseek_moe("sigmoid"),
        predict=latent.predicting_layers,
        fixed={"moe_layer_freq": 1},
    ),
    "glm4_moe": Family(
        **_SPARSE,
        sparse=channel.after_first,
        moe=channel.deepseek_moe("sigmoid"),
        predict=latent.predicting_layers,
        qkv_bias=("attention_bias", False),
        qk_norm=("use_qk_norm", False),
        rotary_share=0.5,
    ),
    "gpt_oss": Family(
        **_SPARSE,
        moe=channel.biased_moe,
        windows=softmax.by_pattern(2, default_window=None),
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        sinks=True,
        norm="rms_wide",
        head_dim=64,
    ),
    "granitemoe": Family(
        **_SPARSE,
        **_ATTENTION_BIAS,
        moe=channel.plain_moe("intermediate_size", "softmax_of_chosen"),
    ),
    "grok-1": Family(
        **_SPARSE,
        moe=channel.plain_moe("intermediate_size"),
        norms=4,
        activation="gelu",
        tied=True,
    ),
    "llama4_text": Family(
        **_ATTENTION_BIAS,
        mixers=softmax.chunked_or_unrotated,
        mlps=channel.llama4_layers,
        qk_norm=("use_qk_norm", True),
        qk_weights="none",
        head_dim=128,
    ),
    "mixtral": Family(
        **_SPARSE, moe=channel.plain_moe("intermediate_size"), windows=softmax.every_layer
    ),
    "olmoe": Family(
        **_SPARSE,
        **_ATTENTION_BIAS,
        moe=channel.plain_moe("intermediate_size"),
        qk_norm=True,
        qk_weights="each",
    ),
    "qwen2_moe": Family(
        **_SPARSE,
        sparse=channel.by_step,
        moe=channel.moe_with_gated_shared,
        qkv_bias=("qkv_bias", True),
        windows=softmax.early_when_asked,
    ),
    "qwen3_moe": Family(
        **_SPARSE,
        **_ATTENTION_BIAS,
        sparse=channel.by_step,
        moe=channel.plain_moe("moe_intermediate_size"),
        qk_norm=True,
        windows=softmax.every_layer_when_asked,
    ),
}
_RECURRENT: dict[str, Family] = {
    "bamba": Family(
        **_ATTENTION_BIAS,
        mixers=recurrent.bamba_mixers,
        mlp_bias=("mlp_bias", False),
        rotary_share=0.5,
    ),
    "falcon_h1": Family(
        **_ATTENTION_BIAS, mixers=recurrent.falcon_mixers, mlp_bias=("mlp_bias", False)
    ),
    "granitemoehybrid": Family(
        **_ATTENTION_BIAS,
        mixers=recurrent.granite_mixers,
        mlps=recurrent.granite_mlps,
        moe=_granite_moe,
        positions="none",
    ),
    "jamba": Family(
        **_SPARSE,
        mixers=recurrent.jamba_mixers,
        sparse=recurrent.jamba_sparse,
        moe=channel.plain_moe("intermediate_size"),
        positions="none",
    ),
    "mamba": Family(
        mixers=recurrent.mamba_everywhere,
        mlps=recurrent.no_mlp,
        positions="none",
        tied=True,
    ),
    "mamba2": Family(mixers=recurrent.mamba2_everywhere, mlps=recurrent.no_mlp, positions="none"),
    "nemotron_h": Family(
        mixers=nemotron_h.mixers,
        mlps=nemotron_h.mlps,
        layers=nemotron_h.layer_count,
        mlp_bias=("mlp_bias", False),
        positions="none",
        head_dim=128,
        gated=False,
        activation="relu2",
        # transformers builds neither layers that predict further ahead nor a tied head
        fixed={"num_nextn_predict_layers": 0, "tie_word_embeddings": False},
    ),
    "qwen3_next": Family(
        **_SPARSE,
        **_ATTENTION_BIAS,
        mixers=recurrent.qwen_mixers,
        sparse=channel.by_step,
        moe=channel.moe_with_gated_shared,
        gated_attention=True,
        qk_norm=True,
        head_dim=256,
        norm="rms_offset",
        rotary_share=0.25,
    ),
}
FAMILIES: dict[str, Family] = {**_DENSE, **_EXPERTS, **_RECURRENT}
