"""Nemotron-H: layers of one mixer each, by a pattern of letters or a list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture.mlp import Mlp
from models.architecture.moe import Moe
from models.architecture.state_space import Mamba2
from models.hf_config.channel import activation, dense, expert_counts, expert_groups
from models.hf_config.reader import LARGEST_LAYERS
from models.hf_config.softmax import attention

if TYPE_CHECKING:
    from models.architecture import ChannelMixer, Mixer
    from models.hf_config.family import Family, Size
    from models.hf_config.reader import ConfigReader

_LETTERS = {"M": "recurrent", "*": "attention", "-": "mlp", "E": "moe"}
_NAMES = {
    "mamba": "recurrent",
    "linear_attention": "recurrent",
    "attention": "attention",
    "full_attention": "attention",
    "mlp": "mlp",
    "moe": "moe",
}
_LISTS = ("layers_block_type", "layer_types")


def layer_count(reader: ConfigReader) -> int:
    """Return how many layers the pattern has; ``num_hidden_layers`` must agree."""
    layers = len(_kinds(reader))
    if reader.config.get("num_hidden_layers") is not None:
        said = reader.whole("num_hidden_layers", most=LARGEST_LAYERS)
        if said != layers and reader.sound("num_hidden_layers", "hybrid_override_pattern", *_LISTS):
            reader.refuse("num_hidden_layers", f"the {layers} layers of the pattern, or left out")
    return layers


def mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Return the token mixers: Mamba-2 or attention, None where a layer has an MLP or experts."""
    kinds = _kinds(reader)
    made: dict[str, Mixer] = {}
    if "recurrent" in kinds:
        made["recurrent"] = _mamba2(reader)
    if "attention" in kinds:
        made["attention"] = attention(reader, family, size.hidden)
    return [made.get(kind) for kind in kinds]


def mlps(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Return the channel mixers, None where a layer has a token mixer."""
    kinds = _kinds(reader)
    made: dict[str, ChannelMixer] = {}
    if "mlp" in kinds:
        made["mlp"] = dense(reader, family, size.hidden)
    if "moe" in kinds:
        made["moe"] = _moe(reader, family)
    return [made.get(kind) for kind in kinds]


def _kinds(reader: ConfigReader) -> list[str]:
    """Return what every layer is; one attention layer where the config cannot be read."""
    for name in _LISTS:
        given = reader.config.get(name)
        if given is not None:
            layers = len(given) if isinstance(given, list) and given else 1
            return reader.kinds(name, layers, _NAMES)
    pattern = reader.config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(_LETTERS):
        mend = "one letter a layer: M (Mamba-2), * (attention), - (MLP) or E (experts)"
        reader.refuse("hybrid_override_pattern", mend, shown=pattern or "missing")
        return ["attention"]
    return [_LETTERS[letter] for letter in pattern]


def _mamba2(reader: ConfigReader) -> Mamba2:
    heads = reader.whole("mamba_num_heads")
    groups = reader.whole("n_groups", "mamba_n_groups")
    if heads % groups and reader.sound("mamba_num_heads", "n_groups", "mamba_n_groups"):
        reader.refuse("n_groups", f"a divisor of the {heads} heads")
    conv_bias = "use_conv_bias" if "use_conv_bias" in reader.config else "mamba_conv_bias"
    bias = reader.flag("use_bias", default=False)
    return Mamba2(
        heads=heads,
        head_dim=reader.whole("mamba_head_dim"),
        state=reader.whole("ssm_state_size"),
        groups=groups,
        conv=reader.whole("conv_kernel", "mamba_d_conv"),
        conv_bias=reader.flag(conv_bias, default=True),
        bias=bias,
        out_bias=bias,
    )


def _moe(reader: ConfigReader, family: Family) -> Moe:
    """Return experts without gates, in a narrower stream where ``moe_latent_size`` is given."""
    experts, top_k = expert_counts(reader)
    groups, used = expert_groups(reader, experts, top_k)
    act = activation(reader, family)
    bias = reader.holds(family.mlp_bias)
    return Moe(
        experts=experts,
        top_k=top_k,
        expert=Mlp(intermediate=reader.whole("moe_intermediate_size"), gated=False, activation=act),
        shared=Mlp(
            intermediate=reader.whole("moe_shared_expert_intermediate_size"),
            gated=False,
            bias=bias,
            activation=act,
        ),
        router="sigmoid",
        groups=groups,
        groups_used=used,
        latent=reader.optional("moe_latent_size"),
        latent_bias=bias,
    )
