"""Layers of experts as transformers runs them: real tensors, as routing needs numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.oracles.hf_reference import flop_counter

if TYPE_CHECKING:
    from collections.abc import Mapping


def layer_forward_flop(config: Mapping[str, Any], seq_len: int) -> float:
    """Return the FLOP of the first layer over one sequence, causal attention as if dense.

    Every expert takes the tokens that chose it, one expert after the other.
    """
    fields = {key: value for key, value in config.items() if key != "model_type"}
    shallow = {**fields, "num_hidden_layers": 1}
    text = AutoConfig.for_model(config["model_type"], **shallow, attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_config(text).eval()
    model.set_experts_implementation("eager")
    hidden = torch.randn(1, seq_len, text.hidden_size, generator=torch.Generator().manual_seed(0))
    tables = model.model.rotary_emb(hidden, torch.arange(seq_len)[None])
    with torch.no_grad(), flop_counter() as counter:
        model.model.layers[0](hidden, position_embeddings=tables, attention_mask=None)
    return float(counter.get_total_flops())
