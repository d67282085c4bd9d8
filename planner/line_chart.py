"""A line chart as SVG: enough for sweeps, without a plotting library in the core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from topologies.palette import COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 84, 150, 48, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over a shared, logarithmic x axis.

    Parameters
    ----------
    title, x_label, y_label
        Texts; the title is the alternative text too.
    x
        Positions, above zero.
    lines
        For each name its values at `x`; None leaves a gap.
    format_x
        How positions are written on the axis.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float | None]]
    format_x: Callable[[float], str] = "{:g}".format

    def to_svg(self) -> str:
        """Return the chart as a standalone SVG document."""
        parts = [*self._x_axis(), *self._y_axis()]
        for place, (name, values) in enumerate(self.lines.items()):
            parts += self._line(place, name, values)
        return document(self.title, [frame(self.title, self.x_label, self.y_label), *parts])

    def _x_axis(self) -> list[str]:
        base = HEIGHT - BOTTOM
        parts = []
        for value in self.x:
            at = self._across(value)
            parts.append(segment(at, TOP, at, base, "#e5e5e5"))
            parts.append(text(at, base + 20, self.format_x(value), 'text-anchor="middle"'))
        return parts

    def _y_axis(self) -> list[str]:
        parts = []
        for value in self._ticks():
            at = self._down(value)
            parts.append(segment(LEFT, at, WIDTH - RIGHT, at, "#e5e5e5"))
            parts.append(text(LEFT - 8, at + 4, f"{value:,g}", 'text-anchor="end"'))
        return parts

    def _line(self, place: int, name: str, values: Sequence[float | None]) -> list[str]:
        colour = COLOURS[place % len(COLOURS)]
        points = [
            (self._across(x), self._down(y))
            for x, y in zip(self.x, values, strict=True)
            if y is not None
        ]
        if not points:
            return []
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        height = TOP + 16 + 22 * place
        return [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points),
            segment(WIDTH - RIGHT + 16, height - 4, WIDTH - RIGHT + 40, height - 4, colour, 2.5),
            text(WIDTH - RIGHT + 48, height, name, ""),
        ]

    def _across(self, value: float) -> float:
        low, high = math.log(min(self.x)), math.log(max(self.x))
        share = (math.log(value) - low) / (high - low) if high > low else 0.5
        return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)

    def _down(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self._top() * (HEIGHT - TOP - BOTTOM)

    def _top(self) -> float:
        return self._ticks()[-1]

    def _ticks(self) -> list[float]:
        """Return round values from zero to just above the largest."""
        largest = max((y for line in self.lines.values() for y in line if y is not None), default=1)
        rough = max(largest, 1e-12) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough)
        return [step * k for k in range(math.ceil(largest / step - 1e-9) + 1)]


def document(title: str, parts: Sequence[str]) -> str:
    """Return parts of a chart as a standalone SVG document."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="13">\n'
        f"<title>{escape(title)}</title>\n{body}\n</svg>\n"
    )


def frame(title: str, x_label: str, y_label: str) -> str:
    """Return a chart's ground and its texts."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        + text(middle, 24, title, 'text-anchor="middle" font-weight="bold"')
        + text(middle, HEIGHT - 16, x_label, 'text-anchor="middle"')
        + text(18, HEIGHT / 2, y_label, turned(18, HEIGHT / 2))
    )


def text(x: float, y: float, words: str, style: str) -> str:
    """Return words at a place, with more attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#222222" {style}>{escape(words)}</text>\n'


def turned(x: float, y: float) -> str:
    """Return attributes of words that read upwards."""
    return f'text-anchor="middle" transform="rotate(-90 {x:.1f} {y:.1f})"'


def segment(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    """Return a line between two points."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )
