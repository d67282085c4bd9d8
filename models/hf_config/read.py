"""From a config to an architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.architecture import Architecture, Layer
from models.hf_config.asked import Asked
from models.hf_config.families import FAMILIES
from models.hf_config.family import Size
from models.hf_config.reader import LARGEST_LAYERS, LAYERS, ConfigReader
from models.hf_config.wrappers import SAME_AS, WRAPPERS, text_part
from topologies.errors import raise_if_any, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.hf_config.family import Family

#: More tokens than any sequence that a model was made for (Llama 4 Scout's are 10 million).
LONGEST = 1_000_000_000
#: Methods that keep weights as small floating-point numbers with scales: published so by DeepSeek
#: (fp8), Meta (fbgemm_fp8) and OpenAI (mxfp4), and turned back to bf16 before training.
DEQUANTISED = frozenset({"fp8", "fbgemm_fp8", "mxfp4"})
_HIDDEN = ("hidden_size", "n_embd", "n_embed")
_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")


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
    reader = ConfigReader(Asked(text_part(config, name)), name)
    family = _family(reader)
    layers = family.layers(reader) if family.layers else reader.whole(*LAYERS, most=LARGEST_LAYERS)
    size = Size(reader.whole(*_HIDDEN), layers)
    reader.fixed(family.fixed)
    reader.fixed({name: times * size.hidden for name, times in family.times_hidden.items()})
    made = _layers(reader, family, size)
    positions = _max_positions(reader, family)
    architecture = Architecture(
        name=name,
        title=str(described.get("title", name)),
        source=str(described.get("source", name)),
        hidden=size.hidden,
        vocab=reader.whole("vocab_size"),
        layers=made,
        predict_layers=family.predict(reader, made) if family.predict else (),
        tied=reader.flag("tie_word_embeddings", default=family.tied),
        embedding_norm=family.embedding_norm,
        learned_positions=(positions or 0) + family.spare_positions
        if family.positions == "learned"
        else 0,
        max_positions=positions,
        notes=_quantisation(reader),
    )
    reader.no_slips()
    raise_if_any(reader.problems)
    return architecture


def _family(reader: ConfigReader) -> Family:
    """Return the family of a config.

    Raises
    ------
    SpecError
        If it is none that is read.
    """
    kind = reader.config.get("model_type")
    kind = SAME_AS.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = [*sorted(FAMILIES), *sorted(WRAPPERS)]
        missing = "not a model type that is modelled"
        raise_if_any([unknown_name(f"{reader.where}: model_type", str(kind), known, missing)])
    return FAMILIES[str(kind)]


def _layers(reader: ConfigReader, family: Family, size: Size) -> tuple[Layer, ...]:
    """Return every layer; equal ones are one object."""
    parallel = reader.holds(family.parallel)
    pairs = list(
        zip(family.mixers(reader, family, size), family.mlps(reader, family, size), strict=True)
    )
    made = {
        (mixer, mlp): Layer(
            mixer=mixer,
            mlp=mlp,
            norm=family.norm,
            norms=(family.parallel_norms if parallel else family.norms) if mixer and mlp else 1,
            norms_after=family.norms_after,
            parallel=parallel,
        )
        for mixer, mlp in dict.fromkeys(pairs)
    }
    return tuple(made[pair] for pair in pairs)


def _max_positions(reader: ConfigReader, family: Family) -> int | None:
    """Return the longest sequence; state-space models and ALiBi have none by themselves."""
    if family.positions in ("none", "alibi"):
        there = any(reader.config.get(name) is not None for name in _POSITIONS)
        return reader.whole(*_POSITIONS, most=LONGEST) if there else None
    return reader.whole(*_POSITIONS, default=2048, most=LONGEST)


def _quantisation(reader: ConfigReader) -> tuple[str, ...]:
    """Return a note on weights that can be turned back to bf16; others are refused."""
    given = reader.config.get("quantization_config")
    if given is None:
        return ()
    method = given.get("quant_method") if isinstance(given, dict) else None
    if isinstance(method, str) and method in DEQUANTISED:
        kept = "turned back to bf16 they are trained in the precision asked for"
        return (f"published with weights in {method}: {kept}; parameters are counted one by one",)
    named = method if isinstance(method, str) else "a method without a name"
    mend = "weights so quantised are not trained: give the config they were made from"
    reader.refuse("quantization_config", mend, shown=named)
    return ()
