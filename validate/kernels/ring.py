"""Ring attention: keys and values travel, or are gathered, along the ring axis.

Forward every rank merges the blocks of its schedule. Backward the gradients of keys and values
travel with their blocks, one hop after every step; the last brings them home (Liu et al.,
arXiv:2310.01889 appendix B; ring-flash-attention@8996282).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.sequence_parallel.schedule import schedule
from topologies.errors import Problem, raise_if_any
from validate.kernels import block, gathered_window
from validate.kernels.axis import Moving
from validate.kernels.block import Block, BlockGradients
from validate.kernels.kv_gradients import Following, Found, Gathered, joined
from validate.kernels.merge import Merged, accumulator_dtype, rows
from validate.kernels.shards import uneven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.named_axes import SequenceOrder
    from models.sequence_parallel.schedule import BlockTask
    from validate.kernels.axis import Axis


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
    documents
        Tokens of the documents that are packed into the sequence, which attend to themselves only,
        every one cut like a sequence of its own; None where it is one.
    window
        Keys that a query attends to, its own the last; None for all. Not where keys travel: blocks
        of a ring are cut without regard to it (as TransformerEngine's ``p2p`` refuses it).
    """

    order: SequenceOrder
    causal: bool = True
    gathers: bool = False
    gradient_dtype: torch.dtype | None = None
    documents: tuple[int, ...] | None = None
    window: int | None = None

    def check(self, axis: Axis) -> None:
        """Check that it can be.

        Raises
        ------
        SpecError
            With everything that cannot.
        """
        found = []
        travels = axis.size > 1 and not self.gathers
        if self.window is not None and (travels or not self.causal or self.window < 1):
            mend = "a number of keys, of causal attention by Ulysses or over gathered keys"
            found.append(Problem("--window", self.window, mend))
        found += uneven("documents", self.documents or (), axis.size, self.order)
        raise_if_any(found)

    def lengths(self, axis: Axis, tokens: int) -> list[int]:
        """Return how many tokens of each document a rank holds."""
        return [each // axis.size for each in self.documents or (tokens * axis.size,)]

    def tasks(self, axis: Axis) -> list[tuple[BlockTask, ...]]:
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

    def split(self, lengths: list[int]) -> list[Local]:
        """Return what it holds of each document, without a copy."""
        parts = [each.split(lengths, -2) for each in (self.q, self.k, self.v)]
        whole: list[Block | None] = [None] * len(lengths)
        if self.whole is not None:
            outs, lses = self.whole.out.split(lengths, -2), self.whole.lse.split(lengths, -1)
            whole = [Block(*both, self.whole.rng) for both in zip(outs, lses, strict=True)]
        return [
            Local(q=q, k=k, v=v, whole=each) for q, k, v, each in zip(*parts, whole, strict=True)
        ]


def forward(axis: Axis, ring: Ring, own: Sequence[Local]) -> list[Local]:
    """Return what every rank holds with the output of its queries over all keys.

    Raises
    ------
    SpecError
        If a window or documents cannot be.
    """
    ring.check(axis)
    if ring.window is not None:
        wholes = gathered_window.forward(axis, ring, own, ring.window)
        return [replace(each, whole=whole) for each, whole in zip(own, wholes, strict=True)]
    lengths = ring.lengths(axis, own[0].q.shape[-2])
    documents = [each.split(lengths) for each in own]
    merged: list[list[Merged]] = [[] for _ in own]
    dtype = _sum_dtype(axis, own[0].q.dtype)
    for step, kv in _travelling(axis, ring, own):
        for at, tasks in enumerate(ring.tasks(axis)):
            for task in (task for task in tasks if task.step == step):
                _attend(task, documents[at], kv[at].split(lengths, -2), merged[at], dtype)
    return [
        Local(
            q=each.q,
            k=each.k,
            v=each.v,
            whole=Block(
                joined([one.out.to(each.q.dtype) for one in parts], -2),
                joined([one.lse for one in parts], -1),
                parts[-1].rng,
            ),
        )
        for each, parts in zip(own, merged, strict=True)
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
    if ring.window is not None:
        return gathered_window.backward(axis, ring, own, gradients, ring.window)
    lengths = ring.lengths(axis, own[0].q.shape[-2])
    documents = [each.split(lengths) for each in own]
    returned = [each.split(lengths, -2) for each in gradients]
    summed: list[list[Tensor]] = [[] for _ in own]
    dtype = ring.gradient_dtype or _sum_dtype(axis, own[0].k.dtype)
    dq_dtype = _sum_dtype(axis, own[0].q.dtype)
    home = (Gathered if ring.gathers else Following)(axis, dtype, lengths)
    for step, kv in _travelling(axis, ring, own):
        home.add(
            [
                [
                    found
                    for task in tasks
                    if task.step == step
                    for found in _task_gradients(
                        task,
                        documents[at],
                        kv[at].split(lengths, -2),
                        returned[at],
                        summed[at],
                        dq_dtype,
                    )
                ]
                for at, tasks in enumerate(ring.tasks(axis))
            ]
        )
    return [
        BlockGradients(
            joined([part.to(each.q.dtype) for part in dq], -2),
            dkv[0].to(each.k.dtype),
            dkv[1].to(each.v.dtype),
        )
        for each, dq, dkv in zip(own, summed, home.sums(), strict=True)
    ]


def _travelling(axis: Axis, ring: Ring, own: Sequence[Local]) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield each step and the keys and values that every rank has in it; the next are on their way.

    The list is the same in every step: what it held is let go before the next can be sent.
    """
    held = [each.kv for each in own]
    if ring.gathers:
        gathered = axis.gather(held)
        for step in range(axis.size):
            places = zip(gathered, axis.places, strict=True)
            held[:] = [all_of[(place - step) % axis.size] for all_of, place in places]
            yield step, held
    else:
        for step in range(axis.size):
            moving = axis.shift(held) if step + 1 < axis.size else Moving([])
            yield step, held
            held[:] = moving.wait()
            del moving  # and with it what was sent
    held.clear()


def _sum_dtype(axis: Axis, dtype: torch.dtype) -> torch.dtype:
    """Return what sums over blocks are kept in; where a ring is one rank there are none."""
    return accumulator_dtype(dtype) if axis.size > 1 else dtype


def _attend(
    task: BlockTask,
    own: list[Local],
    kv: Sequence[Tensor],
    merged: list[Merged],
    dtype: torch.dtype,
) -> None:
    """Add the blocks of a task, one of each document, to those before."""
    for number, part in enumerate(kv):
        found = _block(own[number], task, part)
        if len(merged) == number:  # the first task is over all queries
            merged.append(Merged(found, dtype))
        else:
            merged[number].add(found, task.queries)


def _task_gradients(
    task: BlockTask,
    own: list[Local],
    kv: Sequence[Tensor],
    gradients: Sequence[Tensor],
    summed: list[Tensor],
    dtype: torch.dtype,
) -> Iterator[Found]:
    """Add up gradients of the queries of a task, and yield those of its keys and values."""
    for number, part in enumerate(kv):
        dq, dk, dv = _gradients(own[number], task, part, gradients[number])
        if len(summed) == number:
            summed.append(dq.to(dtype))
        else:
            rows(summed[number], task.queries).add_(dq)
        yield Found(task, number, dk, dv)


def _block(own: Local, task: BlockTask, kv: Tensor) -> Block:
    q, k, v = rows(own.q, task.queries), rows(kv[0], task.keys), rows(kv[1], task.keys)
    return block.forward(q, k, v, causal=task.causal, scale=own.scale)


def _gradients(own: Local, task: BlockTask, kv: Tensor, gradient: Tensor) -> BlockGradients:
    if own.whole is None:
        raise RuntimeError("backward before forward")
    part = task.queries
    blocks = rows(own.q, part), rows(kv[0], task.keys), rows(kv[1], task.keys)
    whole = Block(rows(own.whole.out, part), rows(own.whole.lse, part), own.whole.rng)
    gradient = rows(gradient, part)
    return block.backward(gradient, *blocks, whole, causal=task.causal, scale=own.scale)
