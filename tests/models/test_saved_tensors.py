"""What autograd keeps, against torch's own saved tensors.

The closed forms are meant to be exact, so these comparisons are: where an oracle keeps something
that belongs to the machine it runs on, the difference is named and added to the byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.architecture import Attention, Mlp
from models.catalogue import load_architecture, model_names
from models.hf_config import architecture_from_config
from models.inventory import head_work, layer_work
from models.named_axes import Kernels, Recompute
from models.operation import repeated_share
from models.recompute_modules import USUAL_MODULES, RecomputeModules
from tests.models.cases import FAMILIES, config, shapes, toy, work_of
from tests.models.variants import VARIANTS, variant
from tests.oracles import fused_reference, hf_reference, tensor_parallel_reference
from tests.strategies import DENSE_SETS

if TYPE_CHECKING:
    from models.architecture import Architecture

ALL_FAMILIES = (*FAMILIES, "gemma-2-27b", "mistral-7b", "qwen2.5-7b", "gpt2-xl")
MODES = [mode.label for mode in Recompute]


def kept_bytes(
    name: str,
    seq_len: int,
    recompute: str,
    modules: RecomputeModules = USUAL_MODULES,
    **axes: object,
) -> float:
    architecture = load_architecture(name)
    layer = next(
        (kind for kind in architecture.kinds if kind.mixer.window is None), architecture.kinds[0]
    )
    work = layer_work(layer, architecture.hidden, shapes(seq_len, **axes))
    kept = {
        "none": work.saved_bytes(),
        "selective": work.selective_bytes(modules),
        "full": work.input_bytes,
    }
    return float(kept[recompute][0])


def eager_oracle_bytes(name: str, seq_len: int, recompute: str) -> float:
    """Return the oracle's bytes as they would be on a GPU, per-layer constants left out."""
    measured = hf_reference.layer_saved_bytes(config(name), seq_len, recompute)
    layer = load_architecture(name).layers[0]
    if recompute != "none":
        return measured
    if layer.norm == "layer":
        # On CPU LayerNorm keeps mean and deviation in bf16, on a GPU in fp32: 4 bytes a norm.
        return measured + 2 * 4 * seq_len
    if layer.norm == "rms_offset":
        # One plus the weight in fp32, once per norm however many tokens there are.
        widths = 4 * load_architecture(name).hidden + 2 * layer.mixer.head_dim * layer.mixer.qk_norm
        return measured - 4 * widths
    return measured


@pytest.mark.parametrize("seq_len", [512, 4096])
@pytest.mark.parametrize("recompute", MODES)
@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_eager_layers_keep_what_torch_keeps(name: str, recompute: str, seq_len: int) -> None:
    ours = kept_bytes(name, seq_len, recompute, kernels=Kernels.EAGER)
    assert ours == eager_oracle_bytes(name, seq_len, recompute)


@pytest.mark.parametrize("recompute", MODES)
@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_fused_layers_keep_what_fused_operators_keep(name: str, recompute: str) -> None:
    ours = kept_bytes(name, 1024, recompute, kernels=Kernels.FUSED)
    assert ours == fused_reference.fused_layer_saved_bytes(config(name), 1024, recompute)


@pytest.mark.parametrize("modules", DENSE_SETS, ids=lambda modules: modules.label)
@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_fused_layers_keep_what_checkpoints_of_modules_keep(
    name: str, modules: RecomputeModules
) -> None:
    ours = kept_bytes(name, 1024, "selective", modules)
    job = (config(name), 1024, "selective")
    names = modules.label.split("+")
    assert ours == fused_reference.fused_layer_saved_bytes(*job, modules=names)


@pytest.mark.parametrize("modules", ["core_attn", "layernorm", "mlp", "core_attn+layernorm+mlp"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_runs_again_is_what_checkpoints_of_modules_run_again(name: str, modules: str) -> None:
    work, fused = work_of(name, 1024), np.ones(1, dtype=np.bool_)
    chosen = RecomputeModules.from_label(modules)
    again = sum(op.flop * repeated_share(op, chosen, fused) for op in work.forward_compute())
    with_them, without = (
        fused_reference.fused_layer_flop(config(name), 1024, names)
        for names in (modules.split("+"), ())
    )
    assert float(again[0]) == with_them - without


def test_modules_of_eager_kernels_change_nothing() -> None:
    work = work_of("llama-3.1-8b", 1024, kernels=Kernels.EAGER)
    for modules in DENSE_SETS:
        assert work.selective_bytes(modules) == work.selective_bytes()


@pytest.mark.parametrize("kernels", list(Kernels))
def test_kept_bytes_grow_with_the_micro_batch(kernels: Kernels) -> None:
    reference = (
        fused_reference.fused_layer_saved_bytes
        if kernels is Kernels.FUSED
        else hf_reference.layer_saved_bytes
    )
    ours = kept_bytes("llama-3.1-8b", 512, "none", kernels=kernels, micro_batch=3)
    assert ours == reference(config("llama-3.1-8b"), 512, "none", batch=3)


@pytest.mark.parametrize("tp_sp", [False, True])
@pytest.mark.parametrize(
    ("name", "tp"),
    [
        *(("llama-3.1-8b", tp) for tp in (2, 4, 8)),
        *(("qwen2.5-7b", tp) for tp in (2, 4)),  # torch's plan does not replicate its 4 kv heads
        *(("llama-2-7b", tp) for tp in (8, 16)),
    ],
)
def test_tensor_parallel_ranks_keep_what_torchs_plan_keeps(name: str, tp: int, tp_sp: bool) -> None:
    ours = kept_bytes(name, 1024, "none", kernels=Kernels.EAGER, tp=tp, tp_sp=tp_sp)
    assert ours == tensor_parallel_reference.tp_layer_saved_bytes(config(name), tp, tp_sp, 1024)


@pytest.mark.parametrize("tp", [1, 8])
def test_korthikanti_table_2_without_dropout_and_scores(tp: int) -> None:
    """arXiv:2205.05198: 34 sbh, less 2 sbh of dropout masks (flash keeps no scores), over t.

    With tensor parallelism alone 10 sbh stay whole, less the same masks; with sequence
    parallelism nothing does. Statistics (fp32 log-sum-exp, means, deviations) come on top.
    """
    seq_len, hidden, heads = 2048, 6144, 64
    lse, statistics = 4 * heads * seq_len, 2 * 8 * seq_len
    whole = kept_bytes("megatron-22b", seq_len, "none", tp=tp)
    assert whole - lse / tp - statistics == seq_len * hidden * (8 + 24 / tp)
    if tp > 1:
        sharded = kept_bytes("megatron-22b", seq_len, "none", tp=tp, tp_sp=True)
        assert sharded - (lse + statistics) / tp == seq_len * hidden * 32 / tp


@pytest.mark.parametrize(
    "axes",
    [
        {"ulysses": 4},
        {"ring": 4},
        {"ulysses": 2, "ring": 2},
        {"ring": 4, "cp_method": 1},
    ],
)
@pytest.mark.parametrize("kernels", list(Kernels))
def test_context_parallel_ranks_keep_their_share_of_the_tokens(
    kernels: Kernels, axes: dict[str, int]
) -> None:
    """Ulysses keeps o twice: what its own exchange returned, and what attention gave it."""
    whole = kept_bytes("llama-3.1-8b", 4096, "none", kernels=kernels)
    local = kept_bytes("llama-3.1-8b", 4096, "none", kernels=kernels, **axes)
    second_o = 2 * 4096 / 4 * 4096 if axes.get("ulysses", 1) > 1 else 0
    assert local == whole / 4 + second_o


def test_replicated_key_value_heads_are_kept_by_every_rank() -> None:
    """8 heads over Ulysses 16: each rank attends with a whole key/value head."""
    seq_len, width = 4096, 128
    eight, sixteen = (
        next(
            float(item.nbytes[0])
            for item in work_of("llama-3.1-70b", seq_len, ulysses=ulysses).saved
            if item.name == "q, k, v"
        )
        for ulysses in (8, 16)
    )
    assert eight == 2 * seq_len * width * (64 / 8 + 2)
    assert sixteen == 2 * seq_len * width * (64 / 16 + 2)


@pytest.mark.parametrize("kernels", list(Kernels))
def test_the_loss_peaks_at_torchs_bytes_per_logit(kernels: Kernels) -> None:
    """At the peak the logits are gone: the caller does not hold them through the backward pass."""
    measure = (
        fused_reference.fused_loss_peak_bytes
        if kernels is Kernels.FUSED
        else hf_reference.loss_peak_bytes
    )
    measured = measure(vocab=32768, hidden=128, tokens=256)["bytes_per_token_vocab_logits_dropped"]
    small, large = (toy(vocab_size=vocab) for vocab in (32768, 65536))
    peaks = []
    for architecture in (small, large):
        work = head_work(architecture, shapes(256, kernels=kernels))
        peaks.append(float((work.saved_bytes() + work.working_bytes)[0]))
    assert (peaks[1] - peaks[0]) / (256 * 32768) == measured


def test_the_loss_of_a_tensor_parallel_rank_sees_its_words_only() -> None:
    architecture = load_architecture("llama-3.1-8b")
    one, eight = (head_work(architecture, shapes(1024, tp=tp)) for tp in (1, 8))
    assert eight.working_bytes * 8 == one.working_bytes


def test_a_layer_of_every_family_is_compared() -> None:
    """A new kind of norm, gate or head must be added to `ALL_FAMILIES` or `VARIANTS`."""

    def traits(architecture: Architecture) -> tuple[object, ...]:
        layer = architecture.layers[0]
        norms = layer.norm, layer.norms, layer.norms_after, layer.parallel
        assert isinstance(layer.mlp, Mlp)
        return *norms, layer.mlp.gated, layer.mlp.activation, layer.attention.qk_norm

    catalogue = [load_architecture(name) for name in model_names()]
    dense = [each for each in catalogue if isinstance(each.layers[0].mlp, Mlp)]
    dense = [each for each in dense if isinstance(each.layers[0].mixer, Attention)]
    softmax = [name for name in VARIANTS if "deepseek" not in name]
    drawn = [architecture_from_config(variant(name), name) for name in softmax]
    compared = {traits(load_architecture(name)) for name in ALL_FAMILIES} | set(map(traits, drawn))
    assert {traits(each) for each in dense} <= compared
