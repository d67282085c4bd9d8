"""Two book-keepers shared by the oracles: what autograd keeps, and what is alive at the peak.

Both count *storages*, never tensors: a view adds nothing to the memory its base already occupies.
They run on fake tensors, so a layer of any size is measured without allocating it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

_INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTensor:
    """One storage that stays alive until the backward pass, as its producer first shaped it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    storage_bytes: int
    operator: str
    """Operator that allocated the storage, or ``input`` if it came from outside the region."""
    module: str
    """Innermost module running at that moment."""

    def __str__(self) -> str:
        dims = "x".join(map(str, self.shape))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.storage_bytes:>14,} B  {dtype} [{dims}]  {self.operator}  in {self.module}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    shape: tuple[int, ...]
    operator: str
    module: str


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the tensor that occupies memory on this rank: the shard of a distributed tensor."""
    # AsyncCollectiveTensor, the wrapper of an unfinished collective, keeps its payload in `elem`.
    while isinstance(tensor, DTensor) or hasattr(tensor, "elem"):
        tensor = tensor._local_tensor if isinstance(tensor, DTensor) else tensor.elem
    return tensor


def storages(tree: object) -> Iterator[tuple[torch.UntypedStorage, Tensor]]:
    """Yield the storage of every tensor in a nest of arguments, beside the tensor itself."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            tensor = local_tensor(leaf)
            yield tensor.untyped_storage(), tensor


class SavedLedger(TorchDispatchMode):
    """Remember who allocated each storage, and which storages are kept for the backward pass.

    Parameters
    ----------
    ignored
        Tensors that are not activations: parameters, rotary tables.
    """

    def __init__(self, ignored: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._tracker = ModuleTracker()
        self._ignored = {id(storage): storage for storage, _ in storages(list(ignored))}
        self._origins: dict[int, _Origin] = {}
        self._kept: dict[int, tuple[torch.UntypedStorage, SavedTensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note each storage it allocates."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # let it desugar; the local operators come back to us
        known = {id(storage) for storage, _ in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage, tensor in storages(result):
            if id(storage) not in known:
                self._origins[id(storage)] = self._origin(str(func.name()), tensor)
        return result

    def _origin(self, operator: str, tensor: Tensor) -> _Origin:
        module = max(self._tracker.parents, key=lambda name: name.count("."))
        if module == "Global":
            module = max(self._tracker.parents - {"Global"}, key=len, default=module)
        return _Origin(shape=tuple(tensor.shape), operator=operator, module=module)

    def keep(self, tensor: Tensor) -> Tensor:
        """Enter a tensor's storage once, unless it is ignored; return the tensor unchanged."""
        shard = local_tensor(tensor)
        storage = shard.untyped_storage()
        key = id(storage)
        if key not in self._ignored and key not in self._kept:
            # Holding the storage keeps its identity from being handed to a later one.
            self._kept[key] = (storage, self._entry(shard, storage.nbytes()))
        return tensor

    def _entry(self, tensor: Tensor, storage_bytes: int) -> SavedTensor:
        outside = _Origin(shape=tuple(tensor.shape), operator=_INPUT, module="")
        origin = self._origins.get(id(tensor.untyped_storage()), outside)
        return SavedTensor(
            shape=origin.shape,
            dtype=tensor.dtype,
            storage_bytes=storage_bytes,
            operator=origin.operator,
            module=origin.module,
        )

    @property
    def saved(self) -> list[SavedTensor]:
        """Everything kept so far, in the order in which it was first kept."""
        return [entry for _, entry in self._kept.values()]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep whatever autograd packs while the block runs."""
        with self._tracker, saved_tensors_hooks(self.keep, lambda tensor: tensor), self:
            yield


class LiveBytes(TorchDispatchMode):
    """Track all storages allocated inside the mode that are still referenced.

    Memory a kernel claims and returns within one operator is invisible at this level.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self.at_peak: tuple[SavedTensor, ...] = ()
        self._seen: dict[int, SavedTensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and book the storages it allocates."""
        known = {id(storage) for storage, _ in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage, tensor in storages(result):
            if id(storage) not in known and id(storage) not in self._seen:
                self._book(storage, tensor, str(func.name()))
        if self.live_bytes > self.peak_bytes:
            self.peak_bytes, self.at_peak = self.live_bytes, tuple(self._seen.values())
        return result

    def restart(self) -> None:
        """Look for a new peak from here."""
        self.peak_bytes, self.at_peak = self.live_bytes, tuple(self._seen.values())

    def _book(self, storage: torch.UntypedStorage, tensor: Tensor, operator: str) -> None:
        key, size_bytes = id(storage), storage.nbytes()
        self._seen[key] = SavedTensor(
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            storage_bytes=size_bytes,
            operator=operator,
            module="",
        )
        self.live_bytes += size_bytes
        weakref.finalize(storage, self._release, key, size_bytes)

    def _release(self, key: int, size_bytes: int) -> None:
        del self._seen[key]
        self.live_bytes -= size_bytes


def total_bytes(saved: Iterable[SavedTensor]) -> int:
    """Return the bytes of all entries."""
    return sum(entry.storage_bytes for entry in saved)


Loss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Map the weight of a head to its logits and loss, without holding on to either."""


def loss_peak_report(run: Loss, vocab: int, hidden: int, tokens: int) -> dict[str, float]:
    """Measure the peak of a head and its loss, forward and backward, on fake tensors.

    Returns
    -------
    dict
        ``peak_bytes`` while the caller holds the logits through the backward pass;
        ``bytes_per_token_vocab``, its slope in ``tokens * vocab``, in which all that does not
        grow with the vocabulary drops out; and ``bytes_per_token_vocab_logits_dropped``, the
        slope if the caller drops the logits before the backward pass.
    """

    def peak(width: int, *, hold: bool) -> int:
        return _loss_peak(run, torch.empty(width, hidden), hold_logits=hold)

    def slope(*, hold: bool) -> float:
        return (peak(2 * vocab, hold=hold) - peak(vocab, hold=hold)) / (tokens * vocab)

    return {
        "peak_bytes": peak(vocab, hold=True),
        "bytes_per_token_vocab": slope(hold=True),
        "bytes_per_token_vocab_logits_dropped": slope(hold=False),
    }


def _loss_peak(run: Loss, weight: Tensor, *, hold_logits: bool) -> int:
    with LiveBytes() as live:
        logits, loss = run(weight)
        if not hold_logits:
            del logits
        loss.backward()
    peak_bytes: int = live.peak_bytes
    return peak_bytes
