"""One micro-batch operation by operation: how long each takes, and what holds it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from models.operation import Communication
from models.part_times import PartClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.compute import Device
    from models.layout import Layout
    from models.operation import Compute, Work
    from planner.scenario import Scenario

#: Times that differ by less are the same.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOperation:
    """What one operation of a part of the model takes, for one micro-batch on one rank.

    Parameters
    ----------
    part
        ``layer``, ``embedding`` or ``head``; kinds of layers are told apart by what they are.
    layers
        How many layers of the whole model have it.
    phase
        ``forward`` or ``backward``.
    name
        What it is.
    bound
        What holds it up: ``compute``, ``memory``, ``launches`` or ``links``.
    seconds
        How long it takes by itself: work that hides it is not counted.
    flop, nbytes
        Floating-point operations, and bytes of device memory or of the link.
    axis
        Whose groups communicate; empty for compute.
    hidden_by
        The operation that a communication may run beside; empty for none.
    """

    part: str
    layers: int
    phase: str
    name: str
    bound: str
    seconds: float
    flop: float
    nbytes: float
    axis: str = ""
    hidden_by: str = ""

    @property
    def intensity(self) -> float | None:
        """FLOP per byte of device memory; None where it does not compute or touches none."""
        return self.flop / self.nbytes if self.flop and self.nbytes else None


def operations(scenario: Scenario, layout: Layout) -> tuple[TimedOperation, ...]:
    """Return every operation of a layout's parts in order; those that take no time are left out.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Legal there.
    """
    prepared = scenario.prepared(LayoutBatch.of([layout]))
    clock = PartClock(scenario.device, scenario.fabric, prepared.shapes)
    kinds = scenario.architecture.kind_of_layer
    several = len(prepared.layers) > 1
    parts = [("embedding", 1, prepared.embedding)]
    parts += [
        (f"layer {kind + 1}" if several else "layer", kinds.count(kind), work)
        for kind, work in enumerate(prepared.layers)
    ]
    parts.append(("head", 1, prepared.head))
    return tuple(
        found for name, many, work in parts for found in _part(name, many, work, clock) if found
    )


def _part(name: str, layers: int, work: Work, clock: PartClock) -> Iterator[TimedOperation]:
    for phase, listed in (("forward", work.forward), ("backward", work.backward)):
        for each in listed:
            if isinstance(each, Communication):
                found = _sent(name, layers, phase, each, clock)
            else:
                found = _computed(name, layers, phase, each, clock.device)
            if found.seconds > 0:
                yield found


def _computed(part: str, layers: int, phase: str, each: Compute, device: Device) -> TimedOperation:
    seconds, nbytes = float(device.seconds(each)[0]), float(each.nbytes[0])
    return TimedOperation(
        part=part,
        layers=layers,
        phase=phase,
        name=each.name,
        bound=_bound(seconds, nbytes, float(each.launches[0]), device),
        seconds=seconds,
        flop=float(each.flop[0]),
        nbytes=nbytes,
    )


def _bound(seconds: float, nbytes: float, launches: float, device: Device) -> str:
    """Return what takes most of an operation's time: starting it, streaming it, or computing."""
    starting = launches * device.profile.kernel_s.value
    if 2.0 * starting > seconds:
        return "launches"
    streaming = nbytes / device.streaming_Bps
    return "memory" if seconds - starting <= streaming * (1.0 + ROUNDING) else "compute"


def _sent(
    part: str, layers: int, phase: str, each: Communication, clock: PartClock
) -> TimedOperation:
    calls = float(each.calls[0])
    idle = calls == 0 or each.axis not in clock.links
    return TimedOperation(
        part=part,
        layers=layers,
        phase=phase,
        name=each.name,
        bound="links",
        seconds=0.0 if idle else calls * float(clock.hop_seconds(each)[0]),
        flop=0.0,
        nbytes=calls * float(each.nbytes[0]),
        axis=str(each.axis),
        hidden_by=each.hidden_by,
    )
