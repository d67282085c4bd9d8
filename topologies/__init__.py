"""What exists: accelerators, clusters and what a group of ranks gets from their links.

The lowest layer of Meshwright. It knows bytes, links and devices, and nothing of models or layouts.
Names are imported on first use, so that the command line's help waits for nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topologies.accelerator import Accelerator
    from topologies.catalogue import (
        accelerator_names,
        cluster_names,
        load_accelerator,
        load_cluster,
    )
    from topologies.cluster import Cluster, Tier
    from topologies.errors import MeshwrightError, Problem, SpecError
    from topologies.fabric import Fabric
    from topologies.figure import Figure, Provenance
    from topologies.group_links import GroupLinks

__all__ = [
    "Accelerator",
    "Cluster",
    "Fabric",
    "Figure",
    "GroupLinks",
    "MeshwrightError",
    "Problem",
    "Provenance",
    "SpecError",
    "Tier",
    "accelerator_names",
    "cluster_names",
    "load_accelerator",
    "load_cluster",
]
_HOMES = {
    "accelerator": ("Accelerator",),
    "catalogue": ("accelerator_names", "cluster_names", "load_accelerator", "load_cluster"),
    "cluster": ("Cluster", "Tier"),
    "errors": ("MeshwrightError", "Problem", "SpecError"),
    "fabric": ("Fabric",),
    "figure": ("Figure", "Provenance"),
    "group_links": ("GroupLinks",),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name from the module it lives in."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"topologies.{home}"), name)
    raise AttributeError(name)
