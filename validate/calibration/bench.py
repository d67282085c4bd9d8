"""A device to measure on: inputs, groups of ranks, and a clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from validate.exactness import mesh_of_job, virtual_mesh

if TYPE_CHECKING:
    from collections.abc import Callable

    from validate.kernels.attention import ContextMesh

#: Random numbers that inputs are cut from: zeros draw less power, and compute faster.
POOL_ELEMENTS = {"cpu": 2**24, "cuda": 2**30}
MOST_CALLS = 1000
#: Calls before anything is timed. NCCL connects ranks and chooses channels over the first few.
WARM_UP = {"cpu": 1, "cuda": 5}
DTYPE = torch.bfloat16


class Sample(NamedTuple):
    """One sample, per call.

    Parameters
    ----------
    seconds
        Of the device: of its cores' time on a CPU, between events on a GPU.
    wall_s
        That passed.
    """

    seconds: float
    wall_s: float


@dataclass
class Bench:
    """One rank's device.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    rank, world
        Which of how many ranks that measure together.
    seed
        Of the inputs.
    """

    device: str
    rank: int = 0
    world: int = 1
    seed: int = 0
    used: int = 0
    calls: dict[object, int] = field(default_factory=dict)
    groups: dict[tuple[int, int], Any] = field(default_factory=dict)

    @cached_property
    def pool(self) -> Tensor:
        """Random numbers."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        return torch.randn(
            POOL_ELEMENTS[self.device], generator=generator, dtype=DTYPE, device=self.device
        )

    def tensor(self, *shape: int) -> Tensor:
        """Return random numbers, each time others: nothing measured finds them in a cache."""
        count = math.prod(shape)
        if self.used + count > self.pool.numel():
            self.used = 0
        found = self.pool[self.used : self.used + count].view(shape)
        self.used += count
        return found

    def heads(self, heads: int, tokens: int, width: int) -> Tensor:
        """Return ``[1, heads, tokens, width]``, tokens outermost in memory as models have them."""
        return self.tensor(1, tokens, heads, width).transpose(1, 2)

    def group(self, size: int, stride: int) -> Any:  # noqa: ANN401 - as torch.distributed has it
        """Return this rank's group of ranks so far apart; all like groups are made."""
        key = size, stride
        if key not in self.groups:
            for first in group_starts(self.world, size, stride):
                ranks = [first + at * stride for at in range(size)]
                made = dist.new_group(ranks)
                if self.rank in ranks:
                    self.groups[key] = made
        return self.groups[key]

    def mesh(self, ulysses: int, ring: int) -> ContextMesh:
        """Return a mesh of all ranks, or one whose ranks this process plays if it is alone."""
        if self.world == 1:
            return virtual_mesh(ulysses, ring)
        key = -ulysses, -ring
        if key not in self.groups:
            self.groups[key] = mesh_of_job(ulysses, ring)
        found: ContextMesh = self.groups[key]
        return found

    def together(self) -> None:
        """Wait for all ranks, and for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        if self.world > 1:
            dist.barrier()

    def largest(self, number: int) -> int:
        """Return the largest of all ranks' numbers."""
        if self.world == 1:
            return number
        told = torch.tensor([number], device=self.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return int(told.item())

    def sample(self, key: object, call: Callable[[], object], burst_s: float) -> Sample:
        """Return the time of a call, from a burst of them on all ranks at once.

        Parameters
        ----------
        key
            Whose number of calls is kept.
        call
            What is measured; called before, unless it fills a burst alone and ran already.
        burst_s
            How long the burst takes at least.
        """
        for _ in range(self._warm_up(key)):
            call()
        self.together()
        if key not in self.calls:
            once = self._timed(call, 1)
            wanted = min(math.ceil(burst_s / max(once.wall_s, 1e-9)), MOST_CALLS)
            self.calls[key] = self.largest(wanted)
            if self.calls[key] == 1:
                return once
            self.together()
        return self._timed(call, self.calls[key])

    def _warm_up(self, key: object) -> int:
        """Return calls before one that counts: libraries choose kernels, ranks connect."""
        if key in self.calls:
            return 0 if self.calls[key] == 1 else 1
        return WARM_UP[self.device]

    def _timed(self, call: Callable[[], object], calls: int) -> Sample:
        if self.device == "cuda":
            return self._timed_by_events(call, calls)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Sample(max(cpu, 1e-9) / calls, wall / calls)

    def _timed_by_events(self, call: Callable[[], object], calls: int) -> Sample:
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        for _ in range(calls):
            call()
        ended.record()
        torch.cuda.synchronize()
        taken = begun.elapsed_time(ended) / 1e3 / calls
        return Sample(taken, taken)


def group_starts(world: int, size: int, stride: int) -> list[int]:
    """Return the first ranks of all groups of `size` ranks that are `stride` apart.

    >>> group_starts(8, 2, 2)
    [0, 1, 4, 5]
    """
    return [rank for rank in range(world) if rank // stride % size == 0]
