"""Softmax attention of a config: its heads, biases, windows and chunks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.architecture.attention import Attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.architecture import Mixer
    from models.hf_config.family import Family, Size
    from models.hf_config.reader import ConfigReader

Windows = list[int | None]
HEADS = ("num_attention_heads", "n_head")
_SLIDING = {"full_attention": "full", "sliding_attention": "sliding"}
_CHUNKED = {"full_attention": "full", "chunked_attention": "chunked"}


def softmax_everywhere(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Return softmax attention for every layer, with the windows of its family."""
    windows = family.windows(reader, size.layers) if family.windows else [None] * size.layers
    whole = attention(reader, family, size.hidden)
    mixers = {window: replace(whole, window=window) for window in dict.fromkeys(windows)}
    return [mixers[window] for window in windows]


def attention(reader: ConfigReader, family: Family, hidden: int) -> Attention:
    """Return the attention of a layer that sees everything."""
    heads = reader.whole(*HEADS)
    kv_heads = reader.whole("num_key_value_heads", default=heads)
    if heads % kv_heads:
        reader.refuse("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(reader, family, hidden, heads),
        qkv_bias=reader.holds(family.qkv_bias),
        out_bias=reader.holds(family.out_bias),
        qk_norm=reader.holds(family.qk_norm),
        qk_weights=family.qk_weights,
        rotary=family.positions == "rotary",
        alibi=family.positions == "alibi",
        rotary_share=_rotary_share(reader, family),
        sinks=family.sinks,
        joint=family.joint_attention,
        gated=family.gated_attention,
    )


def _rotary_share(reader: ConfigReader, family: Family) -> float:
    """Return the share of columns that rotate, where a family knows of one."""
    if family.rotary_share is None:
        return 1.0
    names = "partial_rotary_factor", "rotary_pct"
    nested = reader.config.get("rope_parameters")
    given = nested.get(names[0]) if isinstance(nested, dict) else None
    return reader.share(*names, default=family.rotary_share if given is None else given)


def _head_dim(reader: ConfigReader, family: Family, hidden: int, heads: int) -> int:
    by_default = family.head_dim or max(hidden // heads, 1)
    given = reader.optional("head_dim", "attention_head_dim")
    if not reader.sound("hidden_size", "n_embd", "head_dim", *HEADS):
        return given or by_default
    if given is None and family.head_dim is None and hidden % heads:
        reader.refuse("head_dim", f"hidden size {hidden} is not a multiple of {heads} heads")
    if given is not None and family.square and given * heads != hidden:
        mend = f"{heads} heads share the hidden size {hidden}: leave it out, or make it fit"
        reader.refuse("head_dim", mend)
    return given or by_default


def every_layer(reader: ConfigReader, layers: int) -> Windows:
    """Mistral: ``sliding_window`` holds for all layers, ``null`` for none."""
    return [reader.optional("sliding_window")] * layers


def every_layer_when_asked(reader: ConfigReader, layers: int) -> Windows:
    """Qwen3-MoE: a window in all layers, only with ``use_sliding_window``."""
    asked = reader.flag("use_sliding_window", default=False)
    return [reader.whole("sliding_window") if asked else None] * layers


def late_when_asked(reader: ConfigReader, layers: int) -> Windows:
    """Qwen: a window only with ``use_sliding_window``, from layer ``max_window_layers`` on."""
    if not reader.flag("use_sliding_window", default=False):
        return [None] * layers
    if "layer_types" in reader.config:
        return by_layer_types(reader, layers)
    full = reader.whole("max_window_layers", default=28)
    window = reader.whole("sliding_window")
    return [None if layer < full else window for layer in range(layers)]


def early_when_asked(reader: ConfigReader, layers: int) -> Windows:
    """Qwen2-MoE: with ``use_sliding_window`` every other layer before ``max_window_layers``."""
    if not reader.flag("use_sliding_window", default=False):
        return [None] * layers
    if reader.config.get("layer_types") is not None:
        return by_layer_types(reader, layers)
    until = reader.whole("max_window_layers", default=28)
    window = reader.whole("sliding_window")
    return [window if layer < until and layer % 2 == 0 else None for layer in range(layers)]


def by_pattern(default_period: int, default_window: int | None = 4096) -> Callable[..., Windows]:
    """Gemma and others: of every `period` layers the last one sees everything."""

    def windows(reader: ConfigReader, layers: int) -> Windows:
        if reader.config.get("layer_types"):
            return by_layer_types(reader, layers)
        period = reader.whole("sliding_window_pattern", default=default_period)
        window = reader.whole("sliding_window", default=default_window)
        return [None if (layer + 1) % period == 0 else window for layer in range(layers)]

    return windows


def by_layer_types(reader: ConfigReader, layers: int) -> Windows:
    """Return windows where ``layer_types`` has ``sliding_attention``."""
    kinds = reader.kinds("layer_types", layers, _SLIDING)
    window = reader.whole("sliding_window") if "sliding" in kinds else None
    return [window if kind == "sliding" else None for kind in kinds]


def chunked_or_unrotated(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Llama 4: chunks where positions rotate, all tokens where they do not."""
    whole = attention(reader, family, size.hidden)
    chunk = reader.optional("attention_chunk_size")
    rotated = _rotated(reader, size.layers)
    kinds = ["chunked" if rotates else "full" for rotates in rotated]
    if reader.config.get("layer_types") is not None:
        kinds = reader.kinds("layer_types", size.layers, _CHUNKED)
    return [
        replace(
            whole,
            chunk=chunk if kind == "chunked" else None,
            rotary=rotates,
            qk_norm=whole.qk_norm and rotates,
        )
        for kind, rotates in zip(kinds, rotated, strict=True)
    ]


def _rotated(reader: ConfigReader, layers: int) -> list[bool]:
    """Return ``no_rope_layers``, whose ones are layers *with* rotation."""
    given = reader.config.get("no_rope_layers")
    if not given:
        period = reader.whole("no_rope_layer_interval", default=4)
        return [(layer + 1) % period != 0 for layer in range(layers)]
    if not isinstance(given, list) or len(given) != layers or any(x not in (0, 1) for x in given):
        reader.refuse("no_rope_layers", f"a list of {layers} ones (rotation) and zeros (none)")
        return [True] * layers
    return [bool(rotates) for rotates in given]
