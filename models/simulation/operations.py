"""From the inventory to tasks: what one rank runs for one part of the model in one phase.

Operations come in the inventory's order, one after the other. Communication that may hide behind an
operation starts together with it, and what comes next waits for both. Ring attention is played
block by block.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.operation import EXPERT_AXES, Axis, Communication, Compute, repeated_share
from models.paced_phase import PacedPhase
from models.part_times import PartClock
from models.recompute_modules import USUAL_MODULES
from models.sequence_parallel.sent import CORE_ATTENTION, EXCHANGE
from models.simulation.program import Program, Task
from models.simulation.timeline import Call, Stream
from topologies.contention import Flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.compute import Device
    from models.operation import Operation, Work
    from models.recompute_modules import RecomputeModules
    from models.shape import Shapes
    from topologies.collective import Collective
    from topologies.fabric import Fabric
    from topologies.group_links import GroupLinks
    from topologies.library import Algorithm


_STREAMS = {
    Axis.TP: Stream.TP,
    Axis.ULYSSES: Stream.CP,
    Axis.RING: Stream.CP,
    Axis.INNER_RING: Stream.CP,
    Axis.EP: Stream.EP,
    Axis.EP_INSIDE: Stream.EP_INSIDE,
    Axis.EP_ACROSS: Stream.EP,
    Axis.ETP: Stream.EP,
}


class Phase(StrEnum):
    """What is run of a part of the model."""

    FORWARD = "forward"
    BACKWARD = "backward"
    INPUT_GRADIENT = "input gradient"
    WEIGHT_GRADIENT = "weight gradient"
    REPEATED = "recomputation"
    REPEATED_SELECTIVE = "selective recomputation"


#: Phases that run the operations of a forward pass.
FORWARD_PHASES = (Phase.FORWARD, Phase.REPEATED, Phase.REPEATED_SELECTIVE)


class Operations:
    """Tasks of one layout.

    Parameters
    ----------
    device, fabric
        Accelerator with profile, links.
    shapes
        The layout's shape of work, alone.
    async_ulysses
        Whether Ulysses exchanges a tensor beside the projection of the next one.
    paired
        Whether passes run beside others, which compute while tokens travel to experts and back.
    modules
        What selective recomputation repeats.
    """

    def __init__(
        self,
        device: Device,
        fabric: Fabric,
        shapes: Shapes,
        *,
        async_ulysses: bool = False,
        paired: bool = False,
        modules: RecomputeModules = USUAL_MODULES,
    ) -> None:
        self.device, self.shapes, self.async_ulysses = device, shapes, async_ulysses
        self.paired, self.modules = paired, modules
        self.clock = PartClock(device, fabric, shapes)
        self._loads: dict[tuple[Collective, Axis, float], tuple[float, ...]] = {}

    def program(self, work: Work, phase: Phase, attention: float = 1.0) -> Program:
        """Return what one part of the model runs in a phase.

        Parameters
        ----------
        work
            The part.
        phase
            Of it.
        attention
            Work of core attention over that of one whole sequence: packed shorter ones have less.
        """
        selective = phase is Phase.REPEATED_SELECTIVE
        taken = _taken(work, phase)
        if self.async_ulysses:
            taken = _one_tensor_ahead(taken)
        return _Part(self, taken, str(phase), selective, attention).program()

    def load(self, op: Communication) -> tuple[float, ...]:
        """Return the share of every class of links that a communication keeps busy."""
        key = (op.collective, op.axis, float(op.nbytes[0]))
        if key not in self._loads:
            cost = self.clock.cost(op.collective, op.axis)
            self._loads[key] = load(
                op.collective, self.clock.links[op.axis], cost.chosen(op.nbytes)[0]
            )
        return self._loads[key]


def load(collective: Collective, links: GroupLinks, algorithm: Algorithm) -> tuple[float, ...]:
    """Return the share of every class of links that a collective of one group keeps busy."""
    flow = Flow(collective=collective, algorithm=algorithm, links=links)
    return tuple(float(share) for share in flow.occupancy())


def _taken(work: Work, phase: Phase) -> Sequence[Operation]:
    """Return what a phase runs; without the gradients of weights nothing hides behind them."""
    if phase is Phase.REPEATED:
        return work.repeated()
    if phase in FORWARD_PHASES:
        return work.forward
    if phase is Phase.BACKWARD:
        return work.backward
    weights = phase is Phase.WEIGHT_GRADIENT
    taken = [op for op in work.backward if (isinstance(op, Compute) and op.of_weights) == weights]
    return [op.without_weights() if isinstance(op, Communication) else op for op in taken]


def _one_tensor_ahead(operations: Sequence[Operation]) -> list[Operation]:
    """Return operations with the exchange of two of q, k and v beside their projection.

    Forward, a tensor is exchanged while the next one is projected; backward, its gradient is while
    that of the one before goes through its projection (DeepSpeed ``sp_stream``, VeOmni
    ``async_ulysses``). One of the three, and the exchange of the output, have nothing beside them.
    """
    names = {op.name for op in operations}
    beside = "qkv" if "qkv" in names else "qkv dgrad"
    found: list[Operation] = []
    for op in operations:
        if isinstance(op, Communication) and op.name == EXCHANGE and beside in names:
            found.append(replace(op, calls=op.calls / 3.0))
            found.append(replace(op, calls=op.calls * 2.0 / 3.0, hidden_by=beside))
        else:
            found.append(op)
    return found


class _Part:
    """One part of the model while its program is written."""

    def __init__(
        self,
        parent: Operations,
        operations: Sequence[Operation],
        phase: str,
        selective: bool,
        attention: float,
    ) -> None:
        self.parent, self.phase = parent, phase
        self.backward = phase not in FORWARD_PHASES
        self.operations = [
            op for op in operations if isinstance(op, Compute) or op.axis in parent.clock.links
        ]
        self.selective, self.attention = selective, attention
        self.computed = [op for op in self.operations if isinstance(op, Compute)]
        names = {op.name for op in self.computed}
        sent = [op for op in self.operations if isinstance(op, Communication)]
        self.hidden = [op for op in sent if op.hidden_by in names]
        self.pace = self._pace()
        self.written = Program()

    def program(self) -> Program:
        travelling: list[int] = []
        for at, op in enumerate(self.operations):
            if isinstance(op, Communication):
                if op in self.hidden or op.with_last:
                    continue
                tasks = [self._sent(op), *self._with(at)]
                if self.parent.paired and op.axis in EXPERT_AXES:
                    travelling = self._aside(tasks, travelling)
                else:
                    self._together(tasks)
            elif op.name == CORE_ATTENTION and self._hops():
                self._ring(op)
            else:
                beside = [self._sent(each) for each in self.hidden if each.hidden_by == op.name]
                self._together([self._compute(op), *beside])
        self.written.wait_for(tuple(travelling))
        return self.written

    def _aside(self, tasks: list[Task], before: list[int]) -> list[int]:
        """Start what another pass computes beside, the first as early as the part begins."""
        longest = max(tasks, key=lambda task: task.seconds)
        return [self.written.issue(longest, tuple(before))] if longest.seconds > 0 else before

    def _with(self, at: int) -> list[Task]:
        """Return what travels together with a communication: the one that follows, or nothing."""
        following = self.operations[at + 1 : at + 2]
        return [
            self._sent(op) for op in following if isinstance(op, Communication) and op.with_last
        ]

    def _together(self, tasks: list[Task]) -> None:
        self.written.together(task for task in tasks if task.seconds > 0)

    def _share(self, op: Operation) -> float:
        if not self.selective:
            return 1.0
        return float(repeated_share(op, self.parent.modules, self.parent.shapes.fused)[0])

    def _pace(self) -> float:
        """Return by how much kernels are stretched where the host starts them too slowly."""
        clock = self.parent.clock
        computed = [
            (replace(op, launches=op.launches * self._share(op)), np.array([self._alone(op)]))
            for op in self.computed
        ]
        sent = [
            (op, clock.hop_seconds(op) * self._share(op))
            for op in self.operations
            if isinstance(op, Communication)
        ]
        phase = PacedPhase.of(clock, computed, sent, backward=self.backward)
        return float(phase.pace()[0]) if phase.kernels[0] else 1.0

    def _alone(self, op: Compute) -> float:
        seconds = float(self.parent.device.seconds(op)[0]) * self._share(op)
        return seconds * self.attention if op.name == CORE_ATTENTION else seconds

    def _compute(self, op: Compute, share: float = 1.0) -> Task:
        call = Call(name=op.name, stream=Stream.COMPUTE, phase=self.phase)
        return Task(call, self._alone(op) * self.pace * share)

    def _sent(self, op: Communication, calls: float | None = None) -> Task:
        clock = self.parent.clock
        many = float(op.calls[0]) if calls is None else calls
        awaited = float(clock.awaited(op)[0])
        seconds = float(clock.hop_seconds(op)[0]) * many * self._share(op) * awaited
        if seconds <= 0:
            return Task(self._call(op), 0.0)
        steal = float(clock.steal(op.axis)[0])
        return Task(self._call(op), seconds, steal, self.parent.load(op))

    def _call(self, op: Communication) -> Call:
        return Call(
            name=op.name,
            stream=_STREAMS[op.axis],
            collective=op.collective,
            nbytes=float(op.nbytes[0]),
            group=int(self.parent.clock.links[op.axis].size[0]),
            phase=self.phase,
        )

    # ------------------------------------------------------------------------------------- the ring

    def _hops(self) -> list[Communication]:
        hops = [op for op in self.hidden if op.hidden_by == CORE_ATTENTION]
        return [op for op in hops if op.calls[0] > 0 and self._share(op) > 0]

    def _ring(self, core: Compute) -> None:
        """Play attention block by block, then bring gradients home."""
        inside = int(self.parent.shapes.inner_ring[0])
        if inside > 1 and self.parent.clock.rings.apart[0]:
            self._windows(core, int(self.parent.shapes.windows[0]), inside)
        else:
            self._flat(core, int(self.parent.shapes.ring[0]))
        for op in self._hops():
            regular = float(self.parent.clock.rings.regular(op.axis)[0])
            self._together([self._sent(op, max(float(op.calls[0]) - regular, 0.0))])

    def _flat(self, core: Compute, blocks: int) -> None:
        """Play a ring whose hops all share links, those of both rings spread over the blocks."""
        first = float(_first(core.first_block))
        for block in range(blocks):
            share = (first if block == 0 else 1.0) / (blocks - 1.0 + first)
            tasks = [self._compute(core, share)]
            for op in self._hops():
                regular = float(self.parent.clock.rings.regular(op.axis)[0])
                if block != (0 if op.behind else blocks - 1):
                    tasks.append(self._sent(op, regular / (blocks - 1.0)))
            self._together(tasks)

    def _windows(self, core: Compute, windows: int, inside: int) -> None:
        """Play a double ring whose two rings travel on different links."""
        hops = self._hops()
        for window in range(windows):
            outer = tuple(
                self.written.issue(_outside(self._sent(op, 1.0)), self.written.front)
                for op in hops
                if op.axis is Axis.RING and window != (0 if op.behind else windows - 1)
            )
            for block in range(inside):
                tasks = [self._compute(core, 1.0 / (windows * inside))]
                tasks += [
                    self._sent(op, 1.0)
                    for op in hops
                    if op.axis is Axis.INNER_RING and block != (0 if op.behind else inside - 1)
                ]
                self._together(tasks)
            self.written.wait_for(outer)


def _outside(task: Task) -> Task:
    """Return a hop between windows, which has a stream of its own."""
    return replace(task, call=replace(task.call, stream=Stream.CP_OUTER))


def _first(value: object) -> float:
    """Return the one entry of an array over a single shape, or a number as it is."""
    return float(value if isinstance(value, float | int) else value[0])  # type: ignore[index]
