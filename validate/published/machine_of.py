"""The cluster of a published run: one of the catalogue's, with the network its row states."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from topologies.catalogue import load_cluster
from topologies.errors import SpecError
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from topologies.cluster import Cluster
    from validate.published.row import Row

#: The catalogue's cluster of each accelerator, by how tables call it.
CLUSTERS = {
    "A100": "a100-dgx",
    "A100-80GB": "a100-dgx",
    "A100-40GB": "a100-40gb-dgx",
    "A800": "a800-hgx",
    "H100": "h100-dgx",
    "H200": "h200-hgx",
    "H800": "h800-hgx",
    "H20": "h20-hgx",
    "B200": "b200-dgx",
    "B300": "b300-dgx",
    "GB200": "gb200-nvl72",
    "GB300": "gb300-nvl72",
    "GH200": "gh200",
    "MI300X": "mi300x",
    "MI325X": "mi325x",
    "MI350X": "mi350x",
    "MI355X": "mi355x",
    "TPU v4": "tpu-v4",
    "TPU v5e": "tpu-v5e",
    "TPU v5p": "tpu-v5p",
    "TPU v6e": "tpu-v6e",
    "Gaudi2": "gaudi2",
    "Gaudi3": "gaudi3",
    "L20": "l20-pcie",
    "L40S": "l40s-pcie",
    "A6000": "rtx-a6000-pcie",
    "V100": "dgx-2",
}
#: Accelerators of which a cluster without NVLink is in the catalogue.
ON_PCIE = {"A100": "a100-pcie-staged", "H100": "h100-pcie"}
#: Clusters of accelerators that come with other memory too, by accelerator and its GiB.
OTHER_MEMORY = {("A100", "40"): "a100-40gb-dgx", ("H100", "96"): "h100-96gb"}
#: Names in longer descriptions: ``A100-SXM4-80GB``, ``H100 80GB``, ``A100 (SXM not stated)``.
_LONGER = re.compile(
    r"\b(V100|A100|A800|H100|H200|H800|H20|GH200|B200|B300|GB200|GB300|A6000|L20|L40S|MI\d{3}X)\b",
    re.IGNORECASE,
)
#: How rows state what a node's cards carry: 4 x 100 Gb/s, 8x400G, "800 Gbps" per node.
_CARDS = re.compile(r"(\d+) ?x ?(?:[A-Z]+ ?)?(\d+) ?(?:Gb/s|Gbps|G\b)", re.IGNORECASE)
_NODE = re.compile(r"\"?(\d+) ?(?:Gb/s|Gbps)\"? ?(?:node-node|inter-node|per node)", re.IGNORECASE)
#: Cards stated by the name of their network, which came at one speed (Intel Omni-Path 100 series).
_OMNI_PATH = re.compile(r"(\d+) Omni-Path", re.IGNORECASE)
OMNI_PATH_GBPS = 100.0
BITS = 8.0
GIGA = 1e9


def machine_of(row: Row) -> Cluster:
    """Return the cluster of a row.

    Raises
    ------
    UnexpressedError
        If its accelerator is not in the catalogue, or their number cannot be.
    """
    try:
        return _cluster(cluster_name(row), row.count("gpus"), row.text("interconnect"))
    except SpecError as error:
        raise UnexpressedError(str(error.problems[0])) from error


def cluster_name(row: Row) -> str:
    """Return the catalogue's cluster of a row's accelerator, by what the row calls it.

    Raises
    ------
    UnexpressedError
        If its accelerator is not in the catalogue.
    """
    said = row.text("accelerator")
    longer = _LONGER.search(said)
    kind = said if said in CLUSTERS else longer[1].upper() if longer else ""
    if kind not in CLUSTERS:
        raise UnexpressedError(f"accelerator not in the catalogue: {said[:40]}")
    if row.text("interconnect").upper().startswith("PCIE"):
        return ON_PCIE.get(kind, CLUSTERS[kind])
    # What stands in brackets are remarks, of other tables too.
    named = re.search(r"(\d+) ?GB", said.partition("(")[0], re.IGNORECASE)
    memory = named[1] if named else row.text("device_memory").removesuffix(".0")
    return OTHER_MEMORY.get((kind.partition("-")[0], memory), CLUSTERS[kind])


@cache
def _cluster(name: str, gpus: int, interconnect: str) -> Cluster:
    cluster = _taken(load_cluster(name), gpus)
    stated = _node_Bps(interconnect)
    cards = [tier for tier in cluster.tiers if tier.fabric == "nic"]
    if stated is None or not cards:
        return cluster
    return cluster.scale_network(stated / cluster.accelerators_per_node / cards[0].Bps.value)


def _taken(cluster: Cluster, gpus: int) -> Cluster:
    """Return a cluster cut down or grown; any few accelerators of one switched node are one.

    Plans of layouts only take divisors of a node, which cut it evenly; runs took what they liked.
    """
    switched = cluster.tiers[0].fabric == "nvswitch"
    if switched and gpus < cluster.accelerators_per_node:
        return replace(cluster, accelerators=gpus)
    return cluster.take(gpus)


def _node_Bps(interconnect: str) -> float | None:
    """Return bytes/s that a node's cards carry, if a row says so."""
    if cards := _CARDS.search(interconnect):
        return float(cards[1]) * float(cards[2]) * GIGA / BITS
    if links := _OMNI_PATH.search(interconnect):
        return float(links[1]) * OMNI_PATH_GBPS * GIGA / BITS
    if node := _NODE.search(interconnect):
        return float(node[1]) * GIGA / BITS
    return None
