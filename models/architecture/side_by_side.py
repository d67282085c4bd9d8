"""Two token mixers over the same input, their outputs added (Falcon-H1, arXiv:2507.22448)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.architecture.attention import Attention
    from models.architecture.state_space import Mamba2


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Attention beside a Mamba-2 mixer.

    Parameters
    ----------
    attention, state_space
        The two mixers.
    """

    attention: Attention
    state_space: Mamba2

    @property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut: numbers they must divide, and their name."""
        return self.attention.cut_heads + self.state_space.cut_heads

    @property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate."""
        return self.attention.shared_heads + self.state_space.shared_heads

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits."""
        return self.attention.matrix_params(hidden) + self.state_space.matrix_params(hidden)

    def small_params(self, hidden: int) -> int:
        """Return biases, norms and what else is small in both."""
        return self.attention.small_params(hidden) + self.state_space.small_params(hidden)

    @property
    def label(self) -> str:
        """What sentences call it."""
        return f"{self.attention.label} beside {self.state_space.label}"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        return f"{self.attention.words}; beside {self.state_space.words}"
