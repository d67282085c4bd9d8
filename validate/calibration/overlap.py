"""What a hop of a ring takes from the attention it hides behind: each alone, and both at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from topologies.fabric import Fabric
from validate.calibration import messages
from validate.calibration.item import Item, Scale
from validate.calibration.measurement import of_kind
from validate.kernels import block
from validate.kernels.axis import GroupAxis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topologies.cluster import Cluster
    from validate.calibration.bench import Bench
    from validate.calibration.measurement import Measurement

KIND = "overlap"
WHAT = ("compute", "hop", "both")


def items(scale: Scale, world: int) -> list[Item]:
    """Return the three for every axis, with the heads and tokens in the middle of the scale."""
    tokens = scale.tokens[len(scale.tokens) // 2]
    heads, kv_heads, width = scale.heads[0]
    return [
        Item.of(KIND, what=what, size=size, stride=stride, q=tokens, heads=heads,
                kv_heads=kv_heads, d=width, nbytes=scale.message_bytes[-1] // 4)
        for size, stride in messages.axes(world)
        for what in WHAT
    ]  # fmt: skip


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return a hop, a block of attention, or the block while the hop is under way."""
    axis = GroupAxis(bench.group(item.number("size"), item.number("stride")))
    tokens, width = item.number("q"), item.number("d")
    q = bench.heads(item.number("heads"), tokens, width)
    k, v = (bench.heads(item.number("kv_heads"), tokens, width) for _ in range(2))
    sent, scale = bench.tensor(item.number("nbytes") // 2), 1.0 / math.sqrt(width)
    if item["what"] == "hop":
        return lambda: axis.shift([sent]).wait()
    if item["what"] == "compute":
        return lambda: block.forward(q, k, v, causal=False, scale=scale)

    def both() -> None:
        moving = axis.shift([sent])
        block.forward(q, k, v, causal=False, scale=scale)
        moving.wait()

    return both


def shares(found: Sequence[Measurement], cluster: Cluster | None) -> dict[str, list[float]]:
    """Return what hops take on every axis, by the figure of a profile that it is for."""
    taken: dict[str, list[float]] = {}
    axes: dict[tuple[int, int], dict[str, float]] = {}
    for each in of_kind(found, KIND):
        axis = each.item.number("size"), each.item.number("stride")
        axes.setdefault(axis, {})[str(each.item["what"])] = each.t
    for (size, stride), seconds in axes.items():
        if cluster is None or set(seconds) != set(WHAT):
            continue
        links = Fabric(cluster).links((np.array([float(size)]), np.array([float(stride)])))
        name = "steal_scale_out" if links.scale_out[0] else "steal_scale_up"
        taken.setdefault(name, []).append(stolen(*(seconds[what] for what in WHAT)))
    return taken


def stolen(compute_s: float, hop_s: float, both_s: float) -> float:
    """Return the share of the compute rate that a hop takes while it hides: none to all of it.

    >>> stolen(3.0, 1.0, 3.2), stolen(3.0, 1.0, 4.0)
    (0.2, 1.0)
    """
    return round(min(max((both_s - compute_s) / min(hop_s, compute_s), 0.0), 1.0), 6)
