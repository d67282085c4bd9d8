"""Layers of other families than Llama's keep and cost what torch says."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from models.architecture import Attention, LatentAttention, Layer, Mlp
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.named_axes import Kernels, Recompute
from models.operation import Kind
from models.parameters import ParameterTable
from tests.models.cases import shapes
from tests.models.family_configs import DRAWN, draw
from tests.models.variants import VARIANTS, variant
from tests.oracles import fused_variants, hf_reference

SEQ_LEN = 512
ATTENTION = Attention(heads=8, kv_heads=4, head_dim=64)
PLAIN = Layer(mixer=ATTENTION, mlp=Mlp(intermediate=640))
LATENT = LatentAttention(heads=8, q_rank=96, kv_rank=64, nope_dim=32, rope_dim=16, value_dim=24)
#: How layers differ that fused operators are put together to as well.
KINDS: dict[str, dict[str, Any]] = {
    "latent": {"mixer": LATENT},
    "gated": {"mixer": replace(ATTENTION, gated=True)},
    "parallel": {"parallel": True},
    "after": {"norms_after": True},
    "attention": {"mlp": None, "norms": 1},
    "mlp": {"mixer": None, "norms": 1},
}


def layer_norms(layer: Layer) -> int:
    """Return the LayerNorm kernels of a layer, those of queries and keys among them."""
    if layer.norm not in ("layer", "layer_offset"):
        return 0
    mixer = layer.attention
    return layer.norms + (mixer.heads + mixer.kv_heads if mixer.qk_norm else 0)


@pytest.mark.parametrize("family", sorted(DRAWN))
def test_every_family_that_is_read_has_work(family: str) -> None:
    """Of some config of it: seconds, bytes and parameters of every kind of layer."""
    model = architecture_from_config(draw(family, Random(f"planned {family}")), family)
    for layer in model.kinds:
        work = layer_work(layer, model.hidden, shapes(SEQ_LEN))
        assert work.forward_flop() > 0
        assert work.saved_bytes() > work.input_bytes


@pytest.mark.parametrize("recompute", [mode.label for mode in Recompute])
@pytest.mark.parametrize("name", VARIANTS)
def test_eager_layers_keep_what_torch_keeps(name: str, recompute: str) -> None:
    """Of twice the tokens less once: weights raised to fp32 or by one are kept once per layer."""
    config = variant(name)
    model = architecture_from_config(config, name)
    kept, measured = [], []
    for tokens in (SEQ_LEN, 2 * SEQ_LEN):
        work = layer_work(model.layers[0], model.hidden, shapes(tokens, kernels=Kernels.EAGER))
        modes = {
            "none": work.saved_bytes(),
            "selective": work.selective_bytes(),
            "full": work.input_bytes,
        }
        kept.append(float(modes[recompute][0]))
        measured.append(hf_reference.layer_saved_bytes(config, tokens, recompute))
    # On CPU LayerNorm keeps mean and deviation in bf16, on a GPU in fp32: 4 bytes a norm.
    wider = 4 * layer_norms(model.layers[0]) * SEQ_LEN if recompute == "none" else 0
    assert kept[1] - kept[0] == measured[1] - measured[0] + wider


@pytest.mark.parametrize(("kind", "changed"), KINDS.items())
def test_fused_layers_keep_what_fused_operators_keep(kind: str, changed: dict[str, Any]) -> None:
    work = layer_work(replace(PLAIN, **changed), 256, shapes(SEQ_LEN, kernels=Kernels.FUSED))
    measured = fused_variants.saved_bytes(kind, hidden=256, heads=8, width=640, tokens=SEQ_LEN)
    assert work.saved_bytes() == measured


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_cost_what_torch_counts(name: str) -> None:
    """The counter takes causal attention as dense; half of it is masked."""
    config = variant(name)
    model = architecture_from_config(config, name)
    mixer = model.layers[0].mixer
    assert isinstance(mixer, Attention | LatentAttention)
    square = mixer.heads * SEQ_LEN**2
    work = layer_work(model.layers[0], model.hidden, shapes(SEQ_LEN))
    masked = square * (mixer.head_dim + mixer.value_dim)
    assert work.forward_flop() == hf_reference.layer_forward_flop(config, SEQ_LEN) - masked
    again = square * (3 * mixer.head_dim + 2 * mixer.value_dim)
    assert work.backward_flop() == hf_reference.layer_backward_flop(config, SEQ_LEN) - again


@pytest.mark.parametrize("name", VARIANTS)
def test_a_single_rank_holds_all_parameters(name: str) -> None:
    model = architecture_from_config(variant(name), name)
    table = ParameterTable.of(model, shapes(SEQ_LEN))
    layers = sum(table.layers[kind] for kind in model.kind_of_layer)
    assert layers + table.embedding + table.head == model.params


@pytest.mark.parametrize(("name", "calls"), [("olmo2", 1), ("olmo3", 1), ("cohere", 0)])
@pytest.mark.parametrize("tp", [1, 2])
def test_norms_over_all_heads_sum_over_tensor_parallel_ranks(
    name: str, calls: int, tp: int
) -> None:
    """One fp32 number each of queries and keys per token; Cohere's norms are of each head."""
    model = architecture_from_config(variant(name), name)
    work = layer_work(model.layers[0], model.hidden, shapes(SEQ_LEN, tp=tp))
    for found in (work.forward_communication(), work.backward_communication()):
        sums = [op for op in found if op.name == "head norm sums"]
        assert len(sums) == calls
        assert all(op.calls == (tp > 1) and op.nbytes == 8 * SEQ_LEN for op in sums)


@pytest.mark.parametrize(("tokens", "share"), [(1024, 1.0), (4096, 0.25), (8192, 0.125)])
def test_chunks_of_1024_cost_their_squares(tokens: int, share: float) -> None:
    chunked = replace(PLAIN, mixer=replace(ATTENTION, chunk=1024))
    ours, whole = (
        sum(
            float(op.flop[0])
            for op in layer_work(layer, 256, shapes(tokens)).forward_compute()
            if op.kind is Kind.ATTENTION
        )
        for layer in (chunked, PLAIN)
    )
    assert ours == share * whole
