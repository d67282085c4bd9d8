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
from validate.kernels.axis import Moving
from validate.kernels.block import Block, BlockGradients
from validate.kernels.merge import Merged, accumulator_dtype, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.layout import SequenceOrder
    from models.sequence_parallel.schedule import Task
    from validate.kernels.axis import Axis


#: A task and the gradients it gives.
_Found = tuple["Task", BlockGradients]


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
    summed: list[Tensor | None] = [None] * len(own)
    dtype = ring.gradient_dtype or accumulator_dtype(own[0].k.dtype)
    home = (_Gathered if ring.gathers else _Following)(axis, dtype)
    for step, kv in enumerate(_travelling(axis, ring, own)):
        found: list[list[_Found]] = [[] for _ in own]
        for at, tasks in enumerate(ring.tasks(axis)):
            for task in (task for task in tasks if task.step == step):
                added = _gradients(own[at], task, kv[at], gradients[at])
                found[at].append((task, added))
                so_far = summed[at]
                if so_far is None:  # the first task is over all queries
                    summed[at] = added.queries.to(accumulator_dtype(added.queries.dtype))
                else:
                    rows(so_far, task.queries).add_(added.queries)
        home.add(found)
    return [
        BlockGradients(dq.to(each.q.dtype), dkv[0].to(each.k.dtype), dkv[1].to(each.v.dtype))
        for each, dq, dkv in zip(own, summed, home.sums(), strict=True)
        if dq is not None
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

    def __init__(self, axis: Axis, dtype: torch.dtype) -> None:
        self.axis, self.dtype = axis, dtype
        self.moving: Moving | None = None

    def add(self, found: list[list[_Found]]) -> None:
        """Add what a step gave to what has come with the blocks, and send it on."""
        if self.moving is None:  # a rank's first task is over all of its own keys
            held = [_both(own[0][1], self.dtype) for own in found]
        else:
            held = self.moving.wait()
            for sums, own in zip(held, found, strict=True):
                _add(sums, own)
        # The last hop brings them home.
        self.moving = self.axis.shift(held) if self.axis.size > 1 else Moving(held)

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        return [] if self.moving is None else self.moving.wait()


class _Gathered:
    """Gradients of gathered keys and values, summed over ranks once all are there."""

    def __init__(self, axis: Axis, dtype: torch.dtype) -> None:
        self.axis, self.dtype = axis, dtype
        self.held: list[Tensor] = []

    def add(self, found: list[list[_Found]]) -> None:
        """Add what a step gave to the gradients of the rank it is of."""
        if not self.held:
            shapes = [(self.axis.size, 2, *own[0][1].keys.shape) for own in found]
            keys = [own[0][1].keys for own in found]
            self.held = [
                like.new_zeros(shape, dtype=self.dtype)
                for like, shape in zip(keys, shapes, strict=True)
            ]
        for sums, own in zip(self.held, found, strict=True):
            for task, added in own:
                _add(sums[task.source], [(task, added)])

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        return self.axis.scatter_sum(self.held)


def _add(sums: Tensor, found: list[_Found]) -> None:
    for task, added in found:
        rows(sums[0], task.keys).add_(added.keys)
        rows(sums[1], task.keys).add_(added.values)


def _both(added: BlockGradients, dtype: torch.dtype) -> Tensor:
    return torch.stack((added.keys.to(dtype), added.values.to(dtype)))


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
