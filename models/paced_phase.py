"""One phase of a part of the model, paced by its kernels or by the host that starts them.

While the device waits for collectives the host goes on to start what comes after them, so that the
longer of both counts. For how many tokens go to experts it waits itself. A host that does not run
ahead starts each kernel when the last one is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.operation import EXPERT_AXES
from models.sequence_parallel.sent import CORE_ATTENTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.layout import Array
    from models.operation import Communication, Compute
    from models.part_times import PartClock

#: Rounds in which the pace of kernels is found, and how close it comes in fewer.
ROUNDS, CLOSE = 60, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedPhase:
    """What a phase runs, and what the host needs to start it; arrays of one shape.

    Parameters
    ----------
    clock
        Of the part.
    seconds
        Of the kernels, by their name.
    first
        A ring's first block over each later one.
    sent
        Communications with the seconds of one call.
    host_s
        What the host needs to start them all.
    """

    clock: PartClock
    seconds: Mapping[str, Array]
    first: Array | float
    sent: Sequence[tuple[Communication, Array]]
    host_s: Array

    @classmethod
    def of(
        cls,
        clock: PartClock,
        computed: Iterable[tuple[Compute, Array]],
        sent: Sequence[tuple[Communication, Array]],
        *,
        backward: bool = False,
    ) -> PacedPhase:
        """Return a phase of kernels with their seconds, and communications with those of one call.

        What takes no seconds is not started. `backward` is whether autograd starts the kernels.
        """
        nothing = np.zeros_like(clock.shapes.ring)
        software, profile = clock.shapes.software, clock.device.profile
        seconds: dict[str, Array] = {}
        first: Array | float = 1.0
        launches = nothing
        for op, time in computed:
            seconds[op.name] = seconds.get(op.name, nothing) + time
            launches = launches + op.launches
            first = op.first_block if op.name == CORE_ATTENTION else first
        pace = profile.host_launch_s.value * software.host_ratio.value
        if backward:
            pace *= software.host_backward_ratio.value
        host_s = launches * pace
        for each, call_s in sent:
            if each.axis not in EXPERT_AXES:
                host_s = host_s + np.where(call_s > 0, each.calls * profile.collective_s.value, 0.0)
        return cls(clock=clock, seconds=seconds, first=first, sent=sent, host_s=host_s)

    @property
    def kernels(self) -> Array:
        """Seconds of all kernels."""
        found: Array = sum(self.seconds.values(), np.zeros_like(self.clock.shapes.ring))
        return found

    def spent(self) -> tuple[Array, dict[str, Array]]:
        """Return the kernels' seconds with what they lack of the host's, and what is waited for."""
        kernels = self.kernels
        if not self.clock.shapes.software.host_ahead:
            paced = kernels + self.host_s
            return paced, self.waits(paced / np.where(kernels > 0, kernels, 1.0))
        waits = self.waits()
        return np.maximum(kernels, self.host_s - _blocking(waits)), waits

    def waits(self, pace: Array | float = 1.0) -> dict[str, Array]:
        """Return what is waited for by axis; more hides behind kernels that a pace stretches."""
        stretched = {name: time * pace for name, time in self.seconds.items()}
        return self.clock.waits(self.sent, stretched, self.first)

    def pace(self) -> Array:
        """Return by how much kernels are stretched where the host starts them too slowly.

        More hides behind stretched kernels, so that they take what :meth:`spent` leaves when that
        is waited for.
        """
        kernels = self.kernels
        paced, waits = self.spent()
        pace = paced / kernels
        if not self.clock.shapes.software.host_ahead:
            return pace
        total = paced + _blocking(waits)
        for _ in range(ROUNDS):
            last, pace = pace, (total - _blocking(self.waits(pace))) / kernels
            if (abs(pace - last) < CLOSE * pace).all():
                break
        return pace


def _blocking(waits: Mapping[str, Array]) -> Array:
    """Return what the device waits for while the host goes on."""
    return waits["tp"] + waits["cp"]
