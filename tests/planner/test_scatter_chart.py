"""The picture of predicted against measured, as data."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from planner.scatter_chart import ScatterChart

SVG = "{http://www.w3.org/2000/svg}"


def chart(**points: list[tuple[float, float]]) -> ET.Element:
    svg = ScatterChart(title="Here & <now>", unit="ms", points=points).to_svg()
    return ET.fromstring(svg)


def dots(root: ET.Element) -> list[tuple[float, float]]:
    found = [e for e in root.iter(f"{SVG}circle") if e.get("r") == "3.5"]
    return [(float(e.get("cx", "nan")), float(e.get("cy", "nan"))) for e in found]


def line(root: ET.Element) -> tuple[float, ...]:
    (diagonal,) = [e for e in root.iter(f"{SVG}line") if e.get("stroke") == "#888888"]
    return tuple(float(diagonal.get(name, "nan")) for name in ("x1", "y1", "x2", "y2"))


def beside(root: ET.Element, dot: tuple[float, float]) -> float:
    """Return how far above the diagonal a dot lies, in pixels."""
    x1, y1, x2, y2 = line(root)
    return y1 + (y2 - y1) * (dot[0] - x1) / (x2 - x1) - dot[1]


def test_what_is_predicted_right_lies_on_the_diagonal_and_more_lies_above() -> None:
    root = chart(gemm=[(0.02, 0.02), (5.0, 5.0)], memory=[(1.0, 2.0), (1.0, 0.5)])
    heights = [beside(root, dot) for dot in dots(root)]
    assert heights[:2] == pytest.approx([0.0, 0.0], abs=0.2)
    assert heights[2] == pytest.approx(-heights[3], abs=0.2)
    assert heights[2] > 5.0


def test_a_decade_is_as_long_everywhere() -> None:
    across = [x for x, _ in dots(chart(gemm=[(10.0**p, 10.0**p) for p in range(-2, 3)]))]
    steps = [b - a for a, b in pairwise(across)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.2)


def test_kinds_are_named_and_words_escaped() -> None:
    root = chart(gemm=[(1.0, 1.0)], layers=[])
    words = [e.text for e in root.iter(f"{SVG}text")]
    assert {"gemm", "layers", "Here & <now>", "measured, ms", "predicted, ms"} <= set(words)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "Here & <now>"


def test_nothing_measured_is_an_empty_picture() -> None:
    root = chart()
    assert dots(root) == []
    assert all(math.isfinite(each) for each in line(root))
