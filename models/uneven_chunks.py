"""How much longer interleaved pipelines take whose chunks are of unequal length.

The closed form of 1F1B has ranks wait only while the pipeline fills and drains. Interleaved, ranks
that hold as much wait in between too where one runs a long chunk while its neighbours run short
ones. How long follows from the order of passes alone: it is walked once for every cut of a model,
for one, two and three micro-batches a rank, and every further one adds as much as the third.

Chunks are as long as their layers take on one device that has whole sequences: what of these ranks
share, and what they send each other, is taken to shorten or lengthen all of them alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from models.inventory import head_work, layer_work
from models.layer_cuts import stage_weights
from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from models.part_times import PartClock
from models.shape import Shapes, distinct
from models.stages import stage_sizes
from models.turns import Turns

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.compute import Device
    from models.layout import Array
    from models.prepared import Prepared
    from models.workload import Workload
    from topologies.fabric import Fabric

#: Micro-batches a rank that are walked.
WALKED = (1, 2, 3)
#: Chunks that differ by no more are of one length.
EVEN = 1e-2


@dataclass(frozen=True, slots=True)
class Passes:
    """Seconds of a pass through every layer, summed from the first on, and through the head."""

    layers: tuple[float, ...]
    head: float


def waits(prepared: Prepared, device: Device, fabric: Fabric) -> Array:
    """Return what unequal chunks add to pipelines, in micro-batches of the slowest rank.

    Parameters
    ----------
    prepared
        Layouts with their inventory.
    device, fabric
        Accelerator with profile, links.

    Returns
    -------
    Array
        Of every layout; 0 but for interleaved pipelines with such chunks. Below 0 where ranks that
        hold less fill the pipeline faster than their mean does.
    """
    batch = prepared.batch
    found = np.zeros(len(prepared))
    rows = np.flatnonzero(batch.schedule == Schedule.INTERLEAVED)
    if not len(rows):
        return found
    columns = [batch.pp[rows], batch.vp[rows], batch.stage_split[rows]]
    first, index = distinct(columns)
    cuts = zip(*(column[first].tolist() for column in columns), strict=True)
    workload = replace(prepared.workload, global_batch=1)
    walked = [_walked(prepared.architecture, workload, device, fabric, *cut) for cut in cuts]
    one, two, three = np.array(walked)[index].T
    rounds = prepared.micro_batches[rows] / batch.pp[rows]
    # Ranks that started early fall back to the pace of the slowest: no round is shorter for good.
    later = (rounds - 2.0) * np.maximum(three - two, 0.0)
    found[rows] = np.where(rounds < 2.0, one, two + later)
    return found


@cache
def _walked(
    architecture: Architecture,
    workload: Workload,
    device: Device,
    fabric: Fabric,
    pp: int,
    vp: int,
    split: int,
) -> tuple[float, ...]:
    """Return what a pipeline waits more, for each number of micro-batches a rank.

    Nothing where chunks are alike, but for a head that makes the last one longer.
    """
    layout = Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED, stage_split=StageSplit(split))
    sizes = stage_sizes(architecture, workload, layout)
    ahead, back = (
        stage_weights(sizes, passes.layers, passes.head)
        for passes in passes_of(architecture, workload, device, fabric)
    )
    both = [sum(pair) for pair in zip(ahead, back, strict=True)]
    if max(both[:-1]) <= min(both) * (1.0 + EVEN):
        return (0.0,) * len(WALKED)
    ranks = [sum(both[rank::pp]) for rank in range(pp)]
    slowest = max(ranks)
    ends = (Turns(pp, rounds, ahead, back).end() for rounds in WALKED)
    fills = (sum(ranks) - slowest) / vp
    return tuple(
        (end - fills) / slowest - rounds * pp for rounds, end in zip(WALKED, ends, strict=True)
    )


@cache
def passes_of(
    architecture: Architecture, workload: Workload, device: Device, fabric: Fabric
) -> tuple[Passes, Passes]:
    """Return forward and backward passes of a whole sequence on one device."""
    shapes = Shapes.single(workload)
    clock = PartClock(device, fabric, shapes)
    parts = [layer_work(kind, architecture.hidden, shapes) for kind in architecture.kinds]
    times = [clock.times(part) for part in (*parts, head_work(architecture, shapes))]
    found = []
    for spent in ([each.forward for each in times], [each.backward for each in times]):
        *kinds, head = (float(each.total[0]) for each in spent)
        sums = accumulate((kinds[kind] for kind in architecture.kind_of_layer), initial=0.0)
        found.append(Passes(tuple(sums), head))
    return found[0], found[1]
