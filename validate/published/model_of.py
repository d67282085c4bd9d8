"""The model of a published run: built of what its row says, or one of the catalogue."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from models.architecture import Architecture, Attention, Layer, Mlp, Moe
from models.catalogue import load_architecture
from validate.published.attention_of import attention_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.architecture import Mixer, NormKind
    from validate.published.row import Row

#: Models whose layers a row cannot say: latent attention, windows in some layers, chunks, states.
CATALOGUE = {
    r"deepseek-?v3": "deepseek-v3",
    r"gpt-oss-120b": "gpt-oss-120b",
    r"gpt-oss-20b": "gpt-oss-20b",
    r"llama-?4.*maverick": "llama-4-maverick",
    r"llama-?4.*(scout|17b-16e)": "llama-4-scout",
    r"gemma-?2-27b": "gemma-2-27b",
    r"gemma-?3-27b": "gemma-3-27b",
    r"gemma-?3-1b": "gemma-3-1b",
    r"nemotron-?h-8b": "nemotron-h-8b",
    r"qwen-?3-next-80b": "qwen3-next-80b-a3b",
    r"jamba-v0\.1": "jamba-v0.1",
    r"mamba-?2-2\.7b": "mamba2-2.7b",
    r"mistral-7b": "mistral-7b",
}
#: Models of rows that name one and do not give all its sizes.
NAMED = {
    r"llama-?2-7b": "llama-2-7b",
    r"llama-?2-13b": "llama-2-13b",
    r"llama-?2-70b": "llama-2-70b",
    r"llama-?3(\.1)?-8b": "llama-3.1-8b",
    r"llama-?3(\.1)?-70b": "llama-3.1-70b",
    r"llama-?3(\.1)?-405b": "llama-3.1-405b",
    r"mixtral-8x7b": "mixtral-8x7b",
    r"mixtral-8x22b": "mixtral-8x22b",
    r"qwen2\.5-7b": "qwen2.5-7b",
    r"qwen2\.5-72b": "qwen2.5-72b",
    r"qwen3-4b": "qwen3-4b",
    r"qwen3-8b": "qwen3-8b",
    r"qwen3-32b": "qwen3-32b",
    r"qwen3-30b-a3b": "qwen3-30b-a3b",
    r"qwen3-235b-a22b": "qwen3-235b-a22b",
    r"llama-?3\.2-1b": "llama-3.2-1b",
    r"llama-?3\.2-3b": "llama-3.2-3b",
    r"glm-4\.5-air": "glm-4.5-air",
    r"glm-4\.5": "glm-4.5",
    r"yi-34b": "yi-34b",
}
#: Sizes that no model is built without.
SIZES = ("layers", "hidden", "heads", "vocab")
#: What models are called that are not whole.
SHORTENED = ("truncated", "proxy", "reduced")
#: No model has more layers, nor experts of a layer: they are held, or drawn, one by one.
MOST = 10_000
_BETWEEN = re.compile(r"[\s_]+")


def model_of(row: Row) -> Architecture:
    """Return the model of a row.

    Raises
    ------
    UnexpressedError
        If the row does not say enough, or predicts tokens further ahead than the model known.
    """
    found = _catalogued(row) or _built(_sizes(row))
    depth, most = row.count("predict_depth", 0), len(found.predict_layers)
    if depth > most:
        raise UnexpressedError(
            f"{depth} layers of multi-token prediction of {found.title}, of which {most} are known"
        )
    return found.predicting(depth)


def _catalogued(row: Row) -> Architecture | None:
    """Return a model of the catalogue, as deep as the row says; None if it is not there."""
    name = _BETWEEN.sub("-", row.text("model").lower())
    known = _first(CATALOGUE, name) or _first(NAMED, name)
    if known is None or (known in NAMED.values() and _sized(row, known)):
        return None
    if any(word in name for word in SHORTENED) and not row.text("layers"):
        raise UnexpressedError(f"a shortened {known}")
    whole = load_architecture(known)
    hidden, layers = row.count("hidden", whole.hidden), row.count("layers", len(whole.layers))
    if hidden != whole.hidden or layers > len(whole.layers):
        raise UnexpressedError(f"not the {known} that is known: {layers} layers, {hidden} wide")
    if layers == len(whole.layers):
        return whole
    with_experts = sum(isinstance(layer.mlp, Moe) for layer in whole.layers[:layers])
    if row.text("expert_layers"):
        with_experts = _expert_layers(row, layers)
    return _shortened(known, layers, with_experts)


def _first(names: Mapping[str, str], name: str) -> str | None:
    return next((known for pattern, known in names.items() if re.match(pattern, name)), None)


def _sized(row: Row, known: str) -> bool:
    """Return whether a row gives all sizes of a model, that of its experts too."""
    mixture = any(isinstance(layer.mlp, Moe) for layer in load_architecture(known).kinds)
    return all(row.text(name) for name in (*SIZES, *(("experts",) if mixture else ())))


@cache
def _shortened(known: str, layers: int, with_experts: int) -> Architecture:
    """Return a model of the catalogue with fewer layers, so many of them with experts."""
    whole = load_architecture(known)
    experts = [layer for layer in whole.layers if isinstance(layer.mlp, Moe)]
    dense = [layer for layer in whole.layers if not isinstance(layer.mlp, Moe)]
    plain = layers - with_experts
    if with_experts > len(experts) or plain > len(dense):
        raise UnexpressedError(f"{plain} layers of {known} without experts, {with_experts} with")
    alike = whole.layers[:layers]
    if sum(isinstance(layer.mlp, Moe) for layer in alike) != with_experts:
        alike = (*dense[:plain], *experts[:with_experts])
    return replace(whole, layers=alike)


class _Sizes(NamedTuple):
    """What a model is built of, so that equal rows share one."""

    name: str
    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    seq_len: int
    gated: bool
    tied: bool
    experts: int
    top_k: int
    expert_ffn: int
    shared_ffn: int
    dense_layers: int


def _sizes(row: Row) -> _Sizes:
    layers, hidden, heads = (row.count(name) for name in ("layers", "hidden", "heads"))
    if heads > hidden and not row.text("head_dim"):
        raise UnexpressedError(f"{heads} heads cannot share a width of {hidden}")
    ffn, experts = row.count("ffn", 4 * hidden), row.count("experts", 0)
    for name, found in (("layers", layers), ("experts", experts)):
        if found > MOST:
            raise UnexpressedError(f"{name} cannot be {found}")
    return _Sizes(
        name=row.text("model"),
        kind=row.text("attention", "MHA"),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=row.count("kv_heads", heads),
        head_dim=row.count("head_dim", hidden // heads),
        ffn=ffn,
        vocab=row.count("vocab"),
        seq_len=row.count("seq_len"),
        gated=bool(row.count("gated", 0)),
        tied=bool(row.count("tied", 0)),
        experts=experts,
        top_k=_top_k(row, experts) if experts else 0,
        expert_ffn=row.count("expert_ffn", ffn) if experts else 0,
        shared_ffn=row.count("shared_ffn", 0),
        dense_layers=layers - _expert_layers(row, layers) if experts else layers,
    )


def _top_k(row: Row, experts: int) -> int:
    """Return how many of the experts a token visits."""
    found = row.count("top_k")
    if found > experts:
        raise UnexpressedError(f"a token cannot visit {found} of {experts} experts")
    return found


def _expert_layers(row: Row, layers: int) -> int:
    """Return how many layers have experts: ``58 of 61``, ``all`` or a number."""
    said = row.text("expert_layers", "all")
    some = re.match(r"(\d+)( of \d+|$)", said)
    if said != "all" and not some:
        raise UnexpressedError(f"layers with experts not expressed: {said[:40]}")
    found = int(some[1]) if some else layers
    if found > layers:
        raise UnexpressedError(f"{found} layers with experts of {layers}")
    return found


@cache
def _built(sizes: _Sizes) -> Architecture:
    """Return a model of some sizes; the same object for the same, as models key caches."""
    learned = "learned" in sizes.kind or sizes.name.lower().startswith("gpt")
    mixers = attention_of(sizes.kind, sizes.heads, sizes.kv_heads, sizes.head_dim)
    if learned:
        mixers = tuple(_placed(mixer) for mixer in mixers)
    mlp = Mlp(
        intermediate=sizes.ffn,
        gated=sizes.gated,
        activation="silu" if sizes.gated else "gelu",
        bias=not sizes.gated,
    )
    norm: NormKind = "rms" if sizes.gated else "layer"
    experts = _mixture(sizes, mlp) if sizes.experts else mlp
    return Architecture(
        name=sizes.name,
        title=sizes.name,
        source="a table of published runs",
        hidden=sizes.hidden,
        vocab=sizes.vocab,
        layers=tuple(
            Layer(mixer=mixer, mlp=mlp if at < sizes.dense_layers else experts, norm=norm)
            for at, mixer in zip(range(sizes.layers), cycle(mixers), strict=False)
        ),
        tied=sizes.tied,
        learned_positions=sizes.seq_len if learned else 0,
    )


def _placed(mixer: Mixer) -> Mixer:
    """Return attention whose positions are learned."""
    return replace(mixer, rotary=False) if isinstance(mixer, Attention) else mixer


def _mixture(sizes: _Sizes, mlp: Mlp) -> Moe:
    shared = replace(mlp, intermediate=sizes.shared_ffn) if sizes.shared_ffn else None
    return Moe(
        experts=sizes.experts,
        top_k=sizes.top_k,
        expert=replace(mlp, intermediate=sizes.expert_ffn),
        shared=shared,
    )
