"""Starting kernels, and copies: of the device, and between it and the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from validate.calibration.item import Item, Scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from validate.calibration.bench import Bench

LAUNCH, REPLAY, COPY = "launch", "replay", "copy"
#: Kernels of the graph that is replayed.
REPLAYED = 100


def items(scale: Scale, device: str) -> list[Item]:
    """Return what the device has."""
    ways = ("device", "to_host", "to_device") if device == "cuda" else ("device",)
    copies = [
        Item.of(COPY, way=way, nbytes=2 * elements) for elements in scale.elements for way in ways
    ]
    graphs = [Item.of(REPLAY, kernels=REPLAYED)] if device == "cuda" else []
    return [Item.of(LAUNCH, elements=1), *graphs, *copies]


def skipped(device: str) -> list[tuple[str, str]]:
    """Return what the device has not, and why."""
    if device == "cuda":
        return []
    return [
        (REPLAY, "graphs of kernels need a GPU"),
        ("copy to_host, to_device", "the host's memory is the device's"),
    ]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the launch, the replay or the copy."""
    if item.kind == LAUNCH:
        one = torch.zeros(1, device=bench.device)
        return lambda: one.add_(1.0)
    if item.kind == REPLAY:
        replay: Callable[[], object] = _graph(bench).replay
        return replay
    source = bench.tensor(item.number("nbytes") // 2)
    if item["way"] == "device":
        target = torch.empty_like(source)
        return lambda: target.copy_(source)
    host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
    if item["way"] == "to_host":
        return lambda: host.copy_(source, non_blocking=True)
    target = torch.empty_like(source)
    return lambda: target.copy_(host, non_blocking=True)


def _graph(bench: Bench) -> torch.cuda.CUDAGraph:
    one = torch.zeros(1, device=bench.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPLAYED):
            one.add_(1.0)
    return graph
