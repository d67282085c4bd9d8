"""The attention of a published run's layers, as tables describe it in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.architecture import Attention, LatentAttention
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from models.architecture import Mixer

#: Kinds that a row's numbers of heads say, whatever stands beside: positions, kernels, norms.
_HEADS = re.compile(r"(MHA|GQA|MQA)\b(.*)", re.IGNORECASE)
#: What changes which keys a query sees, beyond windows of a stated width.
_OTHER = re.compile(
    r"window|\bSWA\b|sliding|local|chunk|linear|sparse|mamba|hybrid|\d+:\d+|NSA|DSA", re.IGNORECASE
)
_WINDOW = re.compile(r"(?:\bSWA\b|sliding|window)[^\d:]*(\d+)\)?", re.IGNORECASE)
_ALTERNATING = re.compile(r"alternat\w*|/ ?full\b", re.IGNORECASE)
#: DeepSeek's: ``MLA(q_lora1536,kv_lora512,qk128+64rope,v128)``.
_LATENT = re.compile(
    r"MLA ?\((?:q_lora(\d+), ?)?kv_lora(\d+), ?qk(\d+)\+(\d+)rope, ?v(\d+)\)", re.IGNORECASE
)


def attention_of(kind: str, heads: int, kv_heads: int, head_dim: int) -> tuple[Mixer, ...]:
    """Return the attention of a model's first layers, after which it begins again.

    Parameters
    ----------
    kind
        What a table says of it: ``GQA``, ``MHA (flash), learned pos emb``, ``GQA alternating
        SWA(window 128)/full``.
    heads, kv_heads, head_dim
        Query heads, heads of keys and values, and their width.

    Raises
    ------
    UnexpressedError
        If it may be one that these do not say.

    Examples
    --------
    >>> [mixer.window for mixer in attention_of("GQA alternating SWA(window 128)/full", 64, 8, 64)]
    [128, None]
    """
    if latent := _LATENT.fullmatch(kind.strip()):
        q_rank, kv_rank, nope, rope, value = (
            int(each) if each else None for each in latent.groups()
        )
        return (
            LatentAttention(
                heads=heads,
                q_rank=q_rank,
                kv_rank=kv_rank or 0,
                nope_dim=nope or 0,
                rope_dim=rope or 0,
                value_dim=value or 0,
            ),
        )
    known = _HEADS.match(kind)
    beside = known[2] if known else kind
    window = _WINDOW.search(beside)
    rest = _ALTERNATING.sub("", _WINDOW.sub("", beside))
    if known is None or _OTHER.search(rest):
        raise UnexpressedError(f"attention not expressed: {kind[:40]}")
    alibi = "alibi" in kind.lower()
    whole = Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rotary=not (alibi or "learned" in kind.lower()),
        alibi=alibi,
    )
    if window is None:
        return (whole,)
    windowed = Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        window=int(window[1]),
        rotary=whole.rotary,
    )
    return (windowed, whole) if _ALTERNATING.search(beside) else (windowed,)
