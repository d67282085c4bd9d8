"""The peak of one decoder layer against what torch has alive, storage by storage.

Compared are bytes beyond parameters, their gradients and the layer's input: of the formula what is
kept, what else its fullest moment needs, and buffers; eager kernels. Flash attention's fp32 dq is
workspace of a GPU's kernel, no storage, and is taken off where attention is the fullest moment.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from models.architecture import Mlp
from models.catalogue import load_architecture
from models.dtype import BF16, FP32
from models.hf_config import architecture_from_config
from models.layer_peak import moments
from models.layout import Layout, LayoutBatch
from models.mixers.core_attention import attention_gradients
from models.mixers.halves import halves
from models.named_axes import CpMethod, Kernels, Recompute
from models.sequence_parallel.heads import (
    exchanged_elements,
    local_kv_elements,
    local_query_elements,
)
from models.sequence_parallel.sent import backward_buffer_bytes, forward_buffer_bytes
from planner.scenario import Scenario
from tests.models.cases import config, shapes, unwindowed, work_of
from tests.models.variants import VARIANTS, variant
from tests.oracles import peak_reference as oracle
from tests.oracles.unequal_flash import unequal_flash
from tests.validate.test_whole_models import attend, of

if TYPE_CHECKING:
    from torch import Tensor

    from models.mixers.half import Moment

GATHER = {"cp_method": CpMethod.ALL_GATHER}
CUTS: list[dict[str, Any]] = [
    {},
    {"ulysses": 2},
    {"ulysses": 4},
    {"ulysses": 8},
    {"ring": 4},
    {"ring": 8},
    {"ulysses": 4, "ring": 2},
    {"ulysses": 2, "ring": 4},
    {"ring": 4, **GATHER},
    {"ring": 8, **GATHER},
]
GROUPED, FULL_HEADS = "llama-3.1-8b", "llama-2-7b"
CASES = [
    *((name, 131_072, cut) for name in (GROUPED, FULL_HEADS) for cut in CUTS),
    (GROUPED, 131_072, {"ring": 32, **GATHER}),
    *((name, seq_len, {}) for name in (GROUPED, FULL_HEADS) for seq_len in (8_192, 32_768)),
    *((GROUPED, 32_768, cut) for cut in CUTS[1:]),
]


def job(seq_len: int, cut: dict[str, Any]) -> dict[str, Any]:
    """Return the last rank of a layout: in zigzag the one with most queries in every block."""
    layout = of(**cut)
    attention = partial(attend, layout) if layout.cp > 1 else None
    ranks = layout.cp
    return {
        "tokens": seq_len // ranks,
        "ranks": ranks,
        "attention": attention,
        "rank": ranks - 1,
    }


def fullest(name: str, seq_len: int, cut: dict[str, Any]) -> Moment:
    """Return the fullest moment; of attention without what its kernel keeps for itself."""
    architecture = load_architecture(name)
    part, shape = unwindowed(architecture), shapes(seq_len, kernels=Kernels.EAGER, **cut)
    found = moments(halves(part, architecture.hidden, shape))
    return max(found, key=lambda each: float((each.saved + each.working + each.buffers)[0]))


def largest(found: tuple[Moment, ...]) -> float:
    return max(float((each.saved + each.working + each.buffers)[0]) for each in found)


def predicted(name: str, seq_len: int, cut: dict[str, Any]) -> float:
    work = work_of(name, seq_len, kernels=Kernels.EAGER, **cut)
    total = float((work.saved_bytes() + work.working_bytes + work.buffer_bytes)[0])
    if fullest(name, seq_len, cut).name == "attention backward":
        shape = shapes(seq_len, kernels=Kernels.EAGER, **cut)
        mixer = unwindowed(load_architecture(name)).mixer
        total -= FP32 * float(local_query_elements(mixer, shape)[0])
    return total


@pytest.fixture(scope="module")
def ratios() -> dict[str, float]:
    return {
        f"{name} {seq_len} {cut}": predicted(name, seq_len, cut)
        / oracle.layer_peak(config(name), **job(seq_len, cut)).backward_bytes
        for name, seq_len, cut in CASES
    }


def test_a_layers_peak_is_what_the_inventory_says(ratios: dict[str, float]) -> None:
    """To the byte, but for scalars, where the MLP is fullest: all but wide gathers."""
    assert median(abs(ratio - 1) for ratio in ratios.values()) < 1e-6, ratios
    assert max(abs(ratio - 1) for ratio in ratios.values()) < 0.05, ratios


@pytest.mark.parametrize("name", [GROUPED, "qwen3-8b", "gemma-3-27b", "gemma-2-27b", "qwen2.5-7b"])
@pytest.mark.parametrize("width", [1.0, 0.125])
def test_layers_of_every_family_peak_where_the_formula_says(name: str, width: float) -> None:
    """Narrow MLPs, such as tensor parallelism's, leave the peak to the norm's fp32 tensors."""
    fields = config(name)
    text = fields.get("text_config", fields)
    mlp = int(text["intermediate_size"] * width)
    cut = {**text, "intermediate_size": mlp}
    fields = {**fields, "text_config": cut} if "text_config" in fields else cut
    found = oracle.layer_peak(fields, tokens=16_384)
    architecture = architecture_from_config(fields, "narrow")
    part, shape = unwindowed(architecture), shapes(16_384, kernels=Kernels.EAGER)
    said = largest(moments(halves(part, architecture.hidden, shape)))
    listing = "\n".join(map(str, found.backward))
    assert said == pytest.approx(found.backward_bytes, rel=0.02), listing


#: Attention of two releases of transformers ago cannot be given another core; Cohere rotates in
#: fp32, which is fuller than its attention where its MLP is narrow.
UNPLUGGED = ("nemotron", "stablelm", "stablelm in parallel")
NARROWED = [
    (name, width)
    for name in VARIANTS
    for width in (1.0, 0.125)
    if name not in UNPLUGGED and not (width < 1 and name.startswith("cohere"))
]


def unequal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    output: Tensor = unequal_flash(q, k, v)[0]
    return output


@pytest.mark.parametrize(("name", "width"), NARROWED)
def test_layers_of_every_kind_peak_where_the_formula_says(name: str, width: float) -> None:
    """LayerNorms and products keep the layer's input itself, which torch's peak leaves out."""
    tokens, config = 4_096, variant(name)
    names = {"intermediate_size", "ffn_dim", "intermediate_size_mlp"} & set(config)
    config |= dict.fromkeys(names, int(1024 * width))
    attention = (lambda: unequal) if "v_head_dim" in config else None
    found = oracle.layer_peak(config, tokens=tokens, attention=attention)
    architecture = architecture_from_config(config, name)
    layer, shape = architecture.layers[0], shapes(tokens, kernels=Kernels.EAGER)
    workspace = {"attention backward": FP32 * layer.mixer.q_width * tokens}
    full = max(
        float((each.saved + each.working + each.buffers)[0]) - workspace.get(each.name, 0.0)
        for each in moments(halves(layer, architecture.hidden, shape))
    )
    kept = layer.norm in ("layer", "layer_offset") or layer.norms_after
    full -= BF16 * tokens * architecture.hidden * kept
    listing = "\n".join(map(str, found.backward))
    assert full == pytest.approx(found.backward_bytes, rel=0.02), listing


@pytest.mark.parametrize("name", [GROUPED, FULL_HEADS])
@pytest.mark.parametrize("cut", [*CUTS[1:], {"ring": 32, **GATHER}], ids=str)
def test_attention_alone_peaks_where_the_formula_says(name: str, cut: dict[str, Any]) -> None:
    """Beyond q, k, v and the gradient of o; the formula takes a block whole, zigzag's are halves.

    What Ulysses stages for one tensor, and keys and values as one message, it leaves out.
    """
    mixer = unwindowed(load_architecture(name)).mixer
    shape = shapes(131_072, kernels=Kernels.EAGER, **cut)
    heads = {"heads": mixer.heads, "kv_heads": mixer.kv_heads, "width": mixer.head_dim}
    found = oracle.attention_peak(**heads, **job(131_072, cut))
    queries = float(local_query_elements(mixer, shape)[0])
    gradients = float(attention_gradients(mixer, shape)[0]) - FP32 * queries
    backward = gradients + float(backward_buffer_bytes(mixer, shape)[0])
    listing = "\n".join(map(str, found.backward))
    assert found.saved_bytes + backward == pytest.approx(found.backward_bytes, rel=0.1), listing
    given, _ = exchanged_elements(mixer, shape)  # q, k and v as before their exchange
    forward = float((forward_buffer_bytes(mixer, shape) - BF16 * given)[0])
    if cut.get("ring", 1) > 2:  # in a ring of two nothing is on its way when blocks are merged
        inside = found.saved_bytes - 2 * queries  # o is still its sum in fp32
        assert inside + forward == pytest.approx(found.forward_bytes, rel=0.1)


@pytest.mark.parametrize("name", [GROUPED, FULL_HEADS])
@pytest.mark.parametrize("cut", [{"ring": 4}, {"ring": 8}, {"ring": 8, **GATHER}], ids=str)
def test_rings_hold_nothing_but_what_the_formula_names(name: str, cut: dict[str, Any]) -> None:
    """The last rank's blocks are of half the keys; nothing sent, merged or added is left over."""
    mixer = unwindowed(load_architecture(name)).mixer
    shape = shapes(131_072, kernels=Kernels.EAGER, **cut)
    heads = {"heads": mixer.heads, "kv_heads": mixer.kv_heads, "width": mixer.head_dim}
    found = oracle.attention_peak(**heads, **job(131_072, cut))
    workspace = FP32 * local_query_elements(mixer, shape)
    half = BF16 * local_kv_elements(mixer, shape) / 2
    said = attention_gradients(mixer, shape) + backward_buffer_bytes(mixer, shape)
    beyond = float((said - workspace - half)[0])
    listing = "\n".join(map(str, found.backward))
    assert found.saved_bytes + beyond == pytest.approx(found.backward_bytes, rel=1e-6), listing


@pytest.mark.parametrize(
    ("name", "cut", "of_queries"),
    [
        (GROUPED, {}, 2.0),
        (GROUPED, {"ulysses": 4}, 2.0),
        (GROUPED, {"ring": 8}, 2.0),
        (GROUPED, {"ring": 8, "kernels": Kernels.FUSED, **GATHER}, 16.0),
        (GROUPED, {"ulysses": 32}, 0.0),  # a head each, and the keys of it alone
        (FULL_HEADS, {}, 0.0),
    ],
    ids=str,
)
def test_gradients_of_keys_and_values_are_held_for_each_head_of_a_group(
    name: str, cut: dict[str, Any], of_queries: float
) -> None:
    """FlashAttention 2 adds them up after its kernel; of gathered keys they are of all of them."""
    mixer = unwindowed(load_architecture(name)).mixer
    shape = shapes(131_072, **cut)
    expanded = attention_gradients(mixer, replace(shape, expands_kv_gradients=True))
    beyond = expanded - attention_gradients(mixer, shape)
    queries = BF16 * local_query_elements(mixer, shape)
    assert beyond == pytest.approx(of_queries * queries)


def test_plans_count_them_where_the_kernels_of_their_devices_do() -> None:
    """Of a model of few words and narrow MLPs, whose moments would be fuller than attention's."""
    job: dict[str, Any] = {"seq_len": 2**20, "global_batch": 1}
    model = load_architecture(GROUPED)
    narrow = tuple(replace(one, mlp=Mlp(intermediate=1024)) for one in model.layers)
    layout = Layout(ulysses=8, zero=3, recompute=Recompute.FULL)
    peaks = []
    for software in ("transformer-engine", "internevo"):
        scenario = Scenario.load(GROUPED, "h100-dgx:1", software=software, **job)
        scenario = replace(scenario, architecture=replace(model, layers=narrow, vocab=1024))
        (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
        peaks.append(plan.memory_bytes["working"])
    heads = 2**20 / 8 * 4096 * BF16
    assert peaks[1] - peaks[0] == pytest.approx(2.0 * heads, rel=1e-3)


def test_a_rings_peak_stays_with_its_length_and_a_gathers_grows() -> None:
    """The same tokens of a rank; beyond them the gathered keys, values and their gradients."""
    tokens = 4_096
    peaks = {
        method: [
            oracle.layer_peak(
                config(FULL_HEADS), **job(tokens * ranks, {"ring": ranks, **how})
            ).backward_bytes
            for ranks in (8, 16, 32)
        ]
        for method, how in (("ring", {}), ("gather", GATHER))
    }
    assert len(set(peaks["ring"])) == 1
    both = 2 * tokens * 32 * 128 * (2 + FP32)
    eight, sixteen, more = peaks["gather"]
    assert (sixteen - eight, more - sixteen) == (8 * both, 16 * both)


@pytest.mark.parametrize("cut", [{}, {"ring": 8}, {"ulysses": 8}], ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_torchs_own_tracker_sees_the_same_peak(cut: dict[str, Any], backward: bool) -> None:
    found = oracle.layer_peak(config(GROUPED), **job(32_768, cut))
    tracked = oracle.tracked_bytes(config(GROUPED), **job(32_768, cut), backward=backward)
    assert tracked == (found.backward_bytes if backward else found.forward_bytes)
