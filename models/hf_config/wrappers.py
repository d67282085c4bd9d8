"""Multimodal configs, whose language model stands in ``text_config``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Wrappers, and what their ``text_config`` is where it does not say; empty where it must.
WRAPPERS = {
    "gemma3": "gemma3_text",
    "internvl": "",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "llava_onevision": "qwen2",
    "mistral3": "mistral",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
#: Text parts that are another family's model.
SAME_AS = {
    "qwen2_5_vl_text": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}
#: Fields that hold for the text part where only the wrapper has them.
_INHERITED = ("tie_word_embeddings", "quantization_config")


def text_part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the language model's config out of a multimodal wrapper.

    Raises
    ------
    SpecError
        If a wrapper has no mapping there.
    """
    kind, inner = config.get("model_type"), config.get("text_config")
    if not isinstance(kind, str) or kind not in WRAPPERS:
        return config
    if not isinstance(inner, dict):
        mend = f"{kind} describes its language model here: a mapping"
        raise SpecError([Problem(f"{name}: text_config", inner, mend)])
    outer = {field: config[field] for field in _INHERITED if field in config}
    return {"model_type": WRAPPERS[kind], **outer, **inner}
