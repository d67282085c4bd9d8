"""The models of published runs: by words for attention, cut down, with what they predict."""

from __future__ import annotations

import pytest

from models.architecture import Attention, LatentAttention, Moe
from models.catalogue import load_architecture
from tests.validate.published.made_up import row
from validate.published.attention_of import attention_of
from validate.published.model_of import model_of
from validate.published.row import UnexpressedError

DEEPSEEK = {
    "model": "deepseek-v3-671b",
    "hidden": 7168,
    "heads": 128,
    "ffn": 18432,
    "vocab": 129280,
    "seq_len": 4096,
    "attention": "MLA(q_lora1536,kv_lora512,qk128+64rope,v128)",
}
KIMI = {
    **DEEPSEEK,
    "model": "kimi-k2",
    "layers": 61,
    "heads": 64,
    "vocab": 163840,
    "gated": 1,
    "experts": 384,
    "top_k": 8,
    "expert_ffn": 2048,
    "shared_ffn": 2048,
    "expert_layers": "60 of 61 (first 1 dense)",
}


@pytest.mark.parametrize(
    "kind",
    ["MHA", "GQA", "mqa", "MHA (flash), learned pos emb", "GQA (QKV bias)", "GQA + QK norm, RoPE"],
)
def test_words_beside_a_plain_kind_change_no_key(kind: str) -> None:
    (mixer,) = attention_of(kind, 32, 8, 128)
    assert isinstance(mixer, Attention)
    assert (mixer.window, mixer.kv_heads, mixer.rotary) == (None, 8, "learned" not in kind)


def test_windows_are_those_stated() -> None:
    windowed, whole = attention_of("GQA alternating SWA(window 4096)/full", 32, 16, 128)
    assert (windowed.window, whole.window) == (4096, None)
    (everywhere,) = attention_of("GQA, sliding window 4096", 32, 8, 128)
    assert everywhere.window == 4096


@pytest.mark.parametrize(
    "kind",
    [
        "GQA chunked(8192)",
        "GQA 5:1 local/global",
        "hybrid: 10 attn, 54 mamba2",
        "linear",
        "GQA with windows",
        "MLA",
    ],
)
def test_attention_that_may_see_other_keys_is_not_guessed(kind: str) -> None:
    with pytest.raises(UnexpressedError, match="attention not expressed"):
        attention_of(kind, 32, 8, 128)


def test_latent_attention_is_built_of_its_ranks() -> None:
    """As the catalogue has DeepSeek-V3's; and the parameters of Kimi K2, 1.03 T."""
    (mixer,) = attention_of(DEEPSEEK["attention"], 128, 128, 128)
    assert mixer == load_architecture("deepseek-v3").layers[0].mixer
    found = model_of(row(**KIMI))
    assert isinstance(found.layers[0].mixer, LatentAttention)
    assert found.params == pytest.approx(1.03e12, rel=0.01)


def test_a_model_of_the_catalogue_is_as_deep_as_the_row_says() -> None:
    whole = load_architecture("deepseek-v3")
    assert model_of(row(**DEEPSEEK, layers=61)) is whole
    cut = model_of(row(**DEEPSEEK, layers=16, expert_layers="13 of 16 (first 3 dense)"))
    assert [isinstance(layer.mlp, Moe) for layer in cut.layers] == [False] * 3 + [True] * 13
    assert cut is model_of(row(**DEEPSEEK, layers=16))
    all_experts = model_of(row(**DEEPSEEK, layers=8, expert_layers="all"))
    assert all(isinstance(layer.mlp, Moe) for layer in all_experts.layers)
    assert len(all_experts.layers) == 8


@pytest.mark.parametrize("other", [{"layers": 80}, {"layers": 61, "hidden": 4096}])
def test_another_model_of_that_name_is_not_taken_for_it(other: dict[str, int]) -> None:
    with pytest.raises(UnexpressedError, match="not the deepseek-v3 that is known"):
        model_of(row(**{**DEEPSEEK, **other}))


def test_layers_that_predict_further_tokens_count_where_the_row_has_them() -> None:
    plain, predicting = (
        model_of(row(**DEEPSEEK, layers=61, predict_depth=depth)) for depth in (0, 1)
    )
    assert (len(plain.layers), len(predicting.layers)) == (61, 62)


@pytest.mark.parametrize(("cells", "depth"), [({**DEEPSEEK, "layers": 61}, 2), (KIMI, 1)])
def test_layers_of_prediction_that_a_model_is_not_known_to_have_are_not_dropped(
    cells: dict[str, object], depth: int
) -> None:
    with pytest.raises(UnexpressedError, match=f"{depth} layers of multi-token prediction"):
        model_of(row(**cells, predict_depth=depth))


def test_experts_that_a_table_has_no_columns_for_come_from_the_catalogue() -> None:
    sizes = {"model": "Qwen3-30B-A3B", "layers": 48, "hidden": 2048, "vocab": 151936}
    assert model_of(row(**sizes)) is load_architecture("qwen3-30b-a3b")


@pytest.mark.parametrize("missing", ["layers", "hidden", "heads", "vocab"])
def test_sizes_that_a_row_does_not_give_come_from_the_catalogue(missing: str) -> None:
    sizes = {"layers": 80, "hidden": 8192, "heads": 64, "vocab": 128256}
    cells = {name: size for name, size in sizes.items() if name != missing}
    found = model_of(row(model="Llama3-70B", kv_heads=8, seq_len=8192, **cells))
    assert found == load_architecture("llama-3.1-70b")
