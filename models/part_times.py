"""Seconds of one part of the model on one rank: compute, and communication left exposed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from models import collectives
from models.named_axes import Dispatch
from models.operation import EXPERT_AXES, Axis, repeated_share
from models.overlap import beside
from models.paced_phase import PacedPhase
from models.ring_times import RingTimes
from models.sequence_parallel.sent import CORE_ATTENTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from models.collectives import Cost
    from models.compute import Device
    from models.layout import Array
    from models.operation import Communication, Compute, Operation, Work
    from models.recompute_modules import RecomputeModules
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
    tp, cp, ep
        Exposed communication of tensor, context and expert parallelism, and what hidden
        communication takes from the compute it hides behind.
    """

    compute: Array
    tp: Array
    cp: Array
    ep: Array

    @property
    def total(self) -> Array:
        """All of it."""
        return self.compute + self.tp + self.cp + self.ep

    def paired(self, steal: Array) -> Spent:
        """Return it in a pass that runs beside another one, with as much to compute at least.

        What goes to experts and comes back then hides behind what the other computes, and waits
        for on other axes (DeepSeek-V3, arXiv:2412.19437 section 3.2.1).
        """
        return replace(self, ep=beside(self.ep, self.compute + self.tp + self.cp, steal))

    def stacked(self) -> Array:
        """Return the four as one array with a last axis of 4."""
        return np.stack([self.compute, self.tp, self.cp, self.ep], axis=-1)


#: Multiprocessors that DeepEP's kernels take (DeepSeek-V3, arXiv:2412.19437 section 3.2.2).
DEEPEP_UNITS = 20.0

#: Which part of :class:`Spent` waiting for an axis goes into.
WAITED = {
    Axis.TP: "tp",
    Axis.ULYSSES: "cp",
    Axis.RING: "cp",
    Axis.INNER_RING: "cp",
    Axis.EP: "ep",
    Axis.EP_INSIDE: "ep",
    Axis.EP_ACROSS: "ep",
    Axis.ETP: "ep",
}


@dataclass(frozen=True, slots=True)
class PartTimes:
    """Seconds of a part, per micro-batch.

    Parameters
    ----------
    forward, backward
        The two passes.
    inputs, weights
        The backward pass in two: all but the gradients of weights, and these alone, later.
    repeated, repeated_selective
        What recomputation adds to the backward pass: full, and selective of each set of modules.
    """

    forward: Spent
    backward: Spent
    inputs: Spent
    weights: Spent
    repeated: Spent
    repeated_selective: tuple[Spent, ...]

    def paired(self, steal: Array) -> PartTimes:
        """Return it in passes that run beside one another."""
        return PartTimes(
            forward=self.forward.paired(steal),
            backward=self.backward.paired(steal),
            inputs=self.inputs.paired(steal),
            weights=self.weights.paired(steal),
            repeated=self.repeated.paired(steal),
            repeated_selective=tuple(spent.paired(steal) for spent in self.repeated_selective),
        )


class PartClock:
    """Times parts of a model for given shapes on a device and a fabric."""

    def __init__(self, device: Device, fabric: Fabric, shapes: Shapes) -> None:
        self.device, self.shapes = device, shapes
        strides = shapes.strides()
        self.links: dict[Axis, GroupLinks] = {
            Axis.TP: fabric.links((shapes.tp, strides["tp"])),
            Axis.ULYSSES: fabric.links((shapes.ulysses, strides["ulysses"])),
            Axis.RING: fabric.links((shapes.windows, strides["ring"])),
            Axis.INNER_RING: fabric.links((shapes.inner_ring, strides["inner_ring"])),
        }
        if shapes.batch.ep.max() > 1 or shapes.batch.etp.max() > 1:
            near = shapes.ep_inside
            self.links |= {
                Axis.EP: fabric.links((shapes.ep, strides["ep"])),
                Axis.EP_INSIDE: fabric.links((near, strides["ep"])),
                Axis.EP_ACROSS: fabric.links((shapes.ep / near, strides["ep"] * near)),
                Axis.ETP: fabric.links((shapes.etp, strides["etp"])),
            }
        self._costs: dict[tuple[Collective, Axis], Cost] = {}
        between, inside = self.links[Axis.RING], self.links[Axis.INNER_RING]
        self.rings = RingTimes(
            shapes=shapes,
            apart=between.scale_out != inside.scale_out,
            steal=self.steal(Axis.RING),
            steal_inside=self.steal(Axis.INNER_RING),
        )

    def times(self, work: Work, sets: Sequence[RecomputeModules] = ()) -> PartTimes:
        """Return the seconds of one part, and of repeating sets of its modules."""
        computed = self._computed(work.forward_compute())
        sent = self._sent(work.forward_communication())
        forward = self._phase(computed, sent)
        back, returned = (
            self._computed(work.backward_compute()),
            self._sent(work.backward_communication()),
        )
        whole, fused = all(op.repeats for op, _ in computed), self.shapes.fused
        return PartTimes(
            forward=forward,
            backward=self._phase(back, returned, backward=True),
            inputs=self._phase(
                [pair for pair in back if not pair[0].of_weights],
                [(op.without_weights(), call_s) for op, call_s in returned],
                backward=True,
            ),
            weights=self._phase([pair for pair in back if pair[0].of_weights], [], backward=True),
            repeated=forward if whole else self._again(computed, sent, lambda op: op.repeats * 1.0),
            repeated_selective=tuple(
                self._again(computed, sent, partial(repeated_share, modules=modules, fused=fused))
                for modules in sets
            ),
        )

    def _again(
        self,
        computed: list[tuple[Compute, Array]],
        sent: list[tuple[Communication, Array]],
        share: Callable[[Operation], Array | float],
    ) -> Spent:
        """Return a forward pass of which only a share of each operation runs, a second time."""
        shares = [share(op) for op, _ in computed]
        return self._phase(
            [
                (replace(op, launches=op.launches * part), time * part)
                for (op, time), part in zip(computed, shares, strict=True)
            ],
            [(op, call_s * share(op)) for op, call_s in sent],
        )

    def _computed(self, operations: Iterable[Compute]) -> list[tuple[Compute, Array]]:
        """Return operations with their seconds."""
        return [(op, self.device.seconds(op)) for op in operations]

    def _sent(self, operations: Iterable[Communication]) -> list[tuple[Communication, Array]]:
        """Return communication with the seconds of one call, if any shape has such groups."""
        return [(op, self.hop_seconds(op)) for op in operations if op.axis in self.links]

    def hop_seconds(self, op: Communication) -> Array:
        """Return the time of one call of a communication."""
        return self.cost(op.collective, op.axis).seconds(op.nbytes)

    def cost(self, collective: Collective, axis: Axis) -> Cost:
        """Return what a collective costs on the groups of an axis."""
        if (collective, axis) not in self._costs:
            links, profile = self.links[axis], self.device.profile
            self._costs[collective, axis] = collectives.cost(collective, links, profile)
        return self._costs[collective, axis]

    def _phase(
        self,
        computed: list[tuple[Compute, Array]],
        sent: list[tuple[Communication, Array]],
        *,
        backward: bool = False,
    ) -> Spent:
        compute, waits = PacedPhase.of(self, computed, sent, backward=backward).spent()
        return Spent(compute, **waits)

    def waits(
        self,
        sent: Sequence[tuple[Communication, Array]],
        seconds: Mapping[str, Array],
        first: Array | float,
    ) -> dict[str, Array]:
        """Return what a phase waits for on each part of :class:`Spent`.

        Parameters
        ----------
        sent, seconds, first
            As of :class:`models.paced_phase.PacedPhase`.
        """
        found = self._waits(sent, seconds)
        hops = [pair for pair in sent if pair[0].hidden_by == CORE_ATTENTION]
        if hops:
            found["cp"] = found["cp"] + self.rings.waits(hops, seconds[CORE_ATTENTION], first)
        return found

    def _waits(
        self, sent: Sequence[tuple[Communication, Array]], seconds: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return what a phase waits for on each part of :class:`Spent`, hops of rings apart."""
        nothing = np.zeros_like(self.shapes.ring)
        waiting: dict[tuple[str, Axis], Array] = {}
        last = nothing
        for op, call_s in sent:
            if op.hidden_by != CORE_ATTENTION:
                key = (op.hidden_by, op.axis)
                time: Array = call_s * op.calls * self.awaited(op)
                if op.with_last:
                    time = np.maximum(time - last, 0.0)
                waiting[key] = waiting.get(key, nothing) + time
                last = time
        exposed = dict.fromkeys(WAITED.values(), nothing)
        for (hidden_by, axis), time in waiting.items():
            added = beside(time, seconds[hidden_by], self.steal(axis)) if hidden_by else time
            exposed[WAITED[axis]] = exposed[WAITED[axis]] + added
        return exposed

    def awaited(self, op: Communication) -> Array:
        """Return the share of a communication that compute waits for, or is slowed by.

        Software may run a part of what tensor parallelism gathers and scatters beside products.
        """
        hidden = self.shapes.software.tp_hidden.value
        if op.axis is not Axis.TP or not hidden:
            return np.ones_like(self.shapes.tp)
        return 1.0 - hidden * self.shapes.sharded * (1.0 - self.steal(Axis.TP))

    def steal(self, axis: Axis) -> Array:
        """Return the share of the compute rate that an axis takes while it hides."""
        usual = collectives.steal(self.links[axis], self.device.profile)
        if axis not in EXPERT_AXES:
            return usual
        share = DEEPEP_UNITS / self.device.accelerator.compute_units.value
        return np.where(self.shapes.batch.dispatch == Dispatch.DEEPEP, share, usual)
