"""Cluster files that tests write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from topologies.catalogue import load_cluster
from topologies.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).parents[2] / "examples" / "clusters"


def figure(value: float, source: str = "data sheet", **more: str) -> dict[str, Any]:
    return {"value": value, "kind": "spec", "source": source, **more}


def tier(name: str, fabric: str, spans: int | str, GBps: float, **more: Any) -> dict[str, Any]:
    fixed = {"usable_fraction": figure(0.9), "latency_us": figure(2.0)}
    return {
        "name": name,
        "fabric": fabric,
        "spans": spans,
        "GBps": figure(GBps),
        **fixed,
        **more,
    }


def link(name: str, GBps: float, *between: Any, **more: Any) -> dict[str, Any]:
    """Return a link of a file; `more` changes or adds keys."""
    fixed = {"usable_fraction": figure(0.9), "latency_us": figure(2.0)}
    return {"name": name, "GBps": figure(GBps), "between": list(between), **fixed, **more}


def graph(nodes: dict[str, Any], *links: dict[str, Any], a_node: int = 4) -> dict[str, Any]:
    """Return a file of nodes and links."""
    return {
        "name": "mine",
        "title": "Mine",
        "accelerator": "h100-sxm",
        "accelerators_per_node": a_node,
        "nodes": nodes,
        "links": list(links),
    }


def written(folder: Path, content: Mapping[str, Any], name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def mends(spec: str, **kwargs: Any) -> list[tuple[str, str, str]]:
    """Return field, value and mend of every problem of the one error that a cluster raises."""
    with pytest.raises(SpecError) as caught:
        load_cluster(spec, **kwargs)
    return [
        (p.field.removeprefix("mine.yaml: "), str(p.value), p.mend) for p in caught.value.problems
    ]
