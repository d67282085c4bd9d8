"""Fused layers of other kinds than a Llama's, written to keep exactly what such kernels keep.

Latent attention as Megatron-Core's ``MLASelfAttention``, gated output, two mixers in parallel,
norms after the mixers, and layers of one mixer; operators are those of :mod:`.fused_reference`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .fused_reference import (
    ActivationOp,
    FlashAttentionOp,
    NormAdd,
    NormKind,
    NormLinear,
    RotaryOp,
)
from .hf_reference import default_dtype
from .ledger import SavedLedger, total_bytes
from .unequal_flash import unequal_flash

if TYPE_CHECKING:
    from collections.abc import Callable


class Projection(nn.Module):
    """A product behind a fused norm, or of the stream itself."""

    def __init__(self, inputs: int, outputs: int, norm: NormKind | None) -> None:
        super().__init__()
        self.product = (
            nn.Linear(inputs, outputs, bias=False)
            if norm is None
            else NormLinear(inputs, outputs, norm=norm, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        found: Tensor = self.product(x)
        return found


class Attention(nn.Module):
    """Attention of heads 64 wide, half as many of keys and values, with a gate if asked."""

    def __init__(self, hidden: int, heads: int, norm: NormKind | None, *, gated: bool) -> None:
        super().__init__()
        self.heads, self.gated = heads, gated
        self.qkv = Projection(hidden, (heads * (2 + gated)) * 64, norm)
        self.out = nn.Linear(heads * 64, hidden, bias=False)

    def forward(self, x: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
        """Return what is added to the residual."""
        heads = self.qkv(x).unflatten(-1, (-1, 64))
        parts = [self.heads, self.heads // 2, self.heads // 2, self.heads * self.gated]
        q, k, v, gate = heads.split(parts, 2)
        q, k = (RotaryOp.apply(each, *tables).transpose(1, 2) for each in (q, k))
        core = FlashAttentionOp.apply(q, k, v.contiguous().transpose(1, 2))
        core = core.transpose(1, 2).flatten(2)
        if self.gated:
            core = _Gate.apply(core, gate.flatten(2).contiguous())
        branch: Tensor = self.out(core)
        return branch


class _Gate(torch.autograd.Function):
    """Times the sigmoid of a gate; saves both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(x, gate)
        return x * torch.sigmoid(gate)


class _Norm(torch.autograd.Function):
    """RMSNorm for several products; saves its input and the deviations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)


class Latent(nn.Module):
    """Latent attention: widths of latents 96 and 64, heads 32 + 16 wide, values 24."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_down = nn.Linear(hidden, 96, bias=False)
        self.kv_down = nn.Linear(hidden, 64 + 16, bias=False)
        self.q_up = NormLinear(96, heads * 48, norm="rms", bias=False)
        self.kv_up = NormLinear(64, heads * (32 + 24), norm="rms", bias=False)
        self.out = nn.Linear(heads * 24, hidden, bias=False)

    def forward(self, x: Tensor, tables: tuple[Tensor, ...]) -> Tensor:
        """Return what is added to the residual."""
        x = _Norm.apply(x)
        tables = tuple(table[..., :16] for table in tables)
        q, rotated = self.q_up(self.q_down(x)).unflatten(-1, (-1, 48)).split((32, 16), -1)
        latent, shared = self.kv_down(x).split((64, 16), -1)
        k, v = self.kv_up(latent.contiguous()).unflatten(-1, (-1, 56)).split((32, 24), -1)
        shared = RotaryOp.apply(shared.unsqueeze(2), *tables).expand(-1, -1, self.heads, -1)
        q = torch.cat((q, RotaryOp.apply(rotated, *tables)), -1)
        k = torch.cat((k, shared), -1)
        core, _ = unequal_flash(*(each.transpose(1, 2) for each in (q, k, v.contiguous())))
        branch: Tensor = self.out(_SameStorage.apply(core))
        return branch


class _SameStorage(torch.autograd.Function):
    """Heads side by side, as GPU kernels lay their output out: no copy, nothing saved."""

    @staticmethod
    def forward(ctx: Any, core: Tensor) -> Tensor:
        batch, heads, tokens, width = core.shape
        return core.view(batch, tokens, heads * width)


class Mlp(nn.Module):
    """A gated MLP."""

    def __init__(self, hidden: int, width: int, norm: NormKind | None) -> None:
        super().__init__()
        self.up = Projection(hidden, 2 * width, norm)
        self.down = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the residual."""
        branch: Tensor = self.down(ActivationOp.apply(self.up(x), True, True))
        return branch


def _serial(x: Tensor, attend: Callable[[Tensor], Tensor], mlp: nn.Module) -> Tensor:
    x = x + attend(x)
    return x + mlp(x)


def saved_bytes(kind: str, hidden: int, heads: int, width: int, tokens: int) -> int:
    """Return what a layer of a kind keeps.

    Parameters
    ----------
    kind
        ``latent``, ``gated``, ``parallel``, ``after`` (norms), ``attention`` or ``mlp`` alone.
    hidden, heads, width, tokens
        Sizes of the layer, and of the sequence.
    """
    with FakeTensorMode(), default_dtype(torch.bfloat16):
        norm: NormKind | None = None if kind == "after" else "rms"
        attention: nn.Module = (
            Latent(hidden, heads)
            if kind == "latent"
            else Attention(hidden, heads, norm, gated=kind == "gated")
        )
        mlp, norms = Mlp(hidden, width, norm), (NormAdd(hidden), NormAdd(hidden))
        x = torch.empty(1, tokens, hidden, requires_grad=True)
        tables = (torch.empty(1, tokens, 64), torch.empty(1, tokens, 64))
        modules = (attention, mlp, *norms)
        owned = [weight for module in modules for weight in module.parameters()]
        ledger = SavedLedger([*owned, *tables])
        with ledger.recording():
            if kind == "parallel":
                x + attention(x, tables) + mlp(x)
            elif kind == "after":
                x = norms[0](attention(x, tables), x)
                norms[1](mlp(x), x)
            elif kind == "attention":
                x + attention(x, tables)
            elif kind == "mlp":
                x + mlp(x)
            else:
                _serial(x, lambda stream: attention(stream, tables), mlp)
    return total_bytes(ledger.saved)
