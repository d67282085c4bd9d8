"""State-space mixers: Mamba (arXiv:2312.00752) and Mamba-2 (arXiv:2405.21060)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """A Mamba-2 mixer: heads of scalar decay, a short convolution before, a gated norm after.

    Parameters
    ----------
    heads, head_dim
        Heads and their width; together the inner width.
    state
        Numbers a column of a head keeps of the past.
    groups
        Groups of heads that share their ways into and out of the state.
    conv
        Tokens the convolution sees.
    conv_bias, bias, out_bias
        Whether convolution, input and output projection add a bias.
    norm
        Whether the output is normalised before its projection.
    """

    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int
    conv_bias: bool = True
    bias: bool = False
    out_bias: bool = False
    norm: bool = True

    @property
    def inner(self) -> int:
        """Columns of all heads."""
        return self.heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Columns that pass the convolution: the heads', and each group's two of the state."""
        return self.inner + 2 * self.groups * self.state

    @property
    def projected(self) -> int:
        """Columns of the input projection: gate, what is convolved, a time step per head."""
        return self.inner + self.convolved + self.heads

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return ((self.heads, "state-space heads"),)

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate."""
        return ((self.groups, "groups of state-space heads"),)

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits: both projections' matrices."""
        return hidden * (self.projected + self.inner)

    def small_params(self, hidden: int) -> int:
        """Return convolution, norm, biases, and of each head decay, skip and step bias."""
        return (
            self.convolved * (self.conv + (1 if self.conv_bias else 0))
            + 3 * self.heads
            + (self.inner if self.norm else 0)
            + (self.projected if self.bias else 0)
            + (hidden if self.out_bias else 0)
        )

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "Mamba-2"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        groups = f"{self.groups} group" if self.groups == 1 else f"{self.groups} groups"
        return (
            f"Mamba-2: {self.heads} heads of {self.head_dim}, state {self.state}, {groups}, "
            f"convolution over {self.conv}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba1:
    """A Mamba mixer: every column has its own decay of every number of the state.

    Parameters
    ----------
    inner
        Columns of the mixer.
    state
        Numbers a column keeps of the past.
    step_rank
        Width from which the time steps unfold.
    conv
        Tokens the convolution sees.
    conv_bias, bias
        Whether the convolution, and the input and output projections, add a bias.
    norms
        Whether time steps and the ways into and out of the state are normalised (Jamba).
    """

    inner: int
    state: int
    step_rank: int
    conv: int
    conv_bias: bool = True
    bias: bool = False
    norms: bool = False

    @property
    def selected(self) -> int:
        """Columns that the input decides: time steps' latent, ways into and out of the state."""
        return self.step_rank + 2 * self.state

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return ((self.inner, "columns of state-space layers"),)

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate: nothing."""
        return ()

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits: the four projections' matrices."""
        return self.inner * (3 * hidden + self.selected + self.step_rank)

    def small_params(self, hidden: int) -> int:
        """Return convolution, decay, skip, step bias, norms and biases."""
        return (
            self.inner * (self.conv + (1 if self.conv_bias else 0))
            + self.inner * (self.state + 2)
            + (self.selected if self.norms else 0)
            + (2 * self.inner + hidden if self.bias else 0)
        )

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "Mamba"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        return (
            f"Mamba: {self.inner} columns, state {self.state}, steps of rank {self.step_rank}, "
            f"convolution over {self.conv}"
        )
