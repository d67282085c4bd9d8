"""What a model is made of: a list of typed layers, and the parameters each holds.

A layer is a token mixer (today softmax attention, full or windowed) and a channel mixer (today a
dense MLP). Mixtures of experts, latent attention and state-space mixers are further types beside
these, not further fields on them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

#: ``rms_offset`` scales by one plus its weight, in fp32 (Gemma).
NormKind = Literal["rms", "rms_offset", "layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Softmax attention with grouped key/value heads.

    Parameters
    ----------
    heads, kv_heads, head_dim
        Query heads, key/value heads and their width.
    window
        Tokens a query sees, itself included; ``None`` for all before it.
    qkv_bias, out_bias
        Whether the projections add a bias.
    qk_norm
        Whether queries and keys are RMS-normalised per head (Qwen3, Gemma 3).
    rotary
        Whether positions enter by rotation of queries and keys.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    rotary: bool = True

    @property
    def q_width(self) -> int:
        """Columns of the query projection."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of the key (or the value) projection."""
        return self.kv_heads * self.head_dim

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits: the four projections' matrices."""
        return hidden * (2 * self.q_width + 2 * self.kv_width)

    def small_params(self, hidden: int) -> int:
        """Return biases and head norms."""
        qkv = (self.q_width + 2 * self.kv_width) if self.qkv_bias else 0
        return qkv + (hidden if self.out_bias else 0) + (2 * self.head_dim if self.qk_norm else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """A dense channel mixer: ``down(act(up(x)))`` or, gated, ``down(act(gate(x)) * up(x))``.

    Parameters
    ----------
    intermediate
        Its width.
    gated, bias
        Whether it has a gate, and whether its products add biases.
    activation
        Name of the activation, as Hugging Face configs write it.
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    activation: str = "silu"

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits."""
        return (3 if self.gated else 2) * hidden * self.intermediate

    def small_params(self, hidden: int) -> int:
        """Return biases."""
        return (self.intermediate * (2 if self.gated else 1) + hidden) if self.bias else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer.

    Parameters
    ----------
    mixer, mlp
        Token mixer and channel mixer.
    norm
        RMSNorm (one vector) or LayerNorm (two).
    norms
        2 before the mixers, or 4 with one after each as well (Gemma 2 and 3).
    """

    mixer: Attention
    mlp: Mlp
    norm: NormKind = "rms"
    norms: Literal[2, 4] = 2

    def norm_params(self, hidden: int) -> int:
        """Return the parameters of the layer's norms."""
        return self.norms * hidden * (2 if self.norm == "layer" else 1)

    def params(self, hidden: int) -> int:
        """Return all parameters of the layer."""
        mixers = (self.mixer, self.mlp)
        matrices = sum(part.matrix_params(hidden) for part in mixers)
        return (
            matrices + sum(part.small_params(hidden) for part in mixers) + self.norm_params(hidden)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Architecture:
    """A decoder-only language model; compared by identity, so that it can key caches.

    Parameters
    ----------
    name, title, source
        Catalogue name or file, the name people read, and where the numbers were read.
    hidden, vocab
        Width of the residual stream and rows of the embedding.
    layers
        Every layer, first to last.
    tied
        Whether the output head reuses the embedding.
    learned_positions
        Rows of a learned position table; 0 with rotary positions.
    max_positions
        Longest sequence the published model was made for.
    """

    name: str
    title: str
    source: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied: bool = False
    learned_positions: int = 0
    max_positions: int | None = None

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """Distinct layers, most frequent first."""
        return tuple(layer for layer, _ in Counter(self.layers).most_common())

    @cached_property
    def kind_of_layer(self) -> tuple[int, ...]:
        """For each layer its position in :attr:`kinds`."""
        return tuple(self.kinds.index(layer) for layer in self.layers)

    @property
    def embedding_params(self) -> int:
        """Parameters of the token embedding and the learned positions."""
        return (self.vocab + self.learned_positions) * self.hidden

    @property
    def head_params(self) -> int:
        """Parameters of an untied output head."""
        return 0 if self.tied else self.vocab * self.hidden

    @property
    def final_norm_params(self) -> int:
        """Parameters of the norm before the head."""
        return self.hidden * (2 if self.layers[-1].norm == "layer" else 1)

    @cached_property
    def params(self) -> int:
        """All parameters, a tied head counted once.

        >>> from models import load_architecture
        >>> load_architecture("llama-3.1-8b").params
        8030261248
        """
        body = sum(layer.params(self.hidden) for layer in self.layers)
        return body + self.embedding_params + self.head_params + self.final_norm_params
