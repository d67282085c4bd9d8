"""Reading a Hugging Face ``config.json`` as a list of typed layers.

Accepts the field names of old and of v5 configs (``torch_dtype`` or ``dtype``; ``rope_theta`` or
``rope_parameters``; GPT-2's ``n_embd``) and multimodal wrappers, whose text part is taken. A model
type that is not listed in :data:`FAMILIES` is refused by name, never guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from models.architecture import Architecture, Attention, Layer, Mlp
from topologies.errors import Problem, SpecError, raise_if_any, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.architecture import NormKind

#: Larger than any model anyone has trained; a slip of the keyboard otherwise.
LARGEST_FIELD = 10_000_000
LARGEST_LAYERS = 10_000
#: Activations whose kernels are counted.
ACTIVATIONS = frozenset({"silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"})


@dataclass(slots=True)
class ConfigReader:
    """Reads fields of one config and collects what is wrong with them."""

    config: Mapping[str, Any]
    where: str
    problems: list[Problem] = field(default_factory=list)

    def whole(self, *names: str, default: int | None = None, most: int = LARGEST_FIELD) -> int:
        """Return the first of `names` that is there as a positive whole number."""
        name = next((name for name in names if self.config.get(name) is not None), None)
        if name is None:
            if default is None:
                mend = "this field is required"
                self.problems.append(Problem(f"{self.where}: {names[0]}", "missing", mend))
                return 1
            return default
        value = self.config[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            mend = f"a whole number from 1 to {most}"
            self.problems.append(Problem(f"{self.where}: {name}", value, mend))
            return 1
        return value

    def text(self, *names: str, default: str) -> str:
        """Return the first of `names` that is there as a word."""
        name = next((name for name in names if self.config.get(name)), None)
        if name is None:
            return default
        value = self.config[name]
        if not isinstance(value, str) or value not in ACTIVATIONS:
            self.refuse(name, f"one of {', '.join(sorted(ACTIVATIONS))}")
        return str(value)

    def optional(self, name: str) -> int | None:
        """Return a field as a positive whole number, or None where it is null or absent."""
        return None if self.config.get(name) is None else self.whole(name)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a yes-or-no field."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problems.append(Problem(f"{self.where}: {name}", value, "true or false"))
            return default
        return value

    def refuse(self, name: str, mend: str) -> None:
        """Record that the value of a field cannot be right."""
        self.problems.append(Problem(f"{self.where}: {name}", self.config.get(name), mend))


@dataclass(frozen=True, slots=True)
class Family:
    """How one ``model_type`` differs from a plain Llama."""

    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    norm: NormKind = "rms"
    norms: Literal[2, 4] = 2
    gated: bool = True
    mlp_bias: bool = False
    tied: bool = False
    head_dim: int | None = None
    activation: str = "silu"
    windows: Callable[[ConfigReader, int], list[int | None]] | None = None


def _every_layer(reader: ConfigReader, layers: int) -> list[int | None]:
    """Mistral: ``sliding_window`` holds for all layers, ``null`` for none."""
    return [reader.optional("sliding_window")] * layers


def _when_asked(reader: ConfigReader, layers: int) -> list[int | None]:
    """Qwen: a window only with ``use_sliding_window``, from layer ``max_window_layers`` on."""
    if not reader.flag("use_sliding_window", default=False):
        return [None] * layers
    if "layer_types" in reader.config:
        return _by_layer_types(reader, layers)
    full = reader.whole("max_window_layers", default=28)
    window = reader.whole("sliding_window")
    return [None if layer < full else window for layer in range(layers)]


def _by_pattern(default_period: int) -> Callable[[ConfigReader, int], list[int | None]]:
    """Gemma: of every `period` layers the last one sees everything."""

    def windows(reader: ConfigReader, layers: int) -> list[int | None]:
        if reader.config.get("layer_types"):
            return _by_layer_types(reader, layers)
        period = reader.whole("sliding_window_pattern", default=default_period)
        window = reader.whole("sliding_window", default=4096)
        return [None if (layer + 1) % period == 0 else window for layer in range(layers)]

    return windows


def _by_layer_types(reader: ConfigReader, layers: int) -> list[int | None]:
    types = reader.config["layer_types"]
    known = {"full_attention", "sliding_attention"}
    whole = isinstance(types, list) and len(types) == layers
    if not whole or not all(isinstance(kind, str) and kind in known for kind in types):
        reader.refuse("layer_types", f"a list of {layers} names out of {sorted(known)}")
        return [None] * layers
    window = reader.whole("sliding_window") if "sliding_attention" in types else None
    return [window if kind == "sliding_attention" else None for kind in types]


_GEMMA: dict[str, Any] = {
    "norm": "rms_offset",
    "norms": 4,
    "tied": True,
    "head_dim": 256,
    "activation": "gelu_pytorch_tanh",
}
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(windows=_every_layer),
    "qwen2": Family(qkv_bias=True, windows=_when_asked),
    "qwen3": Family(qk_norm=True, head_dim=128, windows=_when_asked),
    "gemma2": Family(**_GEMMA, windows=_by_pattern(2)),
    "gemma3_text": Family(**_GEMMA, qk_norm=True, windows=_by_pattern(6)),
    "gpt2": Family(
        qkv_bias=True,
        out_bias=True,
        norm="layer",
        gated=False,
        mlp_bias=True,
        tied=True,
        activation="gelu_new",
    ),
}
#: Wrappers whose ``text_config`` is the language model.
WRAPPERS = {"gemma3": "gemma3_text", "mistral3": "mistral"}


def architecture_from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """Return the architecture a Hugging Face config describes.

    Parameters
    ----------
    config
        The parsed ``config.json``; an extra ``_source`` mapping may name title and source.
    name
        Catalogue name or file name, for messages and tables.

    Raises
    ------
    SpecError
        Naming every field that is missing, impossible or of an unsupported family.
    """
    described = config.get("_source")
    described = described if isinstance(described, dict) else {}
    config = _text_part(config, name)
    reader = ConfigReader(config, name)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = [*sorted(FAMILIES), *sorted(WRAPPERS)]
        missing = "not a model type that is modelled"
        raise_if_any([unknown_name(f"{name}: model_type", str(kind), known, missing)])
    family = FAMILIES[str(kind)]
    hidden = reader.whole("hidden_size", "n_embd")
    layers = _layers(reader, family, hidden)
    positions = reader.whole("max_position_embeddings", "n_positions", default=2048)
    architecture = Architecture(
        name=name,
        title=str(described.get("title", name)),
        source=str(described.get("source", name)),
        hidden=hidden,
        vocab=reader.whole("vocab_size"),
        layers=layers,
        tied=reader.flag("tie_word_embeddings", default=family.tied),
        learned_positions=positions if kind == "gpt2" else 0,
        max_positions=positions,
    )
    raise_if_any(reader.problems)
    return architecture


def _text_part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the language model's config out of a multimodal wrapper."""
    kind, inner = config.get("model_type"), config.get("text_config")
    if not isinstance(kind, str) or kind not in WRAPPERS:
        return config
    if not isinstance(inner, dict):
        mend = f"{kind} describes its language model here: a mapping"
        raise SpecError([Problem(f"{name}: text_config", inner, mend)])
    return {"model_type": WRAPPERS[kind], **inner}


def _layers(reader: ConfigReader, family: Family, hidden: int) -> tuple[Layer, ...]:
    count = reader.whole("num_hidden_layers", "n_layer", most=LARGEST_LAYERS)
    mlp = _mlp(reader, family, hidden)
    windows = family.windows(reader, count) if family.windows else [None] * count
    mixers = {
        window: _attention(reader, family, hidden, window) for window in dict.fromkeys(windows)
    }
    return tuple(
        Layer(mixer=mixers[window], mlp=mlp, norm=family.norm, norms=family.norms)
        for window in windows
    )


def _attention(reader: ConfigReader, family: Family, hidden: int, window: int | None) -> Attention:
    heads = reader.whole("num_attention_heads", "n_head")
    kv_heads = reader.whole("num_key_value_heads", default=heads)
    if heads % kv_heads:
        reader.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    given = reader.config.get("head_dim")
    if given is None and family.head_dim is None and hidden % heads and not reader.problems:
        reader.refuse("head_dim", f"hidden size {hidden} is not a multiple of {heads} heads")
    bias = reader.flag("attention_bias", default=family.qkv_bias)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=reader.whole("head_dim", default=family.head_dim or max(hidden // heads, 1)),
        window=window,
        qkv_bias=bias,
        out_bias=family.out_bias or (bias and not family.qkv_bias),
        qk_norm=family.qk_norm,
        rotary=family.norm != "layer",
    )


def _mlp(reader: ConfigReader, family: Family, hidden: int) -> Mlp:
    default = None if family.gated else 4 * hidden
    return Mlp(
        intermediate=reader.whole("intermediate_size", "n_inner", default=default),
        gated=family.gated,
        bias=reader.flag("mlp_bias", default=family.mlp_bias),
        activation=reader.text(
            "hidden_act", "hidden_activation", "activation_function", default=family.activation
        ),
    )
