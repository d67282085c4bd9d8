"""Softmax attention with grouped key/value heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What the norm of queries and keys is weighted by: one vector of a head's width for all heads
#: (``shared``), a weight for every column (``each``), or nothing.
QkWeights = Literal["shared", "each", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Softmax attention with grouped key/value heads.

    Parameters
    ----------
    heads, kv_heads, head_dim
        Query heads, key/value heads and their width.
    window
        Tokens a query sees, itself included; ``None`` for all before it.
    chunk
        Tokens of the chunks a sequence is cut into, none seen from another one (Llama 4).
    qkv_bias, out_bias
        Whether the projections add a bias.
    qk_norm, qk_weights
        Whether queries and keys are normalised, and by what they are weighted then: per head
        (Qwen3, Gemma 3), per column (OLMo 2, Cohere, StableLM) or not at all (Llama 4).
    rotary, alibi
        Whether positions enter by rotation of queries and keys, or by a slope on the scores.
    rotary_share
        Share of a head's columns that rotate (a quarter in GPT-NeoX).
    sinks
        Whether every head has a score of its own that no value answers (gpt-oss).
    joint
        Whether queries, keys and values come out of one product in plain modules (GPT-2).
    gated
        Whether queries bring a gate for the output along (Qwen3-Next).
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    chunk: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    qk_weights: QkWeights = "shared"
    rotary: bool = True
    alibi: bool = False
    rotary_share: float = 1.0
    sinks: bool = False
    joint: bool = False
    gated: bool = False

    @property
    def value_dim(self) -> int:
        """Columns of a value head: as many as of a query or key head."""
        return self.head_dim

    @property
    def q_width(self) -> int:
        """Columns of the queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of the key (or the value) projection."""
        return self.kv_heads * self.head_dim

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return ((self.heads, "attention heads"),)

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate."""
        return ((self.kv_heads, "key/value heads"),)

    @property
    def query_columns(self) -> int:
        """Columns of the query projection: queries, and their gates if they have any."""
        return self.q_width * (2 if self.gated else 1)

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits: the four projections' matrices."""
        return hidden * (self.query_columns + self.q_width + 2 * self.kv_width)

    def small_params(self, hidden: int) -> int:
        """Return biases, norms of queries and keys, and sinks."""
        qkv = (self.query_columns + 2 * self.kv_width) if self.qkv_bias else 0
        norms = {
            "shared": 2 * self.head_dim,
            "each": self.q_width + self.kv_width,
            "none": 0,
        }
        return (
            qkv
            + (hidden if self.out_bias else 0)
            + (norms[self.qk_weights] if self.qk_norm else 0)
            + (self.heads if self.sinks else 0)
        )

    def whole_row_norms(self, norm: str) -> bool:
        """Return whether one deviation is taken over all heads of a token (OLMo 2).

        An RMSNorm with a weight for every column is; LayerNorms with as many (Cohere, StableLM)
        are of each head.
        """
        return self.qk_norm and self.qk_weights == "each" and norm.startswith("rms")

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "attention"

    @property
    def limits_ring(self) -> str:
        """What keeps keys and values of other ranks from being met block by block, if anything.

        Sinks enter the sum of all scores once: TransformerEngine has them with Ulysses alone.
        Slopes are of a key's place in the sequence, which kernels of a ring's blocks do not know
        (``ring_flash_attn`` asserts that there are none).
        """
        if self.sinks:
            return "attention sinks"
        return "ALiBi" if self.alibi else ""

    @property
    def words(self) -> str:
        """What it is, for tables."""
        parts = [f"{self.heads} heads of {self.head_dim}"]
        parts += [f"{self.kv_heads} key/value heads"] if self.kv_heads != self.heads else []
        parts += [f"window {self.window:,}"] if self.window else []
        parts += [f"chunks of {self.chunk:,}"] if self.chunk else []
        partly = self.rotary and self.rotary_share < 1
        parts += [f"{self.rotary_share:.0%} rotated"] if partly else []
        traits = {
            "q and k normalised": self.qk_norm,
            "ALiBi": self.alibi,
            "no rotation": not (self.rotary or self.alibi),
            "sinks": self.sinks,
            "gated output": self.gated,
            "biases": self.qkv_bias,
        }
        parts += [trait for trait, has in traits.items() if has]
        return f"attention: {', '.join(parts)}"
