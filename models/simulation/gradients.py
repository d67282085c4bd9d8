"""Buckets of parameters and gradients: what data parallelism sends beside the passes of a rank.

A bucket is a layer's parameters, with the embedding's in the first and the head's in the last. What
a rank sends in a step is divided among them by their parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.data_parallel import DataParallelClock
from models.memory import GRADIENT_BYTES, PARAMETER_BYTES, shard_ranks
from models.simulation.operations import load
from models.simulation.program import Task
from models.simulation.stages import parts_of
from models.simulation.timeline import Call, Stream
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.collectives import Cost
    from models.compute import Device
    from models.prepared import Prepared
    from models.simulation.stages import Stage
    from topologies.fabric import Fabric
    from topologies.group_links import GroupLinks
    from topologies.library import Algorithm


class Gradients:
    """What data parallelism does on one pipeline rank.

    Parameters
    ----------
    prepared, device, fabric
        One layout, accelerator with profile, links.
    stages
        All that the rank holds.
    """

    def __init__(
        self, prepared: Prepared, device: Device, fabric: Fabric, stages: Sequence[Stage]
    ) -> None:
        self.prepared = prepared
        self.clock = DataParallelClock(
            prepared, device, fabric, parts_of(stages, len(prepared.layers))
        )
        self.params = float(self.clock.params[0])
        self.whole = bool(prepared.batch.zero[0] == 0)
        self.optimizer_s = float(self.clock.optimizer()[0])
        self.between_s = float(self.clock.between_s()[0])

    def gathers(self, stage: Stage) -> list[Task]:
        """Return the gathering of every bucket of a stage, first layer first."""
        what = Collective.ALL_GATHER
        whole_s = float(self.clock.gather_s()[0])
        clock, nbytes = self.clock, self.params * PARAMETER_BYTES
        return [
            self._task("gather parameters", what, whole_s, nbytes, share, clock.shards)
            for share in self._shares(stage)
        ]

    def reductions(self, stage: Stage) -> list[list[Task]]:
        """Return the reduction of every bucket of a stage, first layer first.

        Within the shards, and with replicas of them a second one.
        """
        clock, nbytes = self.clock, self.params * GRADIENT_BYTES
        what = Collective.ALL_REDUCE if self.whole else Collective.REDUCE_SCATTER
        within_s, across_s = float(clock.scatter_s()[0]), float(clock.across_s()[0])
        shard = nbytes / float(shard_ranks(self.prepared)[0])
        found = []
        for share in self._shares(stage):
            both = [
                self._task("reduce gradients", what, within_s, nbytes, share, clock.shards),
                self._task(
                    "reduce gradients across replicas",
                    Collective.ALL_REDUCE,
                    across_s,
                    shard,
                    share,
                    clock.replicas,
                ),
            ]
            found.append([task for task in both if task.seconds > 0])
        return found

    def _shares(self, stage: Stage) -> list[float]:
        """Return every bucket's share of the rank's parameters; one at least."""
        table = self.prepared.parameters
        shares = [float(table.layers[kind][0]) for kind in stage.kinds] or [0.0]
        if stage.embedding:
            shares[0] += float(table.embedding[0])
        if stage.head:
            shares[-1] += float(table.head[0]) + float(self.prepared.copied_head()[0])
        return [params / self.params for params in shares]

    def _task(
        self,
        name: str,
        what: Collective,
        whole_s: float,
        nbytes: float,
        share: float,
        links: GroupLinks,
    ) -> Task:
        if whole_s <= 0:
            return Task(Call(name=name, stream=Stream.DP, collective=what), 0.0)
        own = links.take(self.prepared.mesh_index)
        across = links is self.clock.replicas
        cost = self.clock.across if across else self.clock.costs[what]
        return Task(
            Call(
                name=name,
                stream=Stream.DP,
                collective=what,
                nbytes=nbytes * share,
                group=int(own.size[0]),
            ),
            whole_s * share,
            float((self.clock.steal_across if across else self.clock.steal)[0]),
            load(what, own, _algorithm(cost, nbytes)),
        )


def _algorithm(cost: Cost, nbytes: float) -> Algorithm:
    return cost.chosen(np.full(cost.start_s.shape[1], nbytes))[0]
