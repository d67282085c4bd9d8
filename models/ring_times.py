"""What attention waits for the hops of a ring, flat or in windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.operation import Axis
from models.overlap import along_blocks

if TYPE_CHECKING:
    from models.layout import Array, Bools
    from models.operation import Communication
    from models.shape import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTimes:
    """The rings of some shapes, with what their hops take of the compute beside them.

    Parameters
    ----------
    shapes
        Shapes of work.
    apart
        Where hops between windows and inside them do not share links.
    steal, steal_inside
        Share of the compute rate that hops between windows and inside them take.
    """

    shapes: Shapes
    apart: Bools
    steal: Array
    steal_inside: Array

    def regular(self, axis: Axis) -> Array:
        """Return the hops between blocks; what is sent beyond them brings gradients home."""
        shapes = self.shapes
        if axis is Axis.RING:
            return shapes.windows - 1.0
        return shapes.windows * (shapes.inner_ring - 1.0)

    def waits(
        self, hops: list[tuple[Communication, Array]], core_s: Array, first: Array | float
    ) -> Array:
        """Return the seconds that hops add to attention.

        Every block of a flat ring runs beside the hops of the next block's keys and values and of
        the gradients of the block before. On a double ring whose two rings travel on different
        links that holds inside every window, and between windows of whole rounds; where they share
        links the hops of both come one after the other, spread evenly over the blocks.

        Parameters
        ----------
        hops
            Hops with the seconds of each.
        core_s
            Attention of all blocks.
        first
            Compute of the first block over that of a later one.
        """
        ring, windows, inside = self.shapes.ring, self.shapes.windows, self.shapes.inner_ring
        ahead, behind, home = self._loads(hops)
        spread = np.maximum(ring - 1.0, 1.0)
        both = [
            sum((load[axis] * self.regular(axis) for axis in load), np.zeros_like(ring)) / spread
            for load in (ahead, behind)
        ]
        block_s = core_s / (ring - 1.0 + first)
        flat = along_blocks(ring, block_s, both[0], both[1], self.steal, first)
        inner = windows * along_blocks(
            inside,
            core_s / ring,
            ahead[Axis.INNER_RING],
            behind[Axis.INNER_RING],
            self.steal_inside,
        )
        outer = along_blocks(
            windows, (core_s + inner) / windows, ahead[Axis.RING], behind[Axis.RING], self.steal
        )
        double = self.apart & (inside > 1)
        return np.where(double, inner + outer, flat) + home

    def _loads(
        self, hops: list[tuple[Communication, Array]]
    ) -> tuple[dict[Axis, Array], dict[Axis, Array], Array]:
        """Return seconds of a hop ahead and behind, by axis, and of all hops home."""
        nothing = np.zeros_like(self.shapes.ring)
        ahead, behind = ({Axis.RING: nothing, Axis.INNER_RING: nothing} for _ in range(2))
        home = nothing
        for op, hop_s in hops:
            taken = np.where(op.calls > 0, hop_s, 0.0)
            load = behind if op.behind else ahead
            load[op.axis] = load[op.axis] + taken
            home = home + taken * np.maximum(op.calls - self.regular(op.axis), 0.0)
        return ahead, behind, home
