"""How one ``model_type`` is read: data, and functions that give its layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from models.hf_config.channel import dense_everywhere
from models.hf_config.softmax import softmax_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.architecture import ChannelMixer, Layer, Mixer, NormKind
    from models.architecture.attention import QkWeights
    from models.hf_config.reader import ConfigReader, Flag


@dataclass(frozen=True, slots=True)
class Size:
    """Width of the residual stream, and layers."""

    hidden: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How one ``model_type`` differs from a plain Llama.

    Parameters
    ----------
    mixers, mlps
        Give the token and channel mixer of every layer.
    windows
        Gives the window of every layer with softmax attention; None for none.
    sparse
        Gives which layers have experts; needs `moe`, which gives what they have then.
    layers
        Gives the number of layers, where another field says it.
    predict
        Gives layers of multi-token prediction out of the model's own.
    qkv_bias, out_bias, mlp_bias, qk_norm, qk_weights, sinks, joint_attention, gated_attention
        As :class:`~models.architecture.Attention` and :class:`~models.architecture.Mlp` have them.
    positions
        How positions enter.
    rotary_share
        Share of a head's columns that rotate where a config does not say; None where it cannot.
    head_dim
        Width of heads where a config does not give it; None for hidden size over heads.
    square
        Whether heads times their width must be the hidden size.
    gated, activation, joint, four_times
        The MLP's gate, its activation where not given, whether gate and up are one product, and
        whether its width is by default four times the hidden size.
    norm, norms, norms_after, parallel, parallel_norms
        As :class:`~models.architecture.Layer` has them; `parallel_norms` where `parallel` holds.
    tied
        Whether the head is tied where a config does not say.
    embedding_norm
        Whether the embedding has a norm.
    spare_positions
        Rows of a learned position table beyond the longest sequence.
    fixed, times_hidden
        Fields that are read with one value only, or as a multiple of the hidden size only.
    """

    mixers: Callable[[ConfigReader, Family, Size], list[Mixer | None]] = softmax_everywhere
    mlps: Callable[[ConfigReader, Family, Size], list[ChannelMixer | None]] = dense_everywhere
    windows: Callable[[ConfigReader, int], list[int | None]] | None = None
    sparse: Callable[[ConfigReader, int], list[bool]] | None = None
    moe: Callable[[ConfigReader, Family, int], ChannelMixer] | None = None
    layers: Callable[[ConfigReader], int] | None = None
    predict: Callable[[ConfigReader, tuple[Layer, ...]], tuple[Layer, ...]] | None = None
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    qk_norm: Flag = False
    qk_weights: QkWeights = "shared"
    sinks: bool = False
    joint_attention: bool = False
    gated_attention: bool = False
    positions: Literal["rotary", "learned", "alibi", "none"] = "rotary"
    rotary_share: float | None = None
    head_dim: int | None = None
    square: bool = False
    gated: bool = True
    activation: str = "silu"
    joint: bool = False
    four_times: bool = False
    norm: NormKind = "rms"
    norms: Literal[1, 2, 4] = 2
    norms_after: bool = False
    parallel: Flag = False
    parallel_norms: Literal[1, 2] = 2
    tied: bool = False
    embedding_norm: bool = False
    spare_positions: int = 0
    fixed: Mapping[str, object] = field(default_factory=dict)
    times_hidden: Mapping[str, int] = field(default_factory=dict)
