"""Models with experts, latent attention, state spaces and others, against what is published."""

from __future__ import annotations

import pytest

from models.architecture import Architecture, GatedDeltaNet, LatentAttention, Mamba1, Mamba2, Moe
from models.catalogue import load_architecture
from models.planned import require_planned, unplanned
from topologies.errors import SpecError

#: Parameters in billions, and those a token uses, as their makers publish them. Llama 4's 109 and
#: 400 have the vision part, GLM's 355 and 106 multi-token prediction, which are not counted here.
PUBLISHED = {
    "bloom-176b": (176.247271424, None),  # arXiv:2211.05100, section 3.2
    "deepseek-v3": (671, 37),  # arXiv:2412.19437
    "glm-4.5": (355, 32),  # arXiv:2508.06471
    "glm-4.5-air": (106, 12),
    "gpt-oss-120b": (116.83, None),  # arXiv:2508.10925, table 1
    "gpt-oss-20b": (20.91, None),
    "grok-1": (314, None),  # the release
    "jamba-v0.1": (52, 12),  # arXiv:2403.19887
    "llama-4-maverick": (400, 17),  # the model card
    "llama-4-scout": (109, 17),
    "mamba2-2.7b": (2.7, None),  # arXiv:2405.21060
    "mixtral-8x22b": (141, 39),  # the announcement
    "mixtral-8x7b": (46.7, 12.9),  # the announcement
    "nemotron-4-15b": (15.6, None),  # arXiv:2402.16819: 12.5 without embeddings, 3.1 embeddings
    "nemotron-4-340b": (341, None),  # arXiv:2406.11704: 331.6 and 9.4
    "nemotron-h-8b": (8.1, None),  # the model card
    "qwen3-235b-a22b": (235, 22),  # arXiv:2505.09388
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-next-80b-a3b": (80, None),  # the model card; "3B activated" of an unsaid count
}


def count(architecture: Architecture, kind: type) -> int:
    """Return layers with a mixer of a type."""
    return sum(any(isinstance(part, kind) for part in x.parts) for x in architecture.layers)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_totals_are_the_published_ones(name: str) -> None:
    total, active = PUBLISHED[name]
    architecture = load_architecture(name)
    assert architecture.params / 1e9 == pytest.approx(total, rel=0.012)
    if active is not None:
        without_table = architecture.active_params - architecture.embedding_params
        nearest = min(
            architecture.active_params, without_table, key=lambda n: abs(n / 1e9 - active)
        )
        assert nearest / 1e9 == pytest.approx(active, rel=0.035 if "glm" not in name else 0.07)


def test_every_model_that_is_not_planned_has_a_published_total() -> None:
    from models.catalogue import model_names

    assert {n for n in model_names() if unplanned(load_architecture(n))} <= set(PUBLISHED)


def test_bloom_is_exact() -> None:
    assert load_architecture("bloom-176b").params == 176_247_271_424


@pytest.mark.parametrize(("name", "active"), [("gpt-oss-120b", 5.13), ("gpt-oss-20b", 3.61)])
def test_gpt_oss_counts_the_head_but_not_the_embedding_as_active(name: str, active: float) -> None:
    model = load_architecture(name)
    assert round((model.active_params - model.embedding_params) / 1e9, 2) == active
    assert any("mxfp4" in note for note in model.notes)


def test_grok_is_counted_by_hand() -> None:
    """The shapes of ``model.py`` of the open release: no bias anywhere, four norms a layer."""
    hidden, vocab, layers, width = 6144, 131_072, 64, 8 * 6144 * 2 // 3
    attention = hidden * 48 * 128 + 2 * hidden * 8 * 128 + 48 * 128 * hidden
    experts = 8 * 3 * hidden * width
    layer = attention + experts + hidden * 8 + 4 * hidden
    grok = load_architecture("grok-1")
    assert grok.params == layers * layer + vocab * hidden + hidden
    assert grok.params - grok.active_params == layers * 6 * 3 * hidden * width


def test_deepseek_v3_has_three_dense_layers_and_one_that_predicts_further() -> None:
    model = load_architecture("deepseek-v3")
    assert (len(model.layers), count(model, Moe), count(model, LatentAttention)) == (61, 58, 61)
    assert [isinstance(layer.mlp, Moe) for layer in model.layers[:4]] == [False] * 3 + [True]
    assert model.predict_layers == model.layers[-1:]
    # README_WEIGHTS.md of the release: 11.5B unique parameters
    assert model.predict_params / 1e9 == pytest.approx(11.5, rel=0.012)


def test_layers_of_hybrids_are_where_they_are_published() -> None:
    jamba, nemotron, qwen = (
        load_architecture(name) for name in ("jamba-v0.1", "nemotron-h-8b", "qwen3-next-80b-a3b")
    )
    assert (count(jamba, Mamba1), count(jamba, Moe)) == (28, 16)
    assert [n for n, x in enumerate(jamba.layers) if not isinstance(x.mixer, Mamba1)] == [
        *(4, 12, 20, 28)
    ]
    assert count(nemotron, Mamba2) == 24
    assert sum(layer.mlp is not None for layer in nemotron.layers) == 24
    assert [n for n, x in enumerate(qwen.layers[:8]) if not isinstance(x.mixer, GatedDeltaNet)] == [
        *(3, 7)
    ]


def test_llama_4_sees_chunks_where_it_rotates_and_experts_where_published() -> None:
    scout, maverick = (load_architecture(f"llama-4-{name}") for name in ("scout", "maverick"))
    seen = [(layer.attention.chunk, layer.attention.rotary) for layer in scout.layers[:4]]
    assert seen == [(8192, True)] * 3 + [(None, False)]
    assert (count(scout, Moe), count(maverick, Moe)) == (48, 24)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("jamba-v0.1", "Mamba"),
        ("mamba2-2.7b", "Mamba-2"),
        ("nemotron-h-8b", "Mamba-2"),
    ],
)
def test_what_is_not_planned_is_named(name: str, labels: str) -> None:
    with pytest.raises(SpecError) as caught:
        require_planned(load_architecture(name))
    assert str(caught.value) == f"MODEL = {name}: has {labels} layers: read, but not planned yet"


def test_dense_models_are_planned() -> None:
    for name in ("llama-3.1-8b", "gemma-3-27b", "gpt2-xl", "qwen3-8b", "bloom-176b"):
        require_planned(load_architecture(name))
