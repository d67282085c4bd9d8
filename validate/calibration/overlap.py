"""What a hop of a ring takes from the attention it hides behind: each alone, and both at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

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
#: Size and stride of a GPU without others.
ALONE = (1, 1)


def items(scale: Scale, world: int, device: str) -> list[Item]:
    """Return the three for every axis, with the heads and tokens in the middle of the scale.

    A GPU alone copies within its memory instead, on a stream of its own, as the kernels of a
    collective would.
    """
    tokens = scale.tokens[len(scale.tokens) // 2]
    heads, kv_heads, width = scale.heads[0]
    axes = messages.axes(world) or ([ALONE] if device == "cuda" else [])
    return [
        Item.of(KIND, what=what, size=size, stride=stride, q=tokens, heads=heads,
                kv_heads=kv_heads, d=width, nbytes=scale.message_bytes[-1] // 4)
        for size, stride in axes
        for what in WHAT
    ]  # fmt: skip


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return a hop, a block of attention, or the block while the hop is under way."""
    tokens, width = item.number("q"), item.number("d")
    q = bench.heads(item.number("heads"), tokens, width)
    k, v = (bench.heads(item.number("kv_heads"), tokens, width) for _ in range(2))
    scale = 1.0 / math.sqrt(width)
    begin = _hop(item, bench)

    def compute() -> object:
        return block.forward(q, k, v, causal=False, scale=scale)

    def hop() -> None:
        begin()()

    def both() -> None:
        end = begin()
        compute()
        end()

    return {"hop": hop, "compute": compute, "both": both}[str(item["what"])]


def _hop(item: Item, bench: Bench) -> Callable[[], Callable[[], object]]:
    """Return what starts a hop and gives what waits for its end."""
    sent = bench.tensor(item.number("nbytes") // 2)
    if (item.number("size"), item.number("stride")) != ALONE:
        axis = GroupAxis(bench.group(item.number("size"), item.number("stride")))
        return lambda: axis.shift([sent]).wait
    arriving, beside = torch.empty_like(sent), torch.cuda.Stream()

    def copy() -> Callable[[], object]:
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            arriving.copy_(sent)
        return lambda: torch.cuda.current_stream().wait_stream(beside)

    return copy


def shares(found: Sequence[Measurement], cluster: Cluster | None) -> dict[str, list[float]]:
    """Return what hops take on every axis, by the figure of a profile that it is for."""
    taken: dict[str, list[float]] = {}
    axes: dict[tuple[int, int], dict[str, float]] = {}
    for each in of_kind(found, KIND):
        axis = each.item.number("size"), each.item.number("stride")
        axes.setdefault(axis, {})[str(each.item["what"])] = each.t
    for (size, stride), seconds in axes.items():
        if set(seconds) == set(WHAT):
            name = "steal_scale_out" if _far(cluster, size, stride) else "steal_scale_up"
            taken.setdefault(name, []).append(stolen(*(seconds[what] for what in WHAT)))
    return taken


def _far(cluster: Cluster | None, size: int, stride: int) -> bool:
    """Return whether such groups leave the fast domain."""
    if cluster is None:
        return False
    links = Fabric(cluster).links((np.array([float(size)]), np.array([float(stride)])))
    return bool(links.scale_out[0])


def stolen(compute_s: float, hop_s: float, both_s: float) -> float:
    """Return the share of the compute rate that a hop takes while it hides: none to all of it.

    >>> stolen(3.0, 1.0, 3.2), stolen(3.0, 1.0, 4.0)
    (0.2, 1.0)
    """
    return round(min(max((both_s - compute_s) / min(hop_s, compute_s), 0.0), 1.0), 6)
