"""What exists: accelerators, clusters and what a group of ranks gets from their links.

The lowest layer of Meshwright. It knows bytes, links and devices, and nothing of models or layouts.
"""

from topologies.accelerator import Accelerator
from topologies.catalogue import accelerator_names, cluster_names, load_accelerator, load_cluster
from topologies.cluster import Cluster, Tier
from topologies.errors import MeshwrightError, Problem, SpecError
from topologies.fabric import Fabric, GroupLinks
from topologies.figure import Figure, Provenance

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
