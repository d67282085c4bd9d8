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
from topologies.errors import Problem, raise_if_any
from validate.kernels import block, window
from validate.kernels.axis import Moving
from validate.kernels.block import Block, BlockGradients
from validate.kernels.merge import Merged, accumulator_dtype, rows
from validate.kernels.shards import uneven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.layout import SequenceOrder
    from models.sequence_parallel.schedule import Task
    from validate.kernels.axis import Axis


#: A task, the number of the document, and the gradients it gives.
_Found = tuple["Task", int, BlockGradients]


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
        Keys that a query attends to, its own the last; None for all. Of a ring of one rank only:
        blocks of a ring are cut without regard to it (as TransformerEngine's ``p2p`` refuses it).
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
        if self.window is not None and (axis.size > 1 or not self.causal or self.window < 1):
            mend = "a number of keys, of causal attention with --ring 1: Ulysses alone"
            found.append(Problem("--window", self.window, mend))
        found += uneven("documents", self.documents or (), axis.size, self.order)
        raise_if_any(found)

    def lengths(self, axis: Axis, tokens: int) -> list[int]:
        """Return how many tokens of each document a rank holds."""
        return [each // axis.size for each in self.documents or (tokens * axis.size,)]

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
    lengths = ring.lengths(axis, own[0].q.shape[-2])
    documents = [each.split(lengths) for each in own]
    merged: list[list[Merged]] = [[] for _ in own]
    rng: list[tuple[Tensor, ...]] = [()] * len(own)
    for step, kv in enumerate(_travelling(axis, ring, own)):
        for at, tasks in enumerate(ring.tasks(axis)):
            for task in (task for task in tasks if task.step == step):
                for number, part in enumerate(kv[at].split(lengths, -2)):
                    found = _block(ring, documents[at][number], task, part)
                    if len(merged[at]) == number:  # the first task is over all queries
                        merged[at].append(Merged(found))
                        rng[at] = found.rng
                    else:
                        merged[at][number].add(found, task.queries)
    return [
        Local(
            q=each.q,
            k=each.k,
            v=each.v,
            whole=Block(
                _joined([one.out.to(each.q.dtype) for one in parts], -2),
                _joined([one.lse for one in parts], -1),
                extra,
            ),
        )
        for each, parts, extra in zip(own, merged, rng, strict=True)
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
    lengths = ring.lengths(axis, own[0].q.shape[-2])
    documents = [each.split(lengths) for each in own]
    returned = [each.split(lengths, -2) for each in gradients]
    summed: list[list[Tensor]] = [[] for _ in own]
    dtype = ring.gradient_dtype or accumulator_dtype(own[0].k.dtype)
    home = (_Gathered if ring.gathers else _Following)(axis, dtype, lengths)
    for step, kv in enumerate(_travelling(axis, ring, own)):
        found: list[list[_Found]] = [[] for _ in own]
        for at, tasks in enumerate(ring.tasks(axis)):
            for task in (task for task in tasks if task.step == step):
                for number, part in enumerate(kv[at].split(lengths, -2)):
                    whole = documents[at][number]
                    added = _gradients(ring, whole, task, part, returned[at][number])
                    found[at].append((task, number, added))
                    if len(summed[at]) == number:
                        dq = added.queries
                        summed[at].append(dq.to(accumulator_dtype(dq.dtype)))
                    else:
                        rows(summed[at][number], task.queries).add_(added.queries)
        home.add(found)
    return [
        BlockGradients(
            _joined([part.to(each.q.dtype) for part in dq], -2),
            dkv[0].to(each.k.dtype),
            dkv[1].to(each.v.dtype),
        )
        for each, dq, dkv in zip(own, summed, home.sums(), strict=True)
    ]


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


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

    def __init__(self, axis: Axis, dtype: torch.dtype, lengths: list[int]) -> None:
        self.axis, self.dtype, self.lengths = axis, dtype, lengths
        self.moving: Moving | None = None

    def add(self, found: list[list[_Found]]) -> None:
        """Add what a step gave to what has come with the blocks, and send it on."""
        if self.moving is None:  # a rank's first task is over all of its own keys
            held = [self._first(own) for own in found]
        else:
            held = self.moving.wait()
            for sums, own in zip(held, found, strict=True):
                _add(sums, own, self.lengths)
        # The last hop brings them home.
        self.moving = self.axis.shift(held) if self.axis.size > 1 else Moving(held)

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        return [] if self.moving is None else self.moving.wait()

    def _first(self, own: list[_Found]) -> Tensor:
        keys = _joined([added.keys for _, _, added in own], -2)
        values = _joined([added.values for _, _, added in own], -2)
        return torch.stack((keys.to(self.dtype), values.to(self.dtype)))


class _Gathered:
    """Gradients of gathered keys and values, summed over ranks once all are there."""

    def __init__(self, axis: Axis, dtype: torch.dtype, lengths: list[int]) -> None:
        self.axis, self.dtype, self.lengths = axis, dtype, lengths
        self.held: list[Tensor] = []

    def add(self, found: list[list[_Found]]) -> None:
        """Add what a step gave to the gradients of the rank it is of."""
        if not self.held:
            self.held = [self._nothing(own[0][2].keys) for own in found]
        for sums, own in zip(self.held, found, strict=True):
            for one in own:
                _add(sums[one[0].source], [one], self.lengths)

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        return self.axis.scatter_sum(self.held)

    def _nothing(self, keys: Tensor) -> Tensor:
        batch, heads, _, width = keys.shape
        shape = self.axis.size, 2, batch, heads, sum(self.lengths), width
        return keys.new_zeros(shape, dtype=self.dtype)


def _add(sums: Tensor, found: list[_Found], lengths: list[int]) -> None:
    documents = sums.split(lengths, -2)
    for task, number, added in found:
        rows(documents[number][0], task.keys).add_(added.keys)
        rows(documents[number][1], task.keys).add_(added.values)


def _block(ring: Ring, own: Local, task: Task, kv: Tensor) -> Block:
    q, k, v = rows(own.q, task.queries), rows(kv[0], task.keys), rows(kv[1], task.keys)
    if ring.window is not None:
        return window.forward(q, k, v, window=ring.window, scale=own.scale)
    return block.forward(q, k, v, causal=task.causal, scale=own.scale)


def _gradients(ring: Ring, own: Local, task: Task, kv: Tensor, gradient: Tensor) -> BlockGradients:
    if own.whole is None:
        raise RuntimeError("backward before forward")
    part = task.queries
    blocks = rows(own.q, part), rows(kv[0], task.keys), rows(kv[1], task.keys)
    whole = Block(rows(own.whole.out, part), rows(own.whole.lse, part), own.whole.rng)
    gradient = rows(gradient, part)
    if ring.window is not None:
        return window.backward(gradient, *blocks, whole, window=ring.window, scale=own.scale)
    return block.backward(gradient, *blocks, whole, causal=task.causal, scale=own.scale)
