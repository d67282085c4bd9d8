"""Hugging Face transformers as the oracle of the *eager* kernel set.

Plain modules, ``attn_implementation="sdpa"``, bfloat16, dropout off: what a user gets who calls
``AutoModelForCausalLM`` and trains. A layer runs on fake tensors of device ``cpu``, where scaled
dot-product attention stays one flash operator; on device ``meta`` it would decompose into
matrix products that save the ``seq_len ** 2`` scores.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.models.cohere.modeling_cohere import CohereDecoderLayer
from transformers.models.cohere2.modeling_cohere2 import Cohere2DecoderLayer
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2DecoderLayer
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer
from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer
from transformers.models.gemma3.modeling_gemma3 import Gemma3DecoderLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer
from transformers.models.granite.modeling_granite import GraniteDecoderLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.llama4.modeling_llama4 import Llama4TextDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.nemotron.modeling_nemotron import NemotronDecoderLayer
from transformers.models.olmo2.modeling_olmo2 import Olmo2DecoderLayer
from transformers.models.olmo3.modeling_olmo3 import Olmo3DecoderLayer
from transformers.models.opt.modeling_opt import OPTDecoderLayer
from transformers.models.phi3.modeling_phi3 import Phi3DecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextDecoderLayer
from transformers.models.stablelm.modeling_stablelm import StableLmDecoderLayer
from transformers.models.starcoder2.modeling_starcoder2 import Starcoder2DecoderLayer

from . import unequal_flash
from .ledger import SavedLedger, SavedTensor, loss_peak_report, total_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Recompute = Literal["none", "full", "selective"]
"""What is recomputed in the backward pass; each kernel set gives ``selective`` its own meaning."""

RECOMPUTE: tuple[Recompute, ...] = ("none", "full", "selective")

_LAYERS: dict[str, Callable[..., nn.Module]] = {
    "cohere": CohereDecoderLayer,
    "cohere2": Cohere2DecoderLayer,
    "deepseek_v2": DeepseekV2DecoderLayer,
    "deepseek_v3": DeepseekV3DecoderLayer,
    "gemma": GemmaDecoderLayer,
    "gemma2": Gemma2DecoderLayer,
    "gemma3_text": Gemma3DecoderLayer,
    "gpt2": GPT2Block,
    "gpt_neox": GPTNeoXLayer,
    "granite": GraniteDecoderLayer,
    "llama": LlamaDecoderLayer,
    "llama4_text": Llama4TextDecoderLayer,
    "mistral": MistralDecoderLayer,
    "nemotron": NemotronDecoderLayer,
    "olmo2": Olmo2DecoderLayer,
    "olmo3": Olmo3DecoderLayer,
    "opt": OPTDecoderLayer,
    "phi3": Phi3DecoderLayer,
    "qwen2": Qwen2DecoderLayer,
    "qwen3": Qwen3DecoderLayer,
    "qwen3_next": Qwen3NextDecoderLayer,
    "stablelm": StableLmDecoderLayer,
    "starcoder2": Starcoder2DecoderLayer,
}

_aten = torch.ops.aten
_MATMULS = (_aten.mm.default, _aten.addmm.default)
_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACKWARD = _aten._scaled_dot_product_flash_attention_for_cpu_backward


# ---------------------------------------------------------------------------------- construction


def text_config(config: Mapping[str, Any], attention: str = "sdpa") -> PreTrainedConfig:
    """Read a ``config.json`` mapping, descending into the text part of a multimodal wrapper.

    Keys that begin with an underscore are notes, not settings, and are dropped. The tanh cap on
    gemma2's attention scores is dropped too: no flash kernel in torch applies it.
    """
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    family = fields.pop("model_type")
    if family == "gemma3":
        fields, family = dict(fields["text_config"]), "gemma3_text"
        fields.pop("model_type", None)
    if family not in _LAYERS:
        raise ValueError(f"model_type={family!r} is not one of {sorted(_LAYERS)}")
    if family == "gemma2":
        fields["attn_logit_softcapping"] = None
    if "v_head_dim" in fields and attention == "sdpa":
        attention = unequal_flash.UNEQUAL
    return AutoConfig.for_model(family, **fields, attn_implementation=attention)


def meta_model(config: Mapping[str, Any]) -> PreTrainedModel:
    """Build the causal language model without storage, to read shapes; it is never run."""
    text = text_config(config, attention="eager")  # the gemma2 model refuses "sdpa" when built
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(text)
    return model


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Create floating-point tensors in ``dtype``; fake modules cannot be cast afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_layer(config: PreTrainedConfig, layer: int = 0) -> nn.Module:
    """Build one decoder layer with dropout off, in the default dtype and device."""
    return _LAYERS[config.model_type](config, layer_idx=layer).eval()


def rotary_tables(config: PreTrainedConfig, seq_len: int) -> tuple[Tensor, ...]:
    """Return placeholders for the cosine and sine tables; empty for learned positions.

    Llama 4 and DeepSeek-V2 have one table of complex numbers.
    """
    if config.model_type in ("gpt2", "opt"):
        return ()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = getattr(config, "qk_rope_head_dim", width)
    width = int(width * (config.rope_parameters or {}).get("partial_rotary_factor", 1.0))
    if config.model_type in ("llama4_text", "deepseek_v2"):
        return (torch.empty(1, seq_len, width // 2, dtype=torch.complex64),)
    return torch.empty(1, seq_len, width), torch.empty(1, seq_len, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerCall:
    """One decoder layer and its input, ready to run."""

    module: nn.Module
    hidden: Tensor
    tables: tuple[Tensor, ...]

    def __call__(self, hidden: Tensor) -> Tensor:
        # Given no mask the layer asks SDPA for causal attention; only the full model builds one.
        tables = self.tables if len(self.tables) > 1 else next(iter(self.tables), None)
        arguments = {} if tables is None else {"position_embeddings": tables}
        result: Tensor | tuple[Tensor, ...] = self.module(hidden, attention_mask=None, **arguments)
        return result[0] if isinstance(result, tuple) else result


@contextmanager
def _fake_layer(
    config: Mapping[str, Any], seq_len: int, batch: int, layer: int
) -> Iterator[_LayerCall]:
    text = text_config(config)
    with FakeTensorMode(), default_dtype(torch.bfloat16):
        yield _LayerCall(
            module=build_layer(text, layer),
            hidden=torch.empty(batch, seq_len, text.hidden_size, requires_grad=True),
            tables=rotary_tables(text, seq_len),
        )


# ------------------------------------------------------------------------------- parameters, FLOP


def parameter_count(config: Mapping[str, Any]) -> int:
    """Return the number of parameters of the text model, tied weights counted once."""
    return sum(parameter.numel() for parameter in meta_model(config).parameters())


def _attention_flop(
    query: Any, key: Any, value: Any, dropout: float = 0.0, causal: bool = False, **_: object
) -> tuple[int, bool]:
    return int(sdpa_flop_count(query, key, value)), causal


def _attention_backward_flop(
    grad: Any, query: Any, key: Any, value: Any, *rest: Any, **_: object
) -> tuple[int, bool]:
    return int(sdpa_backward_flop_count(grad, query, key, value)), rest[3]


def flop_counter(*, masked: bool = False) -> FlopCounterMode:
    """Return a counter that also knows the CPU flash operator, which torch's registry lacks.

    With `masked` a kernel that is told to mask what lies ahead counts as half of a dense one.
    """

    def counted(flop: Callable[..., tuple[int, bool]]) -> Callable[..., int]:
        def count(*args: Any, **kwargs: Any) -> int:
            dense, causal = flop(*args, **kwargs)
            return dense // 2 if masked and causal else dense

        return count

    mapping = {
        _ATTENTION: counted(_attention_flop),
        _ATTENTION_BACKWARD: counted(_attention_backward_flop),
        unequal_flash.FORWARD: unequal_flash.forward_flop,
        unequal_flash.BACKWARD: unequal_flash.backward_flop,
    }
    return FlopCounterMode(display=False, custom_mapping=mapping)


def layer_forward_flop(config: Mapping[str, Any], seq_len: int, layer: int = 0) -> float:
    """Return the FLOP of one layer's forward pass over one sequence.

    Only matrix products count, and causal attention counts as if it were dense.
    """
    with _fake_layer(config, seq_len, 1, layer) as call, flop_counter() as counter:
        call(call.hidden)
    return float(counter.get_total_flops())


def layer_backward_flop(config: Mapping[str, Any], seq_len: int, layer: int = 0) -> float:
    """Return the FLOP of one layer's backward pass over one sequence, without recomputation.

    Flash attention's own recomputation of the scores is included: 2.5 times its forward pass.
    """
    with _fake_layer(config, seq_len, 1, layer) as call:
        output = call(call.hidden)
        with flop_counter() as counter:
            output.backward(torch.empty_like(output))
    return float(counter.get_total_flops())


def head_forward_flop(config: Mapping[str, Any], seq_len: int) -> float:
    """Return the FLOP of the projection onto the vocabulary, for every token of one sequence."""
    vocab, hidden = meta_model(config).get_output_embeddings().weight.shape
    with FakeTensorMode(), flop_counter() as counter:
        functional.linear(torch.empty(1, seq_len, hidden), torch.empty(vocab, hidden))
    return float(counter.get_total_flops())


# ---------------------------------------------------------------------------- saved activations


class EveryOtherMatmul:
    """The per-operator policy of torchtitan's selective activation checkpointing.

    Matrix products are counted from one across the layer: odd ones are saved, even ones are
    recomputed. Attention is saved with its log-sum-exp; all else is recomputed.
    """

    def __init__(self, save: Callable[[Tensor], Tensor]) -> None:
        self._save = save
        self._matmuls = 0

    def __call__(
        self, context: SelectiveCheckpointContext, operator: Any, *_: object, **__: object
    ) -> CheckpointPolicy:
        """Decide over one operator call, and report what is cached."""
        is_matmul = operator in _MATMULS
        self._matmuls += is_matmul
        attends = operator in (_ATTENTION.default, unequal_flash.FORWARD.default)
        if not (attends or (is_matmul and self._matmuls % 2)):
            return CheckpointPolicy.PREFER_RECOMPUTE
        outputs = context.op_output
        for tensor in outputs if isinstance(outputs, tuple) else (outputs,):
            self._save(tensor)
        return CheckpointPolicy.MUST_SAVE


def _run_layer(call: _LayerCall, recompute: Recompute, ledger: SavedLedger) -> None:
    again = partial(checkpoint, call, use_reentrant=False, preserve_rng_state=False)
    match recompute:
        case "none":
            call(call.hidden)
        case "full":
            again(call.hidden)
        case "selective":
            policy = EveryOtherMatmul(ledger.keep)
            contexts = partial(create_selective_checkpoint_contexts, policy)
            again(call.hidden, context_fn=contexts)
        case _:
            raise ValueError(f"recompute={recompute!r} is not one of {RECOMPUTE}")


def layer_saved_tensors(
    config: Mapping[str, Any], seq_len: int, recompute: Recompute, batch: int = 1, layer: int = 0
) -> list[SavedTensor]:
    """Itemise what one decoder layer keeps alive for its backward pass.

    Parameters and rotary tables are left out; the layer's input is included if it is saved.
    """
    with _fake_layer(config, seq_len, batch, layer) as call:
        ledger = SavedLedger([*call.module.parameters(), *call.tables])
        with ledger.recording():
            _run_layer(call, recompute, ledger)
    return ledger.saved


def layer_saved_bytes(
    config: Mapping[str, Any], seq_len: int, recompute: Recompute, batch: int = 1, layer: int = 0
) -> int:
    """Return the bytes that `layer_saved_tensors` itemises."""
    return total_bytes(layer_saved_tensors(config, seq_len, recompute, batch, layer))


# ------------------------------------------------------------------------------------------ loss


def loss_peak_bytes(vocab: int, hidden: int, tokens: int) -> dict[str, float]:
    """Measure the peak of the vocabulary projection and loss, forward and backward.

    bfloat16 logits, raised to float32, then cross entropy. The weight is frozen, so that neither
    it nor its gradient is counted; the hidden states that enter are not counted either.

    See `loss_peak_report` for the keys.
    """

    def run(weight: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional.linear(states, weight)
        return logits, ForCausalLMLoss(logits, labels, len(weight))

    with FakeTensorMode(), default_dtype(torch.bfloat16):
        states = torch.empty(1, tokens, hidden, requires_grad=True)
        labels = torch.empty(1, tokens, dtype=torch.int64)
        return loss_peak_report(run, vocab, hidden, tokens)
