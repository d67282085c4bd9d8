"""All there is to measure on a device, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.calibration import (
    attentions,
    host,
    messages,
    overlap,
    probe,
    products,
    streams,
    sustained,
    targets,
)
from validate.calibration.item import SCALES, Item, Scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from validate.calibration.bench import Bench

_PREPARE: dict[str, Callable[[Item, Bench], Callable[[], object]]] = {
    products.KIND: products.prepare,
    products.OF_WEIGHTS: products.prepare,
    attentions.FORWARD: attentions.prepare,
    attentions.BACKWARD: attentions.prepare,
    streams.KIND: streams.prepare,
    host.LAUNCH: host.prepare,
    host.REPLAY: host.prepare,
    host.COPY: host.prepare,
    messages.KIND: messages.prepare,
    overlap.KIND: overlap.prepare,
    sustained.KIND: sustained.prepare,
    targets.LAYER: targets.prepare,
    targets.BLOCK: targets.prepare,
    probe.KIND: probe.prepare,
}


def items(device: str, world: int, scale: Scale | None = None) -> list[Item]:
    """Return all items of so many ranks on a kind of device."""
    scale = scale or SCALES[device]
    return [
        *probe.items(),
        *products.items(scale),
        *attentions.items(scale),
        *streams.items(scale),
        *host.items(scale, device),
        *messages.items(scale, world),
        *overlap.items(scale, world, device),
        *sustained.items(scale, device),
        *targets.items(scale, world),
    ]


def burst_s(item: Item, scale: Scale) -> float:
    """Return how long a sample of an item takes at least."""
    return sustained.LASTING_S if item.kind == sustained.KIND else scale.burst_s


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return what is to be timed."""
    return _PREPARE[item.kind](item, bench)
