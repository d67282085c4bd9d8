"""Whether what was measured is right: exact kernels, and memory as the inventory has it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from validate.calibration.peak import measured_peak, predicted_peak
from validate.cases import cases
from validate.exactness import TENSORS, check_virtually
from validate.llama import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from validate.calibration.item import Scale

#: Ranks that this process plays.
RANKS = 4
DTYPE = torch.bfloat16


def exactness(device: str) -> list[dict[str, Any]]:
    """Return every method against attention on one device, as `check-kernels` has them."""
    with _one_thread():
        found = list(check_virtually(cases(RANKS, ("bf16",)), device))
    return [
        {
            "name": f"{each.case.method} {'causal' if each.case.causal else 'full'}",
            "ranks": f"{each.case.ulysses}x{each.case.ring}",
            "rel_err": dict(zip(TENSORS, each.errors, strict=True)),
            "tol": each.tolerance,
            "ok": each.exact,
        }
        for each in found
    ]


def peaks(device: str, scale: Scale) -> list[dict[str, Any]]:
    """Return the peak memory of each held-out block on one rank, and the inventory's."""
    how = "allocator" if device == "cuda" else "torch's MemTracker over fake tensors"
    found = []
    for hidden, heads, kv_heads, mlp, tokens in scale.blocks:
        size = Size(hidden=hidden, heads=heads, kv_heads=kv_heads, mlp=mlp)
        measured = measured_peak(size, tokens, torch.device(device), DTYPE)
        predicted = predicted_peak(size, tokens)
        found.append(
            {
                "name": f"peak of a block: hidden {hidden}, {tokens} tokens",
                "how": how,
                "forward_bytes": [measured.forward_bytes, predicted.forward_bytes],
                "backward_bytes": [measured.backward_bytes, predicted.backward_bytes],
                "saved_bytes": [measured.saved_bytes, predicted.saved_bytes],
                "error": predicted.backward_bytes / measured.backward_bytes - 1.0,
            }
        )
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute small tensors on one core: several threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
