"""Collectives of every axis that ranks may form, all groups at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from topologies.collective import Collective
from validate.calibration.item import Item, Scale
from validate.kernels.axis import GroupAxis

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from validate.calibration.bench import Bench

KIND = "collective"


def axes(world: int) -> list[tuple[int, int]]:
    """Return sizes and strides of groups: for every power of two, neighbours and those apart.

    >>> axes(4)
    [(2, 1), (2, 2), (4, 1)]
    """
    powers = [2**power for power in range(1, world.bit_length()) if world % 2**power == 0]
    apart = {(world // inside, inside) for inside in powers if inside < world}
    return sorted(
        {(inside, 1) for inside in powers} | apart | ({(world, 1)} if world > 1 else set())
    )


def items(scale: Scale, world: int) -> list[Item]:
    """Return every collective of every axis with every number of bytes."""
    return [
        Item.of(KIND, collective=str(collective), size=size, stride=stride, nbytes=nbytes)
        for size, stride in axes(world)
        for collective in Collective
        for nbytes in scale.message_bytes
    ]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the collective as the kernels here and torch's own parallelism call it."""
    size = item.number("size")
    axis = GroupAxis(bench.group(size, item.number("stride")))
    elements = max(item.number("nbytes") // 2 // size, 1)
    return _CALLS[Collective(str(item["collective"]))](axis, bench, elements)


def _all_gather(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    own = bench.tensor(elements)
    return lambda: axis.gather([own])


def _reduce_scatter(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    whole = bench.tensor(axis.size, elements)
    return lambda: axis.scatter_sum([whole])


def _all_to_all(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    whole = bench.tensor(axis.size, elements)
    return lambda: axis.exchange([whole])


def _shift(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    whole = bench.tensor(axis.size * elements)
    return lambda: axis.shift([whole]).wait()


def _all_reduce(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    whole = _of_its_own(bench, axis.size * elements)
    return lambda: dist.all_reduce(whole, group=axis.group)


def _broadcast(axis: GroupAxis, bench: Bench, elements: int) -> Callable[[], object]:
    whole = _of_its_own(bench, axis.size * elements)
    return lambda: dist.broadcast(whole, group_src=0, group=axis.group)


def _of_its_own(bench: Bench, elements: int) -> Tensor:
    """Return zeros to write to: sums of them stay finite."""
    return torch.zeros(elements, dtype=bench.pool.dtype, device=bench.device)


_CALLS = {
    Collective.ALL_GATHER: _all_gather,
    Collective.REDUCE_SCATTER: _reduce_scatter,
    Collective.ALL_TO_ALL: _all_to_all,
    Collective.SHIFT: _shift,
    Collective.ALL_REDUCE: _all_reduce,
    Collective.BROADCAST: _broadcast,
}
