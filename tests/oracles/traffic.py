"""What one rank of a fake process group sends, counted in the operators that torch issues.

Collectives of a fake group move nothing, so a group of any size is one process, and one rank of it
runs a whole program on fake tensors.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .ledger import local_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]

#: What operators of ``c10d`` (in place) and ``_c10d_functional`` (traced) are, by their names.
COLLECTIVES: dict[str, Collective] = {
    "_c10d_functional::all_reduce": "all_reduce",
    "_c10d_functional::all_gather_into_tensor": "all_gather",
    "_c10d_functional::reduce_scatter_tensor": "reduce_scatter",
    "c10d::allreduce_": "all_reduce",
    "c10d::_allgather_base_": "all_gather",
    "c10d::_reduce_scatter_base_": "reduce_scatter",
    "c10d::alltoall_base_": "all_to_all",
}

_SILENT = {"_c10d_functional::wait_tensor"}


@contextmanager
def fake_group(world_size: int, rank: int = 0) -> Iterator[None]:
    """Be one rank of a process group in which nobody else exists."""
    dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One collective: what it is, over how many ranks, and the bytes that this rank sends."""

    collective: Collective
    ranks: int
    sent_bytes: int


@dataclass(slots=True)
class Traffic:
    """What one rank sends, call by call."""

    made: list[Call] = field(default_factory=list)

    @property
    def calls(self) -> Counter[str]:
        """Number of calls of each collective."""
        return Counter(call.collective for call in self.made)

    @property
    def sent_bytes(self) -> Counter[str]:
        """Bytes sent by each collective."""
        total: Counter[str] = Counter()
        for call in self.made:
            total[call.collective] += call.sent_bytes
        return total

    @property
    def total_bytes(self) -> int:
        """Bytes sent by all of them."""
        return sum(call.sent_bytes for call in self.made)


class TrafficCounter(TorchDispatchMode):
    """Book every collective at the cost of its ring algorithm; refuse one that it does not know.

    A rank sends ``(ranks - 1) / ranks`` of the unsharded side (what is reduced, the result of an
    all-gather, the input of a reduce-scatter), in an all-reduce twice; in an all-to-all the rows
    of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and book it if it communicates."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # let it desugar; the local operators come back to us
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name.startswith(("c10d::", "_c10d_functional")) and name not in _SILENT:
            self._book(name, args, result)
        return result

    def _book(self, name: str, args: Any, result: Any) -> None:
        if name not in COLLECTIVES:
            raise NotImplementedError(f"{name} has no entry in COLLECTIVES")
        collective, group = COLLECTIVES[name], _group(args)
        ranks = group.size()
        if collective == "all_to_all":
            sent = _exchanged(args, group)
        else:
            passes = 2 if collective == "all_reduce" else 1
            full = max(_nbytes(each) for each in tree_leaves((args, result)) if _is_tensor(each))
            sent = passes * full * (ranks - 1) // ranks
        self.traffic.made.append(Call(collective=collective, ranks=ranks, sent_bytes=sent))


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _nbytes(tensor: Tensor) -> int:
    local = local_tensor(tensor)
    return prod(local.shape) * local.itemsize


def _group(args: Any) -> dist.ProcessGroup:
    """Return the group of a collective: an argument, boxed for ``c10d``, by name where traced."""
    for each in args:
        if isinstance(each, torch.ScriptObject) and "ProcessGroup" in str(each._type()):
            return dist.ProcessGroup.unbox(each)
        if isinstance(each, dist.ProcessGroup):
            return each
    return dist.distributed_c10d._resolve_process_group(args[-1])


def _exchanged(args: Any, group: dist.ProcessGroup) -> int:
    """Return what an all-to-all sends to others: rows of the input, as even as no sizes say."""
    _, given, _, _, sizes, *_ = args
    rows = sizes or [len(given) // group.size()] * group.size()
    away = sum(rows) - rows[group.rank()]
    return int(away * _nbytes(given) // len(given))
