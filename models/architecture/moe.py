"""Mixtures of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.architecture.mlp import Mlp

#: How scores become weights: a softmax over all experts, one over the chosen, or sigmoids.
Router = Literal["softmax", "softmax_of_chosen", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """A channel mixer of experts, of which every token visits a few.

    Parameters
    ----------
    experts, top_k
        Experts, and those that a token visits.
    expert
        One expert.
    shared
        What every token visits beside them: DeepSeek's shared experts as one MLP.
    shared_gate
        Whether a gate of one column scales what `shared` gives (Qwen2-MoE).
    router, router_bias
        How experts are weighted, and whether the router's product adds a bias. The bias that
        balances load without a loss (DeepSeek-V3) is not trained and not counted.
    groups, groups_used
        Groups of experts, and those a token may choose from (DeepSeek-V3's limit of nodes).
    latent
        Width that tokens are projected to before experts, and back after; None for none.
    latent_bias
        Whether these two projections add biases.
    """

    experts: int
    top_k: int
    expert: Mlp
    shared: Mlp | None = None
    shared_gate: bool = False
    router: Router = "softmax"
    router_bias: bool = False
    groups: int = 1
    groups_used: int = 1
    latent: int | None = None
    latent_bias: bool = False

    @property
    def cut_widths(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism cuts: numbers it must divide, and their name."""
        shared = self.shared
        return ((shared.intermediate, "columns of the shared expert"),) if shared else ()

    def expert_params(self, hidden: int) -> int:
        """Return the parameters of one expert, its biases included."""
        return self.expert.active_params(self.latent or hidden)

    def matrix_params(self, hidden: int) -> int:
        """Return parameters that tensor (or expert) parallelism splits: experts' and shared."""
        experts = self.experts * self.expert.matrix_params(self.latent or hidden)
        shared = self.shared.matrix_params(hidden) if self.shared else 0
        return experts + shared + 2 * hidden * (self.latent or 0)

    def small_params(self, hidden: int) -> int:
        """Return router, gate and biases."""
        experts = self.experts * self.expert.small_params(self.latent or hidden)
        shared = self.shared.small_params(hidden) if self.shared else 0
        router = self.experts * (hidden + (1 if self.router_bias else 0))
        latent = (self.latent or 0) + hidden if self.latent and self.latent_bias else 0
        return router + experts + shared + latent + (hidden if self.shared_gate else 0)

    def active_params(self, hidden: int) -> int:
        """Return parameters a token uses: all but the experts it does not visit."""
        whole = self.matrix_params(hidden) + self.small_params(hidden)
        return whole - (self.experts - self.top_k) * self.expert_params(hidden)

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "mixture-of-experts"

    @property
    def words(self) -> str:
        """What it is, for tables."""
        gate = "gated " if self.expert.gated else ""
        text = (
            f"{self.experts} experts of {self.expert.intermediate:,}, {self.top_k} per token, "
            f"{gate}{self.expert.activation}"
        )
        text += f", latent {self.latent:,}" if self.latent else ""
        return f"{text}, shared {self.shared.intermediate:,}" if self.shared else text
