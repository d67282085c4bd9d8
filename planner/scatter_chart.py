"""Predicted against measured as SVG: logarithmic both ways, the diagonal being right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.line_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    document,
    frame,
    segment,
    text,
)
from topologies.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Beyond the first and the last decade, in decades.
MARGIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Points of several kinds, predicted over measured.

    Parameters
    ----------
    title
        Text, and the alternative text too.
    unit
        Of both axes.
    points
        For each kind its pairs (measured, predicted), above zero.
    """

    title: str
    unit: str
    points: Mapping[str, Sequence[tuple[float, float]]]

    def to_svg(self) -> str:
        """Return the chart as a standalone SVG document."""
        around = frame(self.title, f"measured, {self.unit}", f"predicted, {self.unit}")
        parts = [around, *self._axes(), self._diagonal()]
        for place, (name, pairs) in enumerate(self.points.items()):
            parts += self._kind(place, name, pairs)
        return document(self.title, parts)

    def _decades(self) -> tuple[int, int]:
        logs = [
            math.log10(value) for pairs in self.points.values() for each in pairs for value in each
        ]
        if not logs:
            return 0, 1
        return math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)

    def _place(self, measured: float, predicted: float) -> tuple[float, float]:
        low, high = self._decades()
        across, up = (
            (math.log10(value) - low + MARGIN) / (high - low + 2 * MARGIN)
            for value in (measured, predicted)
        )
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    def _axes(self) -> list[str]:
        low, high = self._decades()
        parts = []
        for power in range(low, high + 1):
            x, y = self._place(10.0**power, 10.0**power)
            parts.append(segment(x, TOP, x, HEIGHT - BOTTOM, "#e5e5e5"))
            parts.append(segment(LEFT, y, WIDTH - RIGHT, y, "#e5e5e5"))
            parts.append(text(x, HEIGHT - BOTTOM + 20, f"{10.0**power:g}", 'text-anchor="middle"'))
            parts.append(text(LEFT - 8, y + 4, f"{10.0**power:g}", 'text-anchor="end"'))
        return parts

    def _diagonal(self) -> str:
        low, high = (10.0**power for power in self._decades())
        return segment(*self._place(low, low), *self._place(high, high), "#888888")

    def _kind(self, place: int, name: str, pairs: Sequence[tuple[float, float]]) -> list[str]:
        colour, height = COLOURS[place % len(COLOURS)], TOP + 16 + 22 * place
        dots = []
        for measured, predicted in pairs:
            x, y = self._place(measured, predicted)
            dots.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" opacity="0.7"/>'
            )
        mark = f'<circle cx="{WIDTH - RIGHT + 24}" cy="{height - 4}" r="5" fill="{colour}"/>'
        return [*dots, mark, text(WIDTH - RIGHT + 38, height, name, "")]
