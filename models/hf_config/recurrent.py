"""State-space and linear mixers of a config, and the layers of models that mix them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture.linear_attention import GatedDeltaNet
from models.architecture.side_by_side import SideBySide
from models.architecture.state_space import Mamba1, Mamba2
from models.hf_config.channel import EXPERTS, dense, periodic, sparse_layers
from models.hf_config.softmax import attention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.architecture import ChannelMixer, Mixer
    from models.hf_config.family import Family, Size
    from models.hf_config.reader import ConfigReader

#: Names of the two kinds of token mixers, old and new.
_HYBRID = {
    "mamba": "recurrent",
    "linear_attention": "recurrent",
    "attention": "attention",
    "full_attention": "attention",
}
_DELTA = {"linear_attention": "recurrent", "full_attention": "attention"}


def mamba2_everywhere(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Mamba-2: one kind of layer, whose heads share twice (``expand``) the hidden size."""
    heads, head_dim = reader.whole("num_heads"), reader.whole("head_dim")
    expand = reader.whole("expand", default=2)
    _must_fill(reader, ("num_heads", "head_dim"), heads * head_dim, expand * size.hidden)
    bias = reader.flag("use_bias", default=False)
    mixer = Mamba2(
        heads=heads,
        head_dim=head_dim,
        state=reader.whole("state_size"),
        groups=_groups(reader, "n_groups", heads),
        conv=reader.whole("conv_kernel"),
        conv_bias=reader.flag("use_conv_bias", default=True),
        bias=bias,
        out_bias=bias,
    )
    return [mixer] * size.layers


def no_mlp(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Return no channel mixer for any layer."""
    return [None] * size.layers


def mamba_everywhere(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Mamba: one kind of layer."""
    mixer = Mamba1(
        inner=reader.whole("expand", default=2) * size.hidden,
        state=reader.whole("state_size"),
        step_rank=_step_rank(reader, "time_step_rank", size.hidden),
        conv=reader.whole("conv_kernel"),
        conv_bias=reader.flag("use_conv_bias", default=True),
        bias=reader.flag("use_bias", default=False),
    )
    return [mixer] * size.layers


def jamba_mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Jamba: attention once a period, Mamba with normalised selections elsewhere."""
    recurrent = Mamba1(
        inner=reader.whole("mamba_expand", default=2) * size.hidden,
        state=reader.whole("mamba_d_state"),
        step_rank=_step_rank(reader, "mamba_dt_rank", size.hidden),
        conv=reader.whole("mamba_d_conv"),
        conv_bias=reader.flag("mamba_conv_bias", default=True),
        bias=reader.flag("mamba_proj_bias", default=False),
        norms=True,
    )
    softmax = attention(reader, family, size.hidden)
    attends = periodic(reader, size.layers, "attn_layer")
    return [softmax if here else recurrent for here in attends]


def jamba_sparse(reader: ConfigReader, layers: int) -> list[bool]:
    """Jamba: experts once a period; one expert is a dense MLP."""
    sparse = periodic(reader, layers, "expert_layer")
    several = reader.whole("num_experts", "num_local_experts") > 1
    return [several and here for here in sparse]


def bamba_mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Bamba: attention in the layers ``attn_layer_indices`` names, Mamba-2 elsewhere."""
    attends = reader.indices("attn_layer_indices", size.layers)
    recurrent = _prefixed_mamba2(reader, size.hidden)
    softmax = attention(reader, family, size.hidden)
    return [softmax if layer in attends else recurrent for layer in range(size.layers)]


def granite_mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Granite 4: ``layer_types`` says which layers attend, with rotation only where asked."""
    kinds = ["recurrent"] * size.layers
    for name in ("layer_types", "layers_block_type"):
        if reader.config.get(name) is not None:
            kinds = reader.kinds(name, size.layers, _HYBRID)
    recurrent = _prefixed_mamba2(reader, size.hidden) if "recurrent" in kinds else None
    softmax = attention(reader, family, size.hidden) if "attention" in kinds else None
    return [softmax if kind == "attention" else recurrent for kind in kinds]


def falcon_mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Falcon-H1: attention beside Mamba-2 in every layer."""
    inner = reader.optional("mamba_d_ssm")
    recurrent = _prefixed_mamba2(
        reader,
        size.hidden,
        inner=inner,
        out_bias=reader.flag("projectors_bias", default=False),
        norm=reader.flag("mamba_rms_norm", default=False),
    )
    softmax = attention(reader, family, size.hidden)
    return [SideBySide(attention=softmax, state_space=recurrent)] * size.layers


def _prefixed_mamba2(
    reader: ConfigReader,
    hidden: int,
    *,
    inner: int | None = None,
    out_bias: bool | None = None,
    norm: bool = True,
) -> Mamba2:
    """Return the mixer that fields beginning with ``mamba_`` describe."""
    heads = reader.whole("mamba_n_heads")
    inner = inner or reader.whole("mamba_expand", default=2) * hidden
    automatic = reader.config.get("mamba_d_head") in (None, "auto")
    head_dim = max(inner // heads, 1) if automatic else reader.whole("mamba_d_head")
    _must_fill(reader, ("mamba_n_heads", "mamba_d_head"), heads * head_dim, inner)
    bias = reader.flag("mamba_proj_bias", default=False)
    return Mamba2(
        heads=heads,
        head_dim=head_dim,
        state=reader.whole("mamba_d_state"),
        groups=_groups(reader, "mamba_n_groups", heads),
        conv=reader.whole("mamba_d_conv"),
        conv_bias=reader.flag("mamba_conv_bias", default=True),
        bias=bias,
        out_bias=bias if out_bias is None else out_bias,
        norm=norm,
    )


def qwen_mixers(reader: ConfigReader, family: Family, size: Size) -> list[Mixer | None]:
    """Qwen3-Next: of every few layers the last attends, the others are gated delta nets."""
    if reader.config.get("layer_types") is not None:
        kinds: Sequence[str] = reader.kinds("layer_types", size.layers, _DELTA)
    else:
        period = reader.whole("full_attention_interval", default=4)
        kinds = ["recurrent" if (n + 1) % period else "attention" for n in range(size.layers)]
    recurrent = GatedDeltaNet(
        key_heads=reader.whole("linear_num_key_heads"),
        key_dim=reader.whole("linear_key_head_dim"),
        value_heads=reader.whole("linear_num_value_heads"),
        value_dim=reader.whole("linear_value_head_dim"),
        conv=reader.whole("linear_conv_kernel_dim"),
    )
    if recurrent.value_heads % recurrent.key_heads:
        mend = f"a multiple of linear_num_key_heads = {recurrent.key_heads}"
        reader.refuse("linear_num_value_heads", mend)
    softmax = attention(reader, family, size.hidden)
    return [softmax if kind == "attention" else recurrent for kind in kinds]


def granite_mlps(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Granite 4: experts beside a shared MLP, or the MLP alone where there are no experts."""
    if reader.whole(*EXPERTS, least=0) == 0:
        return [dense(reader, family, size.hidden, "shared_intermediate_size")] * size.layers
    return sparse_layers(reader, family, size)


def _step_rank(reader: ConfigReader, name: str, hidden: int) -> int:
    """Return the rank of time steps; ``auto`` is a sixteenth of the hidden size, rounded up."""
    return -(-hidden // 16) if reader.config.get(name) == "auto" else reader.whole(name)


def _groups(reader: ConfigReader, name: str, heads: int) -> int:
    groups = reader.whole(name)
    if heads % groups and reader.sound(name):
        reader.refuse(name, f"a divisor of the {heads} heads")
    return groups


def _must_fill(reader: ConfigReader, names: tuple[str, str], width: int, inner: int) -> None:
    """Refuse heads that do not fill the inner width exactly."""
    if width != inner and reader.sound(*names, "hidden_size", "expand", "mamba_expand"):
        reader.refuse(names[0], f"heads x their width must be the inner width {inner}, not {width}")
