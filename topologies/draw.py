"""Pictures of a cluster's graph: Graphviz, and SVG drawn without other programs."""

from __future__ import annotations

from topologies.draw_dot import to_dot
from topologies.draw_svg import to_svg

__all__ = ["to_dot", "to_svg"]
