"""Which families are planned: those whose layers keep and cost what the inventory says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.hf_config import FAMILIES, architecture_from_config
from models.inventory import layer_work
from models.layout import Kernels, Recompute
from models.planned import unplanned
from tests.models.cases import TOY, shapes
from tests.models.family_configs import DRAWN, draw
from tests.oracles import hf_reference

#: Families that are planned; the others' layers have parts whose work is not modelled.
PLANNED = {
    *("gemma", "gemma2", "gemma3_text", "gpt2", "granite", "llama", "mistral", "qwen2", "qwen3"),
    *("starcoder2", "falcon_h1", "mamba", "mamba2"),
}
SEQ_LEN = 512


def labels(family: str) -> set[str]:
    """Return what is not planned in several configs of a family."""
    from random import Random

    drawn = [draw(family, Random(f"planned {family} {seed}")) for seed in range(4)]
    return {label for config in drawn for label in unplanned(architecture_from_config(config, "x"))}


def test_only_families_whose_layers_were_compared_are_planned() -> None:
    assert set(DRAWN) <= set(FAMILIES)
    assert {family for family in DRAWN if not labels(family)} == PLANNED


@pytest.mark.parametrize("recompute", [mode.label for mode in Recompute])
@pytest.mark.parametrize("family", ["gemma", "granite", "starcoder2"])
def test_eager_layers_keep_what_torch_keeps(family: str, recompute: str) -> None:
    config: dict[str, Any] = {**TOY, "model_type": family, "head_dim": 32, "pad_token_id": 0}
    config |= {"bos_token_id": 1, "eos_token_id": 2}
    model = architecture_from_config(config, family)
    layer = model.layers[0]
    work = layer_work(layer, model.hidden, shapes(SEQ_LEN, kernels=Kernels.EAGER))
    kept = {
        "none": work.saved_bytes(),
        "selective": work.selective_bytes(),
        "full": work.input_bytes,
    }
    measured = hf_reference.layer_saved_bytes(config, SEQ_LEN, recompute)
    if recompute == "none":
        # LayerNorm's statistics in fp32 on a GPU; Gemma's one plus weight, of every norm
        measured += {"starcoder2": 2 * 4 * SEQ_LEN, "gemma": -2 * 4 * model.hidden}.get(family, 0)
    assert float(kept[recompute][0]) == measured


@pytest.mark.parametrize("family", ["gemma", "granite", "starcoder2"])
def test_layers_cost_what_torch_counts(family: str) -> None:
    config = {**TOY, "model_type": family, "head_dim": 32, "pad_token_id": 0}
    config |= {"bos_token_id": 1, "eos_token_id": 2}
    model = architecture_from_config(config, family)
    work = layer_work(model.layers[0], model.hidden, shapes(SEQ_LEN))
    masked = 2 * model.layers[0].attention.q_width * SEQ_LEN**2
    assert work.forward_flop() == hf_reference.layer_forward_flop(config, SEQ_LEN) - masked


@pytest.mark.parametrize(
    ("changed", "label"),
    [
        ({"norm": "layer_no_bias"}, "layer-no-bias-normalised"),
        ({"norm": "layer"}, "gated-MLP-behind-LayerNorm"),
        ({"norms_after": True}, "post-normalised"),
        ({"parallel": True}, "parallel attention-and-MLP"),
        ({"mlp": None}, "attention-only"),
        ({"mixer": None}, "MLP-only"),
    ],
)
def test_a_layer_put_together_in_another_way_is_not_planned(
    changed: dict[str, Any], label: str
) -> None:
    llama = architecture_from_config(TOY, "toy")
    layer = replace(llama.layers[0], **changed)
    assert unplanned(replace(llama, layers=(*llama.layers[:-1], layer))) == (label,)
