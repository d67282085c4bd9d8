"""Attentions to check: every method, mask and dtype on so many ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch

from models.named_axes import SequenceOrder
from validate.kernels.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
}
#: Packed documents, each a multiple of what the longest ring cuts it into; and a window.
DOCUMENTS, WINDOW = (32, 96, 64), 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attention to check.

    Parameters
    ----------
    method
        In words.
    ulysses, ring
        The two degrees.
    order, gathers, causal
        As of :class:`validate.kernels.ring.Ring`.
    dtype
        One of :data:`DTYPES`.
    documents, window
        As of the same.
    state_space
        Whether it is the recurrence of :mod:`validate.kernels.state_pass` instead: of ``c, b, x``
        for ``q, k, v``.
    batch, heads, kv_heads, tokens, width
        Of the whole.
    """

    method: str
    ulysses: int
    ring: int
    order: SequenceOrder = SequenceOrder.CONTIGUOUS
    gathers: bool = False
    causal: bool = True
    dtype: str = "f64"
    documents: tuple[int, ...] | None = None
    window: int | None = None
    state_space: bool = False
    batch: int = 2
    heads: int = 8
    kv_heads: int = 2
    tokens: int = 192
    width: int = 32

    @property
    def how(self) -> Ring:
        """How it is cut along the ring."""
        return Ring(
            order=self.order,
            causal=self.causal,
            gathers=self.gathers,
            documents=self.documents,
            window=self.window,
        )


def cases(world: int, dtypes: Sequence[str]) -> list[Case]:
    """Return what to check on so many ranks: every method, mask and dtype.

    Key/value heads are fewer than the ranks of the largest Ulysses, so that they are repeated.
    """
    found = []
    for case, dtype in product(_methods(world), dtypes):
        found += [replace(case, dtype=dtype), replace(case, dtype=dtype, causal=False)]
    for case, dtype in product(_masks(world), dtypes):
        found.append(replace(case, dtype=dtype))
    return found


def _methods(world: int) -> Iterator[Case]:
    for order in SequenceOrder:
        ring = Case(method=f"ring {order.label}", ulysses=1, ring=world, order=order)
        yield ring
        yield replace(ring, method=f"all-gather {order.label}", gathers=True)
    yield Case(method="ulysses", ulysses=world, ring=1)
    if world >= 4:
        for order in SequenceOrder:
            yield Case(method=f"hybrid {order.label}", ulysses=2, ring=world // 2, order=order)


def _masks(world: int) -> Iterator[Case]:
    """Yield methods with packed documents and with a window, where they have them."""
    for case in _methods(world):
        if case.order == SequenceOrder.ZIGZAG or case.ulysses == world:
            yield replace(case, method=f"{case.method}, packed", documents=DOCUMENTS)
        if case.ulysses == world or case.gathers:
            slid = replace(case, method=f"{case.method}, window", window=WINDOW)
            yield slid
            yield replace(slid, method=f"{slid.method}, packed", documents=DOCUMENTS)
    yield Case(method="state pass", ulysses=1, ring=world, state_space=True, kv_heads=8)
