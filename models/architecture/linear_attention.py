"""Linear attention: the gated delta net (arXiv:2412.06464) as Qwen3-Next has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet:
    """A recurrent mixer that corrects what its state answers to a key, and forgets by a gate.

    Parameters
    ----------
    key_heads, key_dim
        Heads of queries and keys, and their width.
    value_heads, value_dim
        Heads of values, gates and states, and their width.
    conv
        Tokens the convolution over queries, keys and values sees.
    """

    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int
    conv: int

    @property
    def key_width(self) -> int:
        """Columns of the queries (or the keys)."""
        return self.key_heads * self.key_dim

    @property
    def value_width(self) -> int:
        """Columns of the values (or their gates)."""
        return self.value_heads * self.value_dim

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return ((self.value_heads, "value heads"),)

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate."""
        return ((self.key_heads, "key heads"),)

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits: q, k, v, gate, two rates, output."""
        into = 2 * self.key_width + 2 * self.value_width + 2 * self.value_heads
        return hidden * (into + self.value_width)

    def small_params(self, hidden: int) -> int:
        """Return convolution, the norm of a head, and of each head decay and step bias."""
        convolved = 2 * self.key_width + self.value_width
        return convolved * self.conv + self.value_dim + 2 * self.value_heads

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "gated-delta-net"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        return (
            f"gated delta net: {self.key_heads} key heads of {self.key_dim}, "
            f"{self.value_heads} value heads of {self.value_dim}, convolution over {self.conv}"
        )
