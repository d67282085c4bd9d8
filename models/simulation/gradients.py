"""Buckets of parameters and gradients: what data parallelism sends beside the passes of a rank.

A bucket is a layer's parameters, with the embedding's in the first and the head's in the last. What
a rank sends in a step is divided among them by their parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.data_parallel import DataParallelClock
from models.simulation.operations import load
from models.simulation.program import Task
from models.simulation.stages import parts_of
from models.simulation.timeline import Call, Stream
from models.state_bytes import reduces_each_pass, shard_ranks
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.compute import Device
    from models.prepared import Prepared
    from models.simulation.stages import Stage
    from topologies.fabric import Fabric


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What data parallelism does with all that a rank holds, to be divided into buckets.

    Parameters
    ----------
    call
        Of the whole.
    seconds
        It takes, alone.
    steal
        Share of the compute it takes away while it runs.
    load
        Share of every class of links that it keeps busy.
    """

    call: Call
    seconds: float
    steal: float = 0.0
    load: tuple[float, ...] = ()

    def bucket(self, share: float) -> Task:
        """Return a share of it."""
        call = replace(self.call, nbytes=self.call.nbytes * share)
        return Task(call, self.seconds * share, self.steal, self.load)


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
        self.whole = bool(self.clock.shared.summed_for_all[0])
        # Weights are quantised where the step ends, all at once.
        self.optimizer_s = float((self.clock.optimizer() + self.clock.casting())[0])
        self.between_s = float((self.clock.between_s() + self.clock.apart_s())[0])
        self._gathers: dict[Stage, list[Task]] = {}

    def gathers(self, stage: Stage) -> list[Task]:
        """Return the gathering of every bucket of a stage, first layer first."""
        if stage not in self._gathers:
            whole = self._gathering
            beside = float(self._gathers_beside)
            self._gathers[stage] = [
                replace(whole.bucket(share), seconds=whole.seconds * share * beside)
                for share in self._shares(stage)
            ]
        return self._gathers[stage]

    def reductions(self, stage: Stage) -> list[list[Task]]:
        """Return the reduction of every bucket of a stage, first layer first.

        Within the shards, and with replicas of them a second one.
        """
        beside = self._reduces_beside
        return [
            [each.bucket(share) for each in self._reducing if beside and each.seconds > 0]
            for share in self._shares(stage)
        ]

    def apart(self) -> list[Task]:
        """Return what software hides nothing of, which is sent once all passes are done."""
        left = [] if self._reduces_beside else list(self._reducing)
        if not self._gathers_beside:
            left.append(self._gathering)
        return [each.bucket(1.0) for each in left if each.seconds > 0]

    @property
    def _reduces_beside(self) -> bool:
        """Whether gradients are reduced beside passes: by layer, or as software does it."""
        each_pass = reduces_each_pass(self.prepared.batch)
        return self.clock.hides_gradients or bool(each_pass[0])

    @property
    def _gathers_beside(self) -> bool:
        """Whether parameters are gathered beside passes."""
        return self.clock.hides_parameters or bool(self.prepared.batch.zero[0] >= 2)

    @cached_property
    def _gathering(self) -> Exchange:
        in_turn = self.clock.shared.in_turn[0]
        return self._exchange(
            "gather parameters",
            Collective.BROADCAST if in_turn else Collective.ALL_GATHER,
            float(self.clock.gather_s()[0]),
            float(self.clock.gathered_bytes()[0]),
        )

    @cached_property
    def _reducing(self) -> tuple[Exchange, Exchange]:
        clock, nbytes = self.clock, self.params * self.clock.states.reduced_bytes
        what = Collective.ALL_REDUCE if self.whole else Collective.REDUCE_SCATTER
        within = self._exchange("reduce gradients", what, float(clock.scatter_s()[0]), nbytes)
        across = self._exchange(
            "reduce gradients across replicas",
            Collective.ALL_REDUCE,
            float(clock.across_s()[0]),
            nbytes / float(shard_ranks(self.prepared)[0]),
            replicas=True,
        )
        return within, across

    def _exchange(
        self, name: str, what: Collective, seconds: float, nbytes: float, *, replicas: bool = False
    ) -> Exchange:
        clock = self.clock
        if seconds <= 0:
            return Exchange(call=Call(name=name, stream=Stream.DP, collective=what), seconds=0.0)
        shared = clock.shared
        links = (shared.replicas if replicas else shared.shards).take(self.prepared.mesh_index)
        cost = shared.across if replicas else shared.costs[what]
        chosen = cost.chosen(np.full(cost.start_s.shape[1], nbytes))[0]
        call = Call(
            name=name, stream=Stream.DP, collective=what, nbytes=nbytes, group=int(links.size[0])
        )
        steal = float((clock.steal_across if replicas else clock.steal)[0])
        return Exchange(call=call, seconds=seconds, steal=steal, load=load(what, links, chosen))

    def _shares(self, stage: Stage) -> list[float]:
        """Return every bucket's share of the rank's parameters; one at least."""
        table = self.prepared.parameters
        wholes = [own + experts for own, experts in zip(table.layers, table.experts, strict=True)]
        shares = [float(wholes[kind][0]) for kind in stage.kinds] or [0.0]
        if stage.embedding:
            shares[0] += float(table.embedding[0])
        if stage.head:
            shares[-1] += float(table.head[0]) + float(self.prepared.copied_head()[0])
        return [params / self.params for params in shares]
