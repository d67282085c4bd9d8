"""One layer: a token mixer, a channel mixer and their norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.architecture.attention import Attention
from models.architecture.latent_attention import LatentAttention
from models.architecture.linear_attention import GatedDeltaNet
from models.architecture.mlp import Mlp
from models.architecture.moe import Moe
from models.architecture.side_by_side import SideBySide
from models.architecture.state_space import Mamba1, Mamba2

Recurrent = GatedDeltaNet | Mamba1 | Mamba2
Mixer = Attention | LatentAttention | Recurrent | SideBySide
ChannelMixer = Mlp | Moe
#: ``rms_wide`` scales in fp32 (OLMo 2), ``rms_offset`` by one plus its weight as well (Gemma),
#: ``layer_offset`` likewise (Nemotron's LayerNorm1p); ``layer_no_bias`` only scales (Cohere).
NormKind = Literal["rms", "rms_wide", "rms_offset", "layer", "layer_offset", "layer_no_bias"]
#: Vectors of a hidden size that a norm holds.
NORM_VECTORS: dict[NormKind, int] = {
    "rms": 1,
    "rms_wide": 1,
    "rms_offset": 1,
    "layer": 2,
    "layer_offset": 2,
    "layer_no_bias": 1,
}

NORM_NAMES: dict[NormKind, str] = {
    "rms": "RMSNorm",
    "rms_wide": "RMSNorm",
    "rms_offset": "RMSNorm of 1 + weight",
    "layer": "LayerNorm",
    "layer_offset": "LayerNorm of 1 + weight",
    "layer_no_bias": "LayerNorm without bias",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer.

    Parameters
    ----------
    mixer, mlp
        Token mixer and channel mixer; a layer may lack one of them (Mamba-2, Nemotron-H).
    norm
        RMSNorm (one vector) or LayerNorm (two).
    norms
        1 before the only mixer or before both at once, 2 before the mixers, or 4 with one after
        each as well (Gemma 2 and 3).
    norms_after
        Whether the two norms come after the mixers instead (OLMo 2).
    parallel
        Whether both mixers read the same stream, their outputs added at once (GPT-NeoX).
    predicts
        Words of the vocabulary, if the layer predicts one token more than the one before it
        (DeepSeek-V3's multi-token prediction); 0 for any other layer.
    """

    mixer: Mixer | None
    mlp: ChannelMixer | None
    norm: NormKind = "rms"
    norms: Literal[1, 2, 4] = 2
    norms_after: bool = False
    parallel: bool = False
    predicts: int = 0

    @property
    def attention(self) -> Attention:
        """The softmax attention of a layer that is known to have it, alone or side by side.

        Raises
        ------
        TypeError
            If the mixer is of another type; planning refuses such layers before it asks.
        """
        mixer = self.mixer.attention if isinstance(self.mixer, SideBySide) else self.mixer
        if not isinstance(mixer, Attention):
            raise TypeError(f"not softmax attention: {self.mixer}")
        return mixer

    @property
    def normed_after(self) -> bool:
        """Whether a norm comes between each mixer and the residual."""
        return self.norms_after or self.norms == 4

    def normed_before(self, *, first: bool) -> bool:
        """Return whether a norm comes before a mixer: the layer's first, or its second.

        A second one in parallel may read what the norm before the first one gives both.
        """
        return not self.norms_after and (first or self.norms > 1)

    def hides_tokens(self, seq_len: int) -> bool:
        """Return whether a window or chunks hide tokens that come before a query.

        A window or chunk of the whole sequence or more is the causal mask.
        """
        mixer = self.mixer.attention if isinstance(self.mixer, SideBySide) else self.mixer
        if not isinstance(mixer, Attention):
            return False
        seen = mixer.window if mixer.chunk is None else mixer.chunk
        return seen is not None and seen < seq_len

    @property
    def parts(self) -> tuple[Mixer | ChannelMixer, ...]:
        """The mixers it has."""
        return tuple(part for part in (self.mixer, self.mlp) if part is not None)

    @property
    def norm_words(self) -> str:
        """What norms it has and where, for tables."""
        where = {1: "one before", 2: "before each mixer", 4: "before and after each mixer"}
        place = "after each mixer" if self.norms_after else where[self.norms]
        return f"{NORM_NAMES[self.norm]}, {place}{', mixers in parallel' * self.parallel}"

    def norm_params(self, hidden: int) -> int:
        """Return the parameters of the layer's norms."""
        return self.norms * hidden * NORM_VECTORS[self.norm]

    def params(self, hidden: int) -> int:
        """Return all parameters of the layer."""
        parts = sum(part.matrix_params(hidden) + part.small_params(hidden) for part in self.parts)
        joining = self.joining_params(hidden) if self.predicts else 0
        return parts + self.norm_params(hidden) + joining

    def joining_params(self, hidden: int) -> int:
        """Return what a layer of multi-token prediction has beside a layer's parameters.

        The product of the joined pair, their two norms, and the norm before the head.
        """
        return 2 * hidden**2 + 3 * hidden * NORM_VECTORS[self.norm]

    def active_params(self, hidden: int) -> int:
        """Return parameters a token uses: all but those of experts it does not visit."""
        spared = 0 if self.mlp is None else _spared(self.mlp, hidden)
        return self.params(hidden) - spared


def _spared(mlp: ChannelMixer, hidden: int) -> int:
    whole = mlp.matrix_params(hidden) + mlp.small_params(hidden)
    return whole - mlp.active_params(hidden)
