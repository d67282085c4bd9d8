"""Latent attention of a config, and DeepSeek's layers of multi-token prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture.latent_attention import LatentAttention
from models.hf_config.reader import LARGEST_LAYERS

if TYPE_CHECKING:
    from models.architecture import Layer, Mixer
    from models.hf_config.family import Family, Size
    from models.hf_config.reader import ConfigReader


def latent_everywhere(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Return latent attention for every layer."""
    mixer = LatentAttention(
        heads=reader.whole("num_attention_heads"),
        q_rank=reader.optional("q_lora_rank"),
        kv_rank=reader.whole("kv_lora_rank"),
        nope_dim=reader.whole("qk_nope_head_dim"),
        rope_dim=reader.whole("qk_rope_head_dim"),
        value_dim=reader.whole("v_head_dim"),
        bias=reader.flag("attention_bias", default=False),
    )
    return [mixer] * size.layers


def predicting_layers(reader: ConfigReader, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return layers of multi-token prediction: each as the model's last (DeepSeek-V3)."""
    names = "num_nextn_predict_layers", "num_mtp_layers"
    return layers[-1:] * reader.whole(*names, default=0, least=0, most=LARGEST_LAYERS)
