"""FLOP of layers, head and whole steps, against torch's counter and published figures."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.hf_config import architecture_from_config
from models.inventory import full_attention_flop, head_work, layer_work, model_flop
from models.layout import Layout
from models.named_axes import Kernels
from models.operation import Kind
from models.workload import Workload
from tests.models.cases import FAMILIES, config, prepared, shapes, unwindowed, work_of
from tests.oracles import hf_reference as oracle
from tests.oracles import sharded_reference, tensor_parallel_reference

LENGTHS = (1024, 8192, 131072)
#: Grouped heads with and without biases and head norms, whole heads, post-norms, Conv1D.
COUNTED = (*FAMILIES, "qwen2.5-7b", "gpt2-xl")


def dense_attention_flop(name: str, seq_len: int) -> float:
    """Return two products of every query with every token, as the oracle counts them."""
    mixer = unwindowed(load_architecture(name)).mixer
    return 2 * 2 * mixer.heads * mixer.head_dim * seq_len**2


@pytest.mark.parametrize("kernels", [0, 1])
@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize("name", COUNTED)
def test_forward_flop_equal_torchs_counter(name: str, seq_len: int, kernels: int) -> None:
    """The counter takes causal attention as dense; half of it is masked."""
    masked = dense_attention_flop(name, seq_len) / 2
    measured = oracle.layer_forward_flop(config(name), seq_len, layer=_layer(name))
    assert work_of(name, seq_len, kernels=kernels).forward_flop() == measured - masked


@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize("name", COUNTED)
def test_backward_flop_equal_torchs_counter(name: str, seq_len: int) -> None:
    """Flash attention's backward pass is two and a half times its forward one."""
    masked = 2.5 * dense_attention_flop(name, seq_len) / 2
    measured = oracle.layer_backward_flop(config(name), seq_len, layer=_layer(name))
    assert work_of(name, seq_len).backward_flop() == measured - masked


@pytest.mark.parametrize("tp_sp", [False, True])
@pytest.mark.parametrize(
    ("name", "tp"), [("llama-3.1-8b", 8), ("qwen2.5-7b", 4), ("llama-2-7b", 16)]
)
def test_flop_of_a_tensor_parallel_rank_equal_torchs_counter(
    name: str, tp: int, tp_sp: bool
) -> None:
    """Of the kernels torch runs; those told to mask what lies ahead count as half."""
    work = work_of(name, 131072, tp=tp, tp_sp=tp_sp, kernels=Kernels.EAGER)
    forward, backward = tensor_parallel_reference.tp_layer_flop(config(name), tp, tp_sp, 131072)
    assert work.forward_flop() == forward
    assert work.backward_flop() == backward


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.2-1b", "qwen2.5-7b", "gpt2-xl"])
def test_flop_of_a_whole_step_equal_torchs_counter(name: str) -> None:
    """Layers, head and loss, forward and backward, of one sequence of a model of two layers.

    Some releases of transformers make rotary angles by a product: 1e-9 of the FLOP.
    """
    depth = {"n_layer" if name == "gpt2-xl" else "num_hidden_layers": 2}
    fields = {**config(name), **depth}
    architecture = architecture_from_config(fields, "shallow")
    work = prepared(architecture, Layout(kernels=Kernels.EAGER), seq_len=131072, global_batch=1)
    parts = (*(work.layers * 2), work.head)
    ours = sum(float((part.forward_flop() + part.backward_flop())[0]) for part in parts)
    measured = sharded_reference.step(fields, tokens=131072)
    assert architecture.params == measured.parameters
    assert ours == pytest.approx(measured.flop, rel=1e-8)


def _layer(name: str) -> int:
    """Return the position of a layer without a window."""
    return [layer.mixer.window for layer in load_architecture(name).layers].index(None)


@pytest.mark.parametrize("name", FAMILIES)
def test_head_flop_equal_torchs_counter(name: str) -> None:
    work = head_work(load_architecture(name), shapes(2048))
    assert work.forward_flop() == oracle.head_forward_flop(config(name), 2048)
    assert work.backward_flop() == 2 * work.forward_flop()


@pytest.mark.parametrize(
    ("name", "gflop_per_token"),
    [("llama-3.1-8b", 51.5), ("llama-3.1-70b", 449.0), ("llama-3.1-405b", 2524.0)],
)
def test_megatron_bridge_flop_per_token_at_8192(name: str, gflop_per_token: float) -> None:
    """Causal attention, head included, embedding not: Megatron-Bridge's published figures."""
    flop = model_flop(load_architecture(name), Workload(seq_len=8192, global_batch=1))
    assert flop / 8192 / 1e9 == pytest.approx(gflop_per_token, rel=0.01)


def test_model_flop_are_six_per_weight_and_token_plus_causal_attention() -> None:
    """PaLM, arXiv:2204.02311 appendix B, with half of the attention."""
    architecture = load_architecture("llama-3.1-70b")
    weights = architecture.params - architecture.embedding_params - (2 * 80 + 1) * 8192  # norms
    seq_len, batch = 32768, 3
    tokens = seq_len * batch
    attention = 12 * 80 * 8192 * seq_len * tokens  # layers, width
    workload = Workload(seq_len=seq_len, global_batch=batch)
    assert model_flop(architecture, workload) == pytest.approx(
        6 * weights * tokens + attention / 2, rel=1e-12
    )
    assert full_attention_flop(architecture, workload) == pytest.approx(
        6 * weights * tokens + attention, rel=1e-12
    )


@pytest.mark.parametrize("seq_len", [512, 1024, 32768])
def test_a_window_caps_what_each_token_sees(seq_len: int) -> None:
    """Summed token by token, each sees what lies before it in the window and half of itself."""
    gemma = load_architecture("gemma-3-27b")
    layer = next(layer for layer in gemma.kinds if layer.mixer.window)
    pairs = sum(min(i, 1024) + 0.5 for i in range(seq_len))
    work = layer_work(layer, gemma.hidden, shapes(seq_len))
    (core,) = (op for op in work.forward_compute() if op.kind is Kind.ATTENTION)
    # The window's edge is counted as half a diagonal too: half a pair per token, 0.05% here.
    assert float(core.flop[0]) == pytest.approx(4 * 32 * 128 * pairs, rel=1e-3)


@pytest.mark.parametrize("name", ["gemma-3-27b", "mistral-7b"])
def test_unmasked_flop_of_windowed_layers_count_the_window_for_every_token(name: str) -> None:
    architecture = load_architecture(name)
    workload = Workload(seq_len=32768, global_batch=1)
    extra = full_attention_flop(architecture, workload) - model_flop(architecture, workload)
    by_hand = 0.0
    for layer in architecture.layers:
        seen = layer.mixer.window or 32768
        by_hand += 3 * 4 * layer.mixer.q_width * seen * seen / 2
    assert extra == pytest.approx(by_hand, rel=1e-9)


def test_flop_grow_linearly_with_the_batch_and_quadratically_only_in_attention() -> None:
    architecture = load_architecture("llama-3.1-8b")
    one = model_flop(architecture, Workload(seq_len=65536, global_batch=1))
    assert model_flop(architecture, Workload(seq_len=65536, global_batch=7)) == pytest.approx(
        7 * one
    )
    two, four = (
        model_flop(architecture, Workload(seq_len=n, global_batch=1)) for n in (131072, 262144)
    )
    # f(n) = a n + b n^2, so f(4) - 2 f(2) = 8 b = 4 (f(2) - 2 f(1)).
    assert four - 2 * two == pytest.approx(4 * (two - 2 * one), rel=1e-9)
