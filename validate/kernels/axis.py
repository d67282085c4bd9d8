"""The ranks of one axis of the mesh, and what they send each other.

A program calls an axis with one tensor for each rank that this process plays, and gets as many
back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Newer names of the same collectives, where torch has them.
_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_SCATTER_SUM = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Moving(NamedTuple):
    """Tensors on their way.

    Parameters
    ----------
    arriving
        Where they will be.
    works
        What to wait for; empty if they are there.
    sent
        Kept until then: nobody may write to what is being sent.
    """

    arriving: list[Tensor]
    works: tuple[Any, ...] = ()
    sent: tuple[Tensor, ...] = ()

    def wait(self) -> list[Tensor]:
        """Return the tensors once they have arrived."""
        for work in self.works:
            work.wait()
        return self.arriving


class Axis(ABC):
    """Ranks that work together along one axis.

    Attributes
    ----------
    size
        How many there are.
    places
        The places along the axis of the ranks that this process plays.
    """

    size: int
    places: tuple[int, ...]

    @abstractmethod
    def shift(self, tensors: Sequence[Tensor]) -> Moving:
        """Send every rank's tensor to the next one."""

    @abstractmethod
    def exchange(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Send row ``r`` of every rank's tensor, of shape ``[size, ...]``, to rank ``r``.

        What comes from rank ``r`` is in row ``r``.
        """

    @abstractmethod
    def gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return all ranks' tensors to each, in shape ``[size, ...]``."""

    @abstractmethod
    def scatter_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return to rank ``r`` the sum over ranks of row ``r`` of their ``[size, ...]``."""


class VirtualAxis(Axis):
    """An axis whose ranks are all played by this process, several groups of them if need be.

    Parameters
    ----------
    groups
        For every group the numbers of its ranks, in order; together all ranks of the mesh.
    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self.groups = groups
        self.size = len(groups[0])
        place = {rank: at for group in groups for at, rank in enumerate(group)}
        self.places = tuple(place[rank] for rank in sorted(place))

    def shift(self, tensors: Sequence[Tensor]) -> Moving:
        """Hand tensors on."""
        found = list(tensors)
        for group in self.groups:
            for at, rank in enumerate(group):
                found[group[(at + 1) % self.size]] = tensors[rank]
        return Moving(found)

    def exchange(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Transpose over each group."""
        found = list(tensors)
        for group in self.groups:
            for at, rank in enumerate(group):
                found[rank] = torch.stack([tensors[other][at] for other in group])
        return found

    def gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Stack over each group."""
        found = list(tensors)
        for group in self.groups:
            together = torch.stack([tensors[rank] for rank in group])
            for rank in group:
                found[rank] = together
        return found

    def scatter_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up over each group."""
        found = list(tensors)
        for group in self.groups:
            total = torch.stack([tensors[rank] for rank in group]).sum(0)
            for at, rank in enumerate(group):
                found[rank] = total[at]
        return found


class GroupAxis(Axis):
    """An axis of processes, of which this one plays its own rank.

    Parameters
    ----------
    group
        Of ``torch.distributed``.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self.place = dist.get_rank(group)
        self.places = (self.place,)
        self.peer_to_peer = dist.get_backend(group) == "nccl"

    def shift(self, tensors: Sequence[Tensor]) -> Moving:
        """Send beside what is computed meanwhile."""
        (tensor,) = tensors
        tensor = tensor.contiguous()
        arriving = torch.empty_like(tensor)
        if self.peer_to_peer:
            return Moving([arriving], self._peers(tensor, arriving), (tensor,))
        # Gloo's own point-to-point calls spin for a slice of the scheduler where ranks outnumber
        # cores; an all-to-all that only one row of travels does not.
        give, take = [0] * self.size, [0] * self.size
        give[(self.place + 1) % self.size] = take[(self.place - 1) % self.size] = tensor.numel()
        work = dist.all_to_all_single(
            arriving.view(-1), tensor.view(-1), take, give, group=self.group, async_op=True
        )
        return Moving([arriving], (work,), (tensor,))

    def _peers(self, tensor: Tensor, arriving: Tensor) -> tuple[Any, ...]:
        to, of = (dist.get_global_rank(self.group, (self.place + by) % self.size) for by in (1, -1))
        return tuple(
            dist.batch_isend_irecv(
                [
                    dist.P2POp(dist.isend, tensor, to, group=self.group),
                    dist.P2POp(dist.irecv, arriving, of, group=self.group),
                ]
            )
        )

    def exchange(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Exchange by one all-to-all."""
        (tensor,) = tensors
        found = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        dist.all_to_all_single(found, tensor.contiguous(), group=self.group)
        return [found]

    def gather(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Gather by one all-gather."""
        (tensor,) = tensors
        found = tensor.new_empty((self.size, *tensor.shape))
        _GATHER(found.flatten(0, 1), tensor.contiguous(), group=self.group)
        return [found]

    def scatter_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up by one reduce-scatter."""
        (tensor,) = tensors
        found = tensor.new_empty(tensor.shape[1:])
        _SCATTER_SUM(found, tensor.contiguous().flatten(0, 1), group=self.group)
        return [found]
