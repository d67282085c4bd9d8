"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Softmax attention whose keys and values unfold from one narrow vector per token.

    Parameters
    ----------
    heads
        Query heads; every one has its own unfolded key and value.
    q_rank, kv_rank
        Widths of what queries, and keys and values, unfold from; queries of `q_rank` None are
        projected at once.
    nope_dim, rope_dim
        Columns of a query or key head without and with rotation; the rotated ones of keys are
        shared by all heads.
    value_dim
        Columns of a value head.
    bias
        Whether the projections into the latent vectors and out of attention add a bias.
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    bias: bool = False

    @property
    def kv_heads(self) -> int:
        """Key and value heads once unfolded: every query head has its own."""
        return self.heads

    @property
    def head_dim(self) -> int:
        """Columns of a query or key head, rotated ones included."""
        return self.nope_dim + self.rope_dim

    @property
    def window(self) -> None:
        """A query sees all tokens before it."""
        return

    @property
    def chunk(self) -> None:
        """No chunks hide each other."""
        return

    @property
    def q_width(self) -> int:
        """Columns of the queries."""
        return self.heads * self.head_dim

    @property
    def latent_width(self) -> int:
        """Columns of a token's narrow vectors: of queries, of keys and values, the rotated key."""
        return (self.q_rank or 0) + self.kv_rank + self.rope_dim

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return ((self.heads, "attention heads"),)

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate: nothing, every head has its own keys."""
        return ()

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits, by heads."""
        unfold_q = (hidden if self.q_rank is None else self.q_rank) * self.q_width
        unfold_kv = self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
        return unfold_q + unfold_kv + self.heads * self.value_dim * hidden

    def small_params(self, hidden: int) -> int:
        """Return what has no heads: projections into latent vectors, their norms, biases."""
        biases = self._bias_params(hidden)
        return hidden * self.latent_width + (self.q_rank or 0) + self.kv_rank + biases

    def _bias_params(self, hidden: int) -> int:
        return self.latent_width + hidden if self.bias else 0

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "latent attention"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        ranks = f"{self.kv_rank} for keys and values"
        ranks = f"{self.q_rank} for queries, {ranks}" if self.q_rank else ranks
        return (
            f"latent attention: {self.heads} heads of {self.nope_dim} + {self.rope_dim} rotated, "
            f"values of {self.value_dim}, latent {ranks}"
        )
