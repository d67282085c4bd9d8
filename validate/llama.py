"""A small Llama whose attention is given to it, to be trained with and without a cut sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a model: that of a toy, with key/value heads shared as in Llama 3."""

    hidden: int = 64
    layers: int = 2
    heads: int = 8
    kv_heads: int = 2
    mlp: int = 160
    vocab: int = 64

    @property
    def width(self) -> int:
        """Of a head."""
        return self.hidden // self.heads


class Norm(nn.Module):
    """RMSNorm as Hugging Face's Llama computes it, one operator after the other in fp32."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return as much as `hidden`, in its dtype."""
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + NORM_EPSILON)
        out: Tensor = self.weight * (wide * scale).to(hidden.dtype)
        return out


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.q = nn.Linear(size.hidden, size.heads * size.width, bias=False)
        self.k = nn.Linear(size.hidden, size.kv_heads * size.width, bias=False)
        self.v = nn.Linear(size.hidden, size.kv_heads * size.width, bias=False)
        self.out = nn.Linear(size.heads * size.width, size.hidden, bias=False)

    def forward(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """Return ``[batch, tokens, hidden]`` of as much."""
        q, k, v = (
            each(hidden).unflatten(-1, (-1, self.size.width)).transpose(1, 2)
            for each in (self.q, self.k, self.v)
        )
        found = attend(rotated(q, *rotary), rotated(k, *rotary), v)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """A decoder layer."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.before_attention = Norm(size.hidden)
        self.attention = Attention(size)
        self.before_mlp = Norm(size.hidden)
        self.gate = nn.Linear(size.hidden, size.mlp, bias=False)
        self.up = nn.Linear(size.hidden, size.mlp, bias=False)
        self.down = nn.Linear(size.mlp, size.hidden, bias=False)

    def forward(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """Return ``[batch, tokens, hidden]`` of as much."""
        hidden = hidden + self.attention(self.before_attention(hidden), rotary, attend)
        inner = self.before_mlp(hidden)
        out: Tensor = hidden + self.down(functional.silu(self.gate(inner)) * self.up(inner))
        return out


class Llama(nn.Module):
    """Embedding, layers, head."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size.vocab, size.hidden)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = Norm(size.hidden)
        self.head = nn.Linear(size.hidden, size.vocab, bias=False)

    def forward(self, tokens: Tensor, places: Tensor, attend: Attend) -> Tensor:
        """Return logits, ``[batch, tokens, vocab]``.

        Parameters
        ----------
        tokens
            Of this rank, ``[batch, tokens]``.
        places
            Where in the sequence they are.
        attend
            Attention of their queries over the keys of all ranks.
        """
        hidden = self.embedding(tokens)
        rotary = rotary_tables(places, self.size.width, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotary, attend)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


def rotary_tables(places: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every place and pair of channels (Su et al., arXiv:2104.09864)."""
    pairs = torch.arange(0, width, 2, dtype=torch.float64) / width
    angle = places.to(torch.float64)[:, None] * ROTARY_BASE**-pairs
    both = torch.cat((angle, angle), -1)
    return both.cos().to(dtype), both.sin().to(dtype)


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return heads turned by their places' angles, the two halves of their channels as pairs."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return x * cosine + torch.cat((-second, first), -1) * sine
