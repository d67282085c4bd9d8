"""Gradients of keys and values on their way to the ranks that own them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from validate.kernels.axis import Moving
from validate.kernels.merge import rows

if TYPE_CHECKING:
    from models.sequence_parallel.schedule import BlockTask
    from validate.kernels.axis import Axis


class Found(NamedTuple):
    """What one block gives.

    Parameters
    ----------
    task
        Which it was.
    document
        Its number.
    keys, values
        Their gradients.
    """

    task: BlockTask
    document: int
    keys: Tensor
    values: Tensor


class Following:
    """Gradients that travel with their blocks.

    Parameters
    ----------
    axis
        Of the ring.
    dtype
        What they are summed and sent in.
    lengths
        Tokens of each document that a rank holds.
    """

    def __init__(self, axis: Axis, dtype: torch.dtype, lengths: list[int]) -> None:
        self.axis, self.dtype, self.lengths = axis, dtype, lengths
        self.moving: Moving | None = None

    def add(self, found: list[list[Found]]) -> None:
        """Add what a step gave to what has come with the blocks, and send it on."""
        held = self._with(found)
        found.clear()  # before what arrives next needs room
        # The last hop brings them home.
        self.moving = self.axis.shift(held) if self.axis.size > 1 else Moving(held)

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        return [] if self.moving is None else self._arrived(self.moving)

    def _with(self, found: list[list[Found]]) -> list[Tensor]:
        if self.moving is None:  # a rank's first task is over all of its own keys
            return [self._first(own) for own in found]
        held = self._arrived(self.moving)
        for sums, own in zip(held, found, strict=True):
            _add(sums, own, self.lengths)
        return held

    def _arrived(self, moving: Moving) -> list[Tensor]:
        """Wait for them, and let go of what was sent."""
        self.moving = None
        return moving.wait()

    def _first(self, own: list[Found]) -> Tensor:
        keys = joined([each.keys for each in own], -2)
        values = joined([each.values for each in own], -2)
        return torch.stack((keys.to(self.dtype), values.to(self.dtype)))


class Gathered:
    """Gradients of gathered keys and values, summed over ranks once all are there.

    Parameters
    ----------
    axis, dtype, lengths
        As of :class:`Following`.
    """

    def __init__(self, axis: Axis, dtype: torch.dtype, lengths: list[int]) -> None:
        self.axis, self.dtype, self.lengths = axis, dtype, lengths
        self.held: list[Tensor] = []

    def add(self, found: list[list[Found]]) -> None:
        """Add what a step gave to the gradients of the rank it is of."""
        if not self.held:
            self.held = [self._nothing(own[0].keys) for own in found]
        for sums, own in zip(self.held, found, strict=True):
            for one in own:
                _add(sums[one.task.source], [one], self.lengths)

    def sums(self) -> list[Tensor]:
        """Return the gradients of every rank's own keys and values."""
        held, self.held = self.held, []
        return self.axis.scatter_sum(held)

    def _nothing(self, keys: Tensor) -> Tensor:
        batch, heads, _, width = keys.shape
        shape = self.axis.size, 2, batch, heads, sum(self.lengths), width
        return keys.new_zeros(shape, dtype=self.dtype)


def joined(parts: list[Tensor], dim: int) -> Tensor:
    """Return the parts in one; where it is one, itself."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _add(sums: Tensor, found: list[Found], lengths: list[int]) -> None:
    documents = sums.split(lengths, -2)
    for task, number, keys, values in found:
        rows(documents[number][0], task.keys).add_(keys)
        rows(documents[number][1], task.keys).add_(values)
