"""What a config says a model is made of, against transformers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoConfig

from models.architecture import Attention
from models.catalogue import load_architecture, model_names, read_json
from models.hf_config import architecture_from_config
from models.planned import unplanned
from tests.models.cases import TOY, config
from tests.oracles import hf_parameters
from topologies.errors import SpecError

if TYPE_CHECKING:
    from models.architecture import Architecture


#: Transformers has no class for these; `test_grok_is_counted_by_hand`.
WITHOUT_CLASS = {"grok-1"}
WITH_CLASS = sorted(set(model_names()) - WITHOUT_CLASS)
PLANNED = [name for name in model_names() if not unplanned(load_architecture(name))]


def windows(architecture: Architecture) -> list[int | None]:
    mixers = [layer.mixer for layer in architecture.layers]
    return [mixer.window if isinstance(mixer, Attention) else None for mixer in mixers]


def problems_of(fields: dict[str, Any]) -> dict[str, str]:
    """Return field -> mend of the one error a config raises."""
    with pytest.raises(SpecError) as caught:
        architecture_from_config(fields, "mine")
    return {p.field.removeprefix("mine: "): p.mend for p in caught.value.problems}


@pytest.mark.parametrize("name", WITH_CLASS)
def test_parameters_equal_those_of_transformers(name: str) -> None:
    assert load_architecture(name).params == hf_parameters.parameter_count(config(name))


@pytest.mark.parametrize("name", model_names())
def test_every_entry_of_the_catalogue_names_its_source(name: str) -> None:
    architecture = load_architecture(name)
    assert "arXiv" in architecture.source or "http" in architecture.source
    assert architecture.title not in ("", name)


@pytest.mark.parametrize("name", WITH_CLASS)
def test_a_config_rewritten_by_transformers_5_gives_the_same_model(name: str) -> None:
    """``to_dict`` spells fields the v5 way: ``layer_types``, ``rope_parameters``, ``dtype``."""
    given_config = config(name)
    rewritten = hf_parameters.causal_config(given_config).to_dict()
    assert "torch_dtype" not in rewritten
    ours = architecture_from_config(given_config, "old")
    again = architecture_from_config(rewritten, "new")
    assert (again.layers, again.params) == (ours.layers, ours.params)
    assert (again.hidden, again.vocab, again.tied) == (ours.hidden, ours.vocab, ours.tied)


@pytest.mark.parametrize(
    "name", [n for n in PLANNED if n in WITH_CLASS and config(n)["model_type"] != "gpt2"]
)
def test_windows_are_where_transformers_puts_them(name: str) -> None:
    """gemma-3-27b gives ``sliding_window_pattern``, gemma-3-1b ``layer_types``, Qwen a switch."""
    text = hf_parameters.causal_config(config(name))
    kinds = getattr(text, "layer_types", None)
    if kinds is None:  # Mistral and Llama have one kind of layer
        kinds = ["sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"]
        kinds *= text.num_hidden_layers
    expected = [text.sliding_window if kind == "sliding_attention" else None for kind in kinds]
    assert windows(load_architecture(name)) == expected


def test_gemma_3_sees_everything_in_every_sixth_layer() -> None:
    for name, window in (("gemma-3-27b", 1024), ("gemma-3-1b", 512)):
        found = windows(load_architecture(name))
        assert found[:12] == ([window] * 5 + [None]) * 2


def test_mistral_windows_every_layer_or_none() -> None:
    fields = config("mistral-7b")
    assert set(windows(architecture_from_config(fields, "v0.1"))) == {4096}
    assert set(windows(architecture_from_config({**fields, "sliding_window": None}, "v0.3"))) == {
        None
    }


@pytest.mark.parametrize(("asked", "first"), [(False, None), (True, 20)])
def test_qwen_2_windows_only_when_asked_and_only_late_layers(
    asked: bool, first: int | None
) -> None:
    fields = {
        **config("qwen2.5-7b"),
        "use_sliding_window": asked,
        "max_window_layers": 20,
        "sliding_window": 4096,
    }
    kinds = AutoConfig.for_model(**fields).layer_types
    found = windows(architecture_from_config(fields, "mine"))
    assert [window is not None for window in found] == [k == "sliding_attention" for k in kinds]
    assert next((i for i, window in enumerate(found) if window), None) == first


def test_qwen_3_heads_are_128_wide_whatever_the_hidden_size() -> None:
    fields = config("qwen3-0.6b")
    assert fields["hidden_size"] // fields["num_attention_heads"] == 64
    for given_config in (fields, {k: v for k, v in fields.items() if k != "head_dim"}):
        mixer = architecture_from_config(given_config, "mine").layers[0].mixer
        assert (mixer.head_dim, mixer.q_width, mixer.qk_norm) == (128, 2048, True)


def test_biases_are_where_the_family_has_them() -> None:
    qwen, gpt, llama = (
        load_architecture(name).layers[0] for name in ("qwen2.5-7b", "gpt2-xl", "llama-3.1-8b")
    )
    assert (qwen.mixer.qkv_bias, qwen.mixer.out_bias, qwen.mlp.bias) == (True, False, False)
    assert (gpt.mixer.qkv_bias, gpt.mixer.out_bias, gpt.mlp.bias) == (True, True, True)
    assert (llama.mixer.qkv_bias, llama.mixer.out_bias, llama.mlp.bias) == (False, False, False)


def test_a_wrapper_counts_its_text_part_only() -> None:
    fields = config("gemma-3-27b")
    inner = architecture_from_config(fields["text_config"], "text")
    assert "vision_config" in fields
    assert load_architecture("gemma-3-27b").params == inner.params


def test_kinds_are_the_distinct_layers_and_point_back_at_them() -> None:
    gemma = load_architecture("gemma-3-27b")
    assert len(gemma.kinds) == 2
    assert tuple(gemma.kinds[kind] for kind in gemma.kind_of_layer) == gemma.layers
    assert gemma.kind_of_layer.count(0) == 52


# ---------------------------------------------------------------------------------- broken input


@pytest.mark.parametrize(
    ("given_type", "nearest"), [("mistral4", "mistral"), ("gemma3n", "gemma3"), ("qwen", "qwen2")]
)
def test_an_unsupported_family_is_named_with_the_nearest(given_type: str, nearest: str) -> None:
    mends = problems_of({**TOY, "model_type": given_type})
    assert list(mends) == ["model_type"]
    assert nearest in mends["model_type"]


def test_everything_missing_is_reported_at_once() -> None:
    required = {
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    }
    mends = problems_of({"model_type": "llama"})
    assert set(mends) == required
    assert set(mends.values()) == {"this field is required"}


@pytest.mark.parametrize("absurd", [-1, 0, 2.5, "4096", True, 10**9])
def test_every_absurd_number_is_reported_at_once(absurd: object) -> None:
    fields = ("hidden_size", "vocab_size", "num_hidden_layers", "intermediate_size", "head_dim")
    mends = problems_of({**TOY, **dict.fromkeys(fields, absurd)})
    assert set(mends) == set(fields)
    assert all(mend.startswith("a whole number from 1 to") for mend in mends.values())


def test_key_value_heads_that_do_not_divide_the_heads_are_refused() -> None:
    mends = problems_of({**TOY, "num_key_value_heads": 3})
    assert mends == {"num_key_value_heads": "a divisor of num_attention_heads = 8"}
    assert list(problems_of({**TOY, "num_key_value_heads": 16})) == ["num_key_value_heads"]


def test_a_head_dim_that_would_have_to_be_guessed_is_refused() -> None:
    assert list(problems_of({**TOY, "hidden_size": 250})) == ["head_dim"]


def test_layer_types_must_be_one_known_name_per_layer() -> None:
    gemma = {**config("gemma-3-1b")}
    full = ["full_attention"] * 25
    for kinds in (full, [*full, "linear_attention"], [*full, ["full_attention"]], "full", 26):
        assert "layer_types" in problems_of({**gemma, "layer_types": kinds})


#: What a broken file, a slip of the keyboard or another program's config may hold in a field.
STRANGE_VALUES: tuple[Any, ...] = (
    *(None, True, False, -3, 0, 1, 7, 40, 0.5, 1e30, "", "4096"),
    *([], [1], [["full_attention"]], {}, {"a": 1}),
)


@pytest.mark.parametrize(
    "name", ["llama-3.2-1b", "mistral-7b", "qwen2.5-7b", "gemma-3-1b", "gemma-3-27b", "gpt2-xl"]
)
def test_one_strange_field_gives_a_model_or_one_error(name: str) -> None:
    whole = {**config(name), "use_sliding_window": True, "max_window_layers": 1}
    text = whole.get("text_config", {})
    broken = [{**whole, key: value} for key in whole for value in STRANGE_VALUES]
    broken += [
        {**whole, "text_config": {**text, key: value}} for key in text for value in STRANGE_VALUES
    ]
    crashed = [note for fields in broken if (note := crash(fields, whole))]
    assert not crashed, "\n".join(crashed)


def crash(fields: dict[str, Any], usual: dict[str, Any]) -> str:
    """Return how reading a config fails other than by naming its problems; empty if it does not."""
    changed = {key: value for key, value in fields.items() if value != usual[key]}
    try:
        architecture = architecture_from_config(fields, "mine")
        absurd = [window for window in windows(architecture) if window is not None and window < 1]
        return f"{changed}: windows of {absurd}" if absurd or architecture.params < 1 else ""
    except SpecError as error:
        return "" if error.problems else f"{changed}: an error without a problem"
    except Exception as error:  # any other exception is what is looked for
        return f"{changed}: {error!r}"


# ----------------------------------------------------------------------------------- files, names


def test_a_folder_a_file_and_a_name_give_the_same_model(tmp_path: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config("llama-3.2-1b")))
    named = load_architecture("llama-3.2-1b")
    for given_name in (str(path), str(tmp_path)):
        assert load_architecture(given_name).layers == named.layers


def test_an_unknown_model_offers_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"MODEL = lama-3\.1-8b: .*did you mean llama-3\.1-8b"):
        load_architecture("lama-3.1-8b")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON|not a text file"),
        (b"[1]", "not a JSON object"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a": "' + b"x" * 5_000_001 + b'"}', "larger than"),
    ],
)
def test_a_file_that_is_no_config_says_so(
    tmp_path: Any, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=complaint):
        read_json(path)
