"""Seconds of one part of the model on one rank: compute, and communication left exposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models import collectives
from models.operation import Axis
from models.sequence_parallel import CORE_ATTENTION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.collectives import Cost
    from models.compute import Device
    from models.layout import Array
    from models.operation import Communication, Compute, Work
    from models.shape import Shapes
    from topologies.collective import Collective
    from topologies.fabric import Fabric
    from topologies.group_links import GroupLinks


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by what they go into; arrays of one shape.

    Parameters
    ----------
    compute
        Kernels.
    tp, cp
        Exposed communication of tensor and of context parallelism, and what hidden communication
        takes from the compute it hides behind.
    """

    compute: Array
    tp: Array
    cp: Array

    @property
    def total(self) -> Array:
        """All of it."""
        return self.compute + self.tp + self.cp

    def stacked(self) -> Array:
        """Return the three as one array with a last axis of 3."""
        return np.stack([self.compute, self.tp, self.cp], axis=-1)


@dataclass(frozen=True, slots=True)
class PartTimes:
    """Seconds of a part, per micro-batch.

    Parameters
    ----------
    forward, backward
        The two passes.
    repeated, repeated_selective
        What full and what selective recomputation add to the backward pass.
    """

    forward: Spent
    backward: Spent
    repeated: Spent
    repeated_selective: Spent


class PartClock:
    """Times parts of a model for given shapes on a device and a fabric."""

    def __init__(self, device: Device, fabric: Fabric, shapes: Shapes) -> None:
        self.device = device
        self.ring, self.inner_ring, self.windows = shapes.ring, shapes.inner_ring, shapes.windows
        strides = shapes.strides()
        self.links: dict[Axis, GroupLinks] = {
            Axis.TP: fabric.links((shapes.tp, strides["tp"])),
            Axis.ULYSSES: fabric.links((shapes.ulysses, strides["ulysses"])),
            Axis.RING: fabric.links((shapes.windows, strides["ring"])),
            Axis.INNER_RING: fabric.links((shapes.inner_ring, strides["inner_ring"])),
        }
        self._costs: dict[tuple[Collective, Axis], Cost] = {}
        between, inside = self.links[Axis.RING], self.links[Axis.INNER_RING]
        #: Where hops between windows and inside them do not share links.
        self.apart = between.scale_out != inside.scale_out

    def times(self, work: Work) -> PartTimes:
        """Return the seconds of one part."""
        forward = self._phase(work.forward_compute(), work.forward_communication())
        return PartTimes(
            forward=forward,
            backward=self._phase(work.backward_compute(), work.backward_communication()),
            repeated=forward,
            repeated_selective=self._phase(
                work.forward_compute(), work.forward_communication(), selective=True
            ),
        )

    def seconds(self, op: Communication) -> Array:
        """Return the time of all calls of one communication."""
        return self._cost(op.collective, op.axis).seconds(op.nbytes) * op.calls

    def _cost(self, collective: Collective, axis: Axis) -> Cost:
        if (collective, axis) not in self._costs:
            links, profile = self.links[axis], self.device.profile
            self._costs[collective, axis] = collectives.cost(collective, links, profile)
        return self._costs[collective, axis]

    def _phase(
        self,
        compute: Iterable[Compute],
        communication: Iterable[Communication],
        *,
        selective: bool = False,
    ) -> Spent:
        nothing = np.zeros_like(self.ring)
        seconds: dict[str, Array] = {}
        launches = kernels = nothing
        for op in compute:
            share = op.selective if selective else 1.0
            time = self.device.seconds(op) * share
            seconds[op.name] = seconds.get(op.name, nothing) + time
            kernels, launches = kernels + time, launches + op.launches * share
        kernels = self.device.host_bound(kernels, launches)
        waiting: dict[tuple[str, Axis], Array] = {}
        for sent in communication:
            key = (sent.hidden_by, sent.axis)
            share = sent.selective if selective else 1.0
            waiting[key] = waiting.get(key, nothing) + self.seconds(sent) * share
        exposed = {"tp": nothing, "cp": nothing}
        for (hidden_by, axis), time in self._pooled(waiting).items():
            room = self._room(hidden_by, axis, seconds)
            place = "tp" if axis is Axis.TP else "cp"
            hidden = np.minimum(time, room)
            exposed[place] = exposed[place] + time - hidden + hidden * self._steal(axis)
        return Spent(kernels, exposed["tp"], exposed["cp"])

    def _pooled(self, waiting: dict[tuple[str, Axis], Array]) -> dict[tuple[str, Axis], Array]:
        """Return the waits with all hops of a ring in one where they share links.

        Then a double ring has no more room than a flat one: what a hop between windows takes of the
        links, the hops inside have not.
        """
        between, inside = (CORE_ATTENTION, Axis.RING), (CORE_ATTENTION, Axis.INNER_RING)
        if inside not in waiting:
            return waiting
        shared = np.where(self.apart, 0.0, waiting[inside])
        return waiting | {
            between: waiting[between] + shared,
            inside: waiting[inside] - shared,
        }

    def _room(self, hidden_by: str, axis: Axis, seconds: dict[str, Array]) -> Array:
        """Return the compute time a communication may hide behind.

        Every ring hop hides behind the block before it, so of `ring` blocks all but one count. On a
        double ring whose two rings travel on different links, a hop inside a window still hides
        behind the block before it (all but the last of a round), and a hop between windows behind
        the round before it (all rounds but the last). Each ring has its room to itself, although
        both lie behind the same kernels: together they may hide more seconds than attention takes.
        What neither hides is summed, although the two may wait at once.
        """
        if not hidden_by:
            return np.zeros_like(self.ring)
        if hidden_by != CORE_ATTENTION:
            return seconds[hidden_by]
        between = np.where(self.apart, self.windows, self.ring)
        blocks = self.inner_ring if axis is Axis.INNER_RING else between
        return seconds[hidden_by] * ((blocks - 1.0) / blocks)

    def _steal(self, axis: Axis) -> Array:
        return collectives.steal(self.links[axis], self.device.profile)
