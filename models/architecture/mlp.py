"""Dense channel mixers."""

from __future__ import annotations

from dataclasses import dataclass

#: Activations by the names Hugging Face configs give them; ``relu2`` is the square of ReLU.
ACTIVATIONS = frozenset(
    {"silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2"}
)


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
    joint
        Whether gate and up come out of one product (Phi-3).
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    activation: str = "silu"
    joint: bool = False

    @property
    def cut_widths(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism cuts: numbers it must divide, and their name."""
        return ((self.intermediate, "columns of the MLP"),)

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor parallelism splits."""
        return (3 if self.gated else 2) * hidden * self.intermediate

    def small_params(self, hidden: int) -> int:
        """Return biases."""
        return (self.intermediate * (2 if self.gated else 1) + hidden) if self.bias else 0

    def active_params(self, hidden: int) -> int:
        """Return parameters a token uses: all."""
        return self.matrix_params(hidden) + self.small_params(hidden)

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "MLP"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        gate = "gated " if self.gated else ""
        biases = ", biases" if self.bias else ""
        return f"MLP: {self.intermediate:,} wide, {gate}{self.activation}{biases}"
