"""Attention beside Mamba-2: both mixers' work over one norm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.hf_config import architecture_from_config
from models.inventory import full_attention_flop, layer_work, model_flop
from models.named_axes import Kernels
from models.workload import Workload
from tests.models.cases import TOY, shapes
from tests.models.mixers.cases import flop, kept, recurrent
from tests.oracles.recurrent_reference import mixer_flop

FALCON = {
    **TOY,
    "model_type": "falcon_h1",
    "mamba_d_ssm": 512,
    "mamba_n_heads": 8,
    "mamba_d_head": 64,
    "mamba_n_groups": 2,
    "mamba_d_state": 32,
    "mamba_d_conv": 4,
    "mamba_chunk_size": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODEL = architecture_from_config(FALCON, "falcon")
AXES = [{}, {"tp": 2, "tp_sp": True}, {"ulysses": 4}, {"ring": 4}, {"kernels": Kernels.EAGER}]


def test_projections_beside_attention_cost_what_torch_counts() -> None:
    work = layer_work(MODEL.layers[0], MODEL.hidden, shapes(1024))
    counted = mixer_flop(FALCON, 1024)["mm"]
    assert flop(work, "mamba in", "mamba out") == counted


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_its_work_is_that_of_both_mixers(axes: dict[str, object]) -> None:
    layer, shape = MODEL.layers[0], shapes(4096, **axes)
    both = layer_work(layer, MODEL.hidden, shape)
    attention = layer_work(replace(layer, mixer=layer.attention), MODEL.hidden, shape)
    mamba = layer_work(recurrent(MODEL), MODEL.hidden, shape)
    assert both.forward_flop() == attention.forward_flop() + mamba.forward_flop()
    assert both.backward_flop() == attention.backward_flop() + mamba.backward_flop()
    norm = mamba.saved[0].nbytes  # one norm instead of two
    assert both.saved_bytes() == attention.saved_bytes() + mamba.saved_bytes() - norm
    assert both.working_bytes >= attention.working_bytes - mamba.saved_bytes()


def test_a_whole_step_counts_unmasked_attention_only() -> None:
    workload = Workload(seq_len=8192, global_batch=2)
    extra = full_attention_flop(MODEL, workload) - model_flop(MODEL, workload)
    width = MODEL.layers[0].attention.q_width
    by_hand = 3 * 2 * len(MODEL.layers) * 2 * width * 8192**2
    assert extra == pytest.approx(by_hand, rel=1e-9)


def test_without_a_norm_the_gated_output_is_what_the_projection_keeps() -> None:
    mixer = recurrent(MODEL).mixer
    assert not mixer.norm
    alone, fused = (
        kept(layer_work(recurrent(MODEL), MODEL.hidden, shapes(1024, kernels=kernels)))
        for kernels in (Kernels.EAGER, Kernels.FUSED)
    )
    assert alone["mamba gated norm"] == 0
    assert fused["mamba gated norm"] == 2 * 1024 * mixer.inner
