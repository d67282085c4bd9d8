"""Ring attention: keys and values travel, or are gathered, along the ring axis.

Forward every rank merges the blocks of its schedule. Backward the gradients of keys and values
travel with their blocks, one hop after every step; the last brings them home (Liu et al.,
arXiv:2310.01889 appendix B; ring-flash-attention@8996282).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.sequence_parallel.schedule import schedule
from validate.kernels import block
from validate.kernels.block import Block, BlockGradients
from validate.kernels.merge import Merged, accumulator_dtype, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.layout import SequenceOrder
    from models.sequence_parallel.schedule import Task
    from validate.kernels.axis import Axis, Moving


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """How attention is cut along a ring.

    Parameters
    ----------
    order
        Which tokens a rank holds.
    causal
        Whether queries attend to earlier keys only.
    gathers
        Whether keys and values are gathered at once instead of travelling.
    gradient_dtype
        What gradients of keys and values are summed and sent in; None for fp32 (fp64 of fp64).
    """

    order: SequenceOrder
    causal: bool = True
    gathers: bool = False
    gradient_dtype: torch.dtype | None = None

    def tasks(self, axis: Axis) -> list[tuple[Task, ...]]:
        """Return the schedule of every rank that this process plays."""
        return [schedule(self.order, axis.size, place, causal=self.causal) for place in axis.places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What one rank holds: its queries, keys and values, and later its output."""

    q: Tensor
    k: Tensor
    v: Tensor
    whole: Block | None = None

    @property
    def kv(self) -> Tensor:
        """Keys and values as one tensor to send."""
        return torch.stack((self.k, self.v))

    @property
    def scale(self) -> float:
        """Of the scores: one over the root of the width."""
        return 1.0 / math.sqrt(self.q.shape[-1])


def forward(axis: Axis, ring: Ring, own: Sequence[Local]) -> list[Local]:
    """Return what every rank holds with the output of its queries over all keys."""
    merged: list[Merged | None] = [None] * len(own)
    rng: list[tuple[Tensor, ...]] = [()] * len(own)
    for step, kv in enumerate(_travelling(axis, ring, own)):
        for at, tasks in enumerate(ring.tasks(axis)):
            for task in (task for task in tasks if task.step == step):
                found = _block(own[at], task, kv[at])
                so_far = merged[at]
                if so_far is None:
                    merged[at], rng[at] = Merged(found), found.rng
                else:
                    so_far.add(found, task.queries)
    return [
        Local(q=each.q, k=each.k, v=each.v, whole=Block(one.out.to(each.q.dtype), one.lse, extra))
        for each, one, extra in zip(own, merged, rng, strict=True)
        if one is not None
    ]


def backward(
    axis: Axis, ring: Ring, own: Sequence[Local], gradients: Sequence[Tensor]
) -> list[BlockGradients]:
    """Return the gradients of every rank's own queries, keys and values.

    Parameters
    ----------
    axis, ring
        As of the forward pass.
    own
        What it returned.
    gradients
        Of each output.
    """
    summed = [torch.zeros_like(each.q, dtype=accumulator_dtype(each.q.dtype)) for each in own]
    dtype = ring.gradient_dtype or accumulator_dtype(own[0].k.dtype)
    gathering = _Gathering(axis) if ring.gathers else _Following(axis)
    for step, kv in enumerate(_travelling(axis, ring, own)):
        added = []
        for at, tasks in enumerate(ring.tasks(axis)):
            blocks = torch.zeros_like(kv[at], dtype=dtype)
            for task in (task for task in tasks if task.step == step):
                found = _gradients(own[at], task, kv[at], gradients[at])
                rows(summed[at], task.queries).add_(found.queries)
                rows(blocks[0], task.keys).add_(found.keys)
                rows(blocks[1], task.keys).add_(found.values)
            added.append(blocks)
        gathering.add(step, added)
    home = gathering.home()
    return [
        BlockGradients(dq.to(each.q.dtype), dkv[0].to(each.k.dtype), dkv[1].to(each.v.dtype))
        for each, dq, dkv in zip(own, summed, home, strict=True)
    ]


def _travelling(axis: Axis, ring: Ring, own: Sequence[Local]) -> Iterator[list[Tensor]]:
    """Yield the keys and values that every rank has in each step; the next are on their way."""
    held = [each.kv for each in own]
    if ring.gathers:
        gathered = axis.gather(held)
        for step in range(axis.size):
            yield [
                all_of[(place - step) % axis.size]
                for all_of, place in zip(gathered, axis.places, strict=True)
            ]
        return
    for step in range(axis.size):
        moving = axis.shift(held) if step + 1 < axis.size else None
        yield held
        if moving is not None:
            held = moving.wait()


class _Following:
    """Gradients of keys and values that travel with their blocks."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.moving: Moving | None = None
        self.held: list[Tensor] = []

    def add(self, step: int, blocks: list[Tensor]) -> None:
        """Add what a step made to what has come with the block, and send it on."""
        if self.moving is not None:
            for block_of, come in zip(blocks, self.moving.wait(), strict=True):
                block_of.add_(come)
        self.held = blocks
        if self.axis.size > 1:
            self.moving = self.axis.shift(blocks)

    def home(self) -> list[Tensor]:
        """Return the sums, after as many hops as there are ranks."""
        return self.held if self.moving is None else self.moving.wait()


class _Gathering:
    """Gradients of gathered keys and values, kept until all are there."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.blocks: list[list[Tensor]] = []

    def add(self, step: int, blocks: list[Tensor]) -> None:
        """Keep what a step made."""
        self.blocks.append(blocks)

    def home(self) -> list[Tensor]:
        """Return the sums over ranks of each rank's own keys and values."""
        size = self.axis.size
        full = [
            torch.stack([self.blocks[(place - source) % size][at] for source in range(size)])
            for at, place in enumerate(self.axis.places)
        ]
        return self.axis.scatter_sum(full)


def _block(own: Local, task: Task, kv: Tensor) -> Block:
    return block.forward(
        rows(own.q, task.queries),
        rows(kv[0], task.keys),
        rows(kv[1], task.keys),
        causal=task.causal,
        scale=own.scale,
    )


def _gradients(own: Local, task: Task, kv: Tensor, gradient: Tensor) -> BlockGradients:
    whole = own.whole
    if whole is None:
        raise RuntimeError("backward before forward")
    part = task.queries
    return block.backward(
        rows(gradient, part),
        rows(own.q, part),
        rows(kv[0], task.keys),
        rows(kv[1], task.keys),
        Block(rows(whole.out, part), rows(whole.lse, part), whole.rng),
        causal=task.causal,
        scale=own.scale,
    )
