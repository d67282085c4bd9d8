"""Transformers' recurrent mixers, in torch alone: the FLOP of their products by operator.

Their torch fallbacks do the arithmetic of the papers, not that of the kernels people train with, so
what each operator counts is given apart: ``mm`` are projections, ``bmm`` are scans.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig
from transformers.models.falcon_h1.modeling_falcon_h1 import (
    FalconH1Mixer,
    compute_mup_vector,
)
from transformers.models.jamba.modeling_jamba import JambaMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

from .hf_reference import default_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MIXERS: dict[str, Callable[..., torch.nn.Module]] = {
    "falcon_h1": FalconH1Mixer,
    "jamba": JambaMambaMixer,
    "mamba": MambaMixer,
    "mamba2": Mamba2Mixer,
    "qwen3_next": Qwen3NextGatedDeltaNet,
}


def mixer_flop(config: Mapping[str, Any], tokens: int, *, backward: bool = False) -> Counter[str]:
    """Return the FLOP of a model's first recurrent mixer over one sequence, by operator.

    Parameters
    ----------
    config
        Of the model; a ``config.json``.
    tokens
        Of the sequence.
    backward
        Whether to count the backward pass.
    """
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    text = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with FakeTensorMode(), default_dtype(torch.bfloat16):
        mixer = _MIXERS[text.model_type](text, layer_idx=0)
        if text.model_type == "falcon_h1":
            mixer.mup_vector = compute_mup_vector(text)  # else its decoder layer's work
        hidden = torch.empty(1, tokens, text.hidden_size, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            output = mixer(hidden)
        if backward:
            with FlopCounterMode(display=False) as counter:
                output.backward(torch.empty_like(output))
    counted = counter.get_flop_counts()["Global"]
    return Counter(
        {str(operator).removeprefix("aten."): flop for operator, flop in counted.items()}
    )
