"""The oracles themselves: gradients of the fused layer, and a few pinned measurements."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import fused_reference as fused
from . import hf_reference as eager
from . import sharded_reference as sharded
from . import tensor_parallel_reference as tensor_parallel
from .traffic import TrafficCounter, fake_group

GROUPED = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
GROUPED = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},
    "gemma3_text": {**GROUPED, "head_dim": 16, "num_key_value_heads": 1},
    "gpt2": {"n_embd": 32, "n_head": 4},
}
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "_source": "a note is not a setting",
}


def tiny(family: str) -> dict[str, Any]:
    ffn = {} if family == "gpt2" else {"intermediate_size": 48}
    return {"model_type": family, **ffn, **TINY[family]}


def plain_norm_linear(fused_op: fused.NormLinear, x: Tensor) -> Tensor:
    width = x.shape[-1:]
    if fused_op.shift is None:
        normed = functional.rms_norm(x, width, fused_op.gain, 1e-6)
    else:
        normed = functional.layer_norm(x, width, fused_op.gain, fused_op.shift, 1e-6)
    projected: Tensor = fused_op.projection(normed)
    return projected


def plain_norm(norm: fused.NormAdd | None, x: Tensor) -> Tensor:
    return x if norm is None else functional.rms_norm(x, x.shape[-1:], norm.gain, 1e-6)


def plain_rotary(x: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
    if not tables:
        return x
    cos, sin = (table[:, :, None, : x.shape[-1] // 2] for table in tables)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def plain_layer(layer: fused.FusedLayer, hidden: Tensor, *tables: Tensor) -> Tensor:
    attention, mlp, shape = layer.attention, layer.feed_forward, layer.attention.shape
    heads = plain_norm_linear(attention.qkv, hidden).unflatten(-1, (-1, shape.head_dim))
    q, k, v = heads.split((shape.heads, shape.kv_heads, shape.kv_heads), 2)
    q = plain_rotary(plain_norm(attention.q_norm, q), tables).transpose(1, 2)
    k = plain_rotary(plain_norm(attention.k_norm, k), tables).transpose(1, 2)
    core = functional.scaled_dot_product_attention(
        q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True
    )
    branch = attention.out(core.transpose(1, 2).flatten(2))
    hidden = hidden + plain_norm(layer.attention_post, branch)
    inner = plain_norm_linear(mlp.fc1, hidden)
    gate, value = inner.chunk(2, -1) if shape.gated else (inner, torch.ones(()))
    act = functional.silu(gate) if shape.silu else functional.gelu(gate, approximate="tanh")
    return hidden + plain_norm(layer.feed_forward_post, mlp.fc2(act * value))


def gradients(layer: nn.Module, output: Tensor, hidden: Tensor, weight: Tensor) -> list[Tensor]:
    inputs = [hidden, *layer.parameters()]
    return [output, *torch.autograd.grad((output * weight).sum(), inputs)]


@pytest.mark.parametrize("modules", [(), ("core_attn", "layernorm"), ("mlp",)])
@pytest.mark.parametrize("family", TINY)
def test_fused_layer_has_the_gradients_of_the_plain_composition(
    family: str, modules: tuple[str, ...]
) -> None:
    shape = fused.LayerShape.from_hf(tiny(family))
    torch.manual_seed(1)
    with eager.default_dtype(torch.float64):
        layer = fused.FusedLayer(shape, modules)
        for parameter in layer.parameters():
            nn.init.normal_(parameter, mean=0.1, std=0.5)
        hidden = torch.randn(2, 9, shape.hidden, requires_grad=True)
        angle = torch.randn(1, 9, shape.head_dim // 2).repeat(1, 1, 2)
        tables = (angle.cos(), angle.sin()) if shape.rotary else ()
        weight = torch.randn_like(hidden)
        ours = gradients(layer, layer(hidden, *tables), hidden, weight)
        plain = gradients(layer, plain_layer(layer, hidden, *tables), hidden, weight)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)


def test_fused_cross_entropy_has_the_gradient_of_the_plain_one() -> None:
    torch.manual_seed(1)
    logits = torch.randn(7, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(11, (7,))
    ours = fused.CrossEntropyOp.apply(logits, labels)
    plain = functional.cross_entropy(logits, labels)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(plain, logits)
    )


def test_parameters_of_published_models() -> None:
    assert eager.parameter_count({**LLAMA_8B, "num_hidden_layers": 32}) == 8_030_261_248
    assert eager.parameter_count({"model_type": "gpt2"}) == 124_439_808


def test_flop_are_two_per_weight_and_token_plus_dense_attention() -> None:
    hidden, kv, ffn, seq_len = 4096, 1024, 14336, 8192
    weights = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * ffn
    linear, attention = 2 * weights * seq_len, 4 * hidden * seq_len**2
    assert eager.layer_forward_flop(LLAMA_8B, seq_len) == linear + attention
    assert eager.layer_backward_flop(LLAMA_8B, seq_len) == 2 * linear + 2.5 * attention
    assert eager.head_forward_flop(LLAMA_8B, seq_len) == 2 * hidden * 128256 * seq_len


@pytest.mark.parametrize("seq_len", [512, 8192])
@pytest.mark.parametrize(
    ("recompute", "eager_bytes", "fused_bytes"),
    [("none", 200_840, 139_400), ("selective", 63_616, 139_272), ("full", 8_192, 8_192)],
)
def test_saved_bytes_per_token_of_llama_8b(
    recompute: eager.Recompute, eager_bytes: int, fused_bytes: int, seq_len: int
) -> None:
    assert eager.layer_saved_bytes(LLAMA_8B, seq_len, recompute) == eager_bytes * seq_len
    assert fused.fused_layer_saved_bytes(LLAMA_8B, seq_len, recompute) == fused_bytes * seq_len


def test_loss_peaks_per_token_and_word() -> None:
    plain = eager.loss_peak_bytes(vocab=32768, hidden=128, tokens=256)
    ours = fused.fused_loss_peak_bytes(vocab=32768, hidden=128, tokens=256)
    key = "bytes_per_token_vocab"
    assert (plain[key], plain[f"{key}_logits_dropped"]) == (14, 12)
    assert (ours[key], ours[f"{key}_logits_dropped"]) == (8, 6)


@pytest.mark.parametrize(
    ("sequence_parallel", "counts", "sent_in_hidden", "saved_bytes"),
    [
        # Each of the five column-parallel projections reduces the gradient of its own input.
        (False, {"forward_all_reduce": 2, "backward_all_reduce": 5}, 7 * 2 * 7 / 8, 82_456),
        (
            True,
            {
                "forward_all_gather": 2,
                "forward_reduce_scatter": 2,
                "backward_all_gather": 2,
                "backward_reduce_scatter": 2,
            },
            8 * 7 / 8,
            39_441,
        ),
    ],
)
def test_tensor_parallel_llama_layer(
    sequence_parallel: bool, counts: dict[str, int], sent_in_hidden: float, saved_bytes: int
) -> None:
    job = (LLAMA_8B, 8, sequence_parallel, 1024)
    measured = tensor_parallel.collective_counts(*job)
    sent = tensor_parallel.collective_sent_bytes(*job)
    assert {key: count for key, count in measured.items() if count} == counts
    assert sum(sent.values()) == sent_in_hidden * 1024 * 4096 * 2
    assert tensor_parallel.tp_layer_saved_bytes(*job) == saved_bytes * 1024


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_tensor_parallelism_of_one_rank_changes_nothing(sequence_parallel: bool) -> None:
    whole = eager.layer_saved_bytes(LLAMA_8B, 512, "none")
    assert tensor_parallel.tp_layer_saved_bytes(LLAMA_8B, 1, sequence_parallel, 512) == whole


@pytest.mark.parametrize(
    ("kept", "gathers"), [({}, 8), ({"keeps_head": True}, 7), ({"keeps_all": True}, 4)]
)
def test_fsdp_of_a_llama_of_two_layers(kept: dict[str, bool], gathers: int) -> None:
    """Embedding, two layers and head: gathered for both passes, scattered once."""
    found = sharded.step({**LLAMA_8B, "num_hidden_layers": 2}, tokens=64, shards=8, **kept)
    assert found.traffic.calls == {"all_gather": gathers, "reduce_scatter": 4}
    assert found.traffic.sent_bytes["reduce_scatter"] == found.parameters * 4 * 7 / 8


@pytest.mark.parametrize(("sizes", "sent"), [(None, 12), ([0, 4, 0, 0], 16), ([4, 0, 0, 0], 0)])
def test_an_exchange_sends_the_rows_of_others(sizes: list[int] | None, sent: int) -> None:
    given = torch.zeros(4)
    with fake_group(4), TrafficCounter() as counter:
        torch.distributed.all_to_all_single(torch.zeros(4), given, sizes, sizes)
    assert counter.traffic.total_bytes == sent


def test_collectives_that_are_not_known_are_refused() -> None:
    with (
        fake_group(4),
        TrafficCounter(),
        pytest.raises(NotImplementedError, match="c10d::broadcast_ has no entry"),
    ):
        torch.distributed.broadcast(torch.zeros(4), 0)


def test_a_kernel_that_masks_counts_as_half() -> None:
    q = torch.zeros(1, 2, 8, 4, requires_grad=True)
    counts = []
    for masked in (False, True):
        with eager.flop_counter(masked=masked) as counter:
            functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts == [3.5 * 4 * 2 * 4 * 8**2, 3.5 * 4 * 2 * 4 * 8**2 / 2]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="model_type='bert'"):
        eager.text_config({"model_type": "bert"})
    with pytest.raises(ValueError, match="tp=3 must divide"):
        tensor_parallel.collective_counts(LLAMA_8B, 3, False, 8)
    with pytest.raises(ValueError, match="recompute='some'"):
        eager.layer_saved_bytes(LLAMA_8B, 8, "some")  # type: ignore[arg-type]
