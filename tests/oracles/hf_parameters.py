"""Parameters of whole models as transformers builds them on the meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Multimodal wrappers, and what builds their language model.
TEXT_PARTS = {"gemma3": "gemma3_text", "llama4": "llama4_text", "mistral3": "mistral"}


def causal_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    """Read a config as transformers does, its language model's out of a wrapper.

    Keys that begin with an underscore, but those transformers knows, are notes.
    """
    fields = {key: value for key, value in config.items() if key != "_source"}
    family = fields.pop("model_type")
    if family in TEXT_PARTS:
        fields, family = dict(fields["text_config"]), TEXT_PARTS[family]
        fields.pop("model_type", None)
    fields.pop("quantization_config", None)
    return AutoConfig.for_model(family, **fields, attn_implementation="eager")


def parameter_count(config: Mapping[str, Any]) -> int:
    """Return the parameters of the language model, tied weights counted once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(causal_config(config))
    return sum(parameter.numel() for parameter in model.parameters())
