"""The cluster of a published run: one of the catalogue's, with the network its row states."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from topologies.catalogue import load_cluster
from topologies.units import GB, TERA
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
    "TPU v7": "tpu-v7",
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
#: Clusters of the catalogue by accelerator and how rows name their network.
NAMED_NETWORKS = (
    ("H100", r"\bEFA\b", "aws-p5"),
    ("H200", r"\bEFA\b", "aws-p5en"),
    ("B200", r"\bEFA\b", "aws-p6-b200"),
    ("H100", r"TCPXO|A3 Mega", "gcp-a3-mega"),
    ("H100", r"TCPX|A3 High", "gcp-a3-high"),
)
#: Names in longer descriptions: ``A100-SXM4-80GB``, ``H100 80GB``, ``A100 (SXM not stated)``.
_LONGER = re.compile(
    r"\b(V100|A100|A800|H100|H200|H800|H20|GH200|B200|B300|GB200|GB300|A6000|L20|L40S|MI\d{3}X)\b",
    re.IGNORECASE,
)
#: How rows state what a node's cards carry: 4 x 100 Gb/s, 8x400G, 8x HDR IB 200 Gb/s; "800 Gbps"
#: per node, 3.2 Tb/s per node; 400 Gb/s per GPU.
_CARDS = re.compile(r"(\d+) ?x ?(?:[A-Z-]+ ?){0,2}(\d+) ?(?:Gb/s|Gbps|Gbit/s|G\b)", re.IGNORECASE)
_NODE = re.compile(
    r"\"?(\d+(?:\.\d+)?) ?([GT])(?:b/s|bps|bit/s)\"? ?(?:node-node|inter-node|(?:per|a|/) ?node)",
    re.IGNORECASE,
)
_EACH = re.compile(r"(\d+) ?(?:Gb/s|Gbps|Gbit/s) ?(?:per|a|/) ?GPU", re.IGNORECASE)
#: Cards stated by the name of their network, which came at one speed (Intel Omni-Path 100 series).
_OMNI_PATH = re.compile(r"(\d+) Omni-Path", re.IGNORECASE)
OMNI_PATH_GBPS = 100.0
BITS = 8.0


def machine_of(row: Row) -> Cluster:
    """Return the cluster of a row.

    Raises
    ------
    UnexpressedError
        If its accelerator is not in the catalogue.
    SpecError
        If their number cannot be.
    """
    return _cluster(cluster_name(row), row.count("gpus"), row.text("interconnect"), _nodes_of(row))


def _nodes_of(row: Row) -> int:
    """Return the accelerators of a node; 0 where a row does not say."""
    said = row.text("gpus_per_node")
    return int(said) if re.fullmatch(r"[0-9]{1,5}", said) else 0


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
    for name, network, cluster in NAMED_NETWORKS:
        if kind == name and re.search(network, row.text("interconnect")):
            return cluster
    # What stands in brackets are remarks, of other tables too.
    named = re.search(r"(\d+) ?GB", said.partition("(")[0], re.IGNORECASE)
    memory = named[1] if named else row.text("device_memory").removesuffix(".0")
    return OTHER_MEMORY.get((kind.partition("-")[0], memory), CLUSTERS[kind])


@cache
def _cluster(name: str, gpus: int, interconnect: str, node: int) -> Cluster:
    cluster = _taken(_smaller_nodes(load_cluster(name), node), gpus)
    stated = _node_Bps(interconnect, cluster.accelerators_per_node)
    cards = [tier for tier in cluster.tiers if tier.fabric == "nic"]
    if stated is None or not cards:
        return cluster
    return cluster.scale_network(stated / cluster.accelerators_per_node / cards[0].Bps.value)


def _smaller_nodes(cluster: Cluster, node: int) -> Cluster:
    """Return a cluster whose switches join as many accelerators as a row's nodes have."""
    inner, *outer = cluster.tiers
    own = cluster.accelerators_per_node
    if inner.fabric != "nvswitch" or inner.spans != own or not node or own % node:
        return cluster
    return replace(cluster, accelerators_per_node=node, tiers=(replace(inner, spans=node), *outer))


def _taken(cluster: Cluster, gpus: int) -> Cluster:
    """Return a cluster cut down or grown; any few accelerators of one switched node are one.

    Plans of layouts only take divisors of a node, which cut it evenly; runs took what they liked.
    """
    switched = cluster.tiers[0].fabric == "nvswitch"
    if switched and gpus < cluster.accelerators_per_node:
        return replace(cluster, accelerators=gpus)
    return cluster.take(gpus)


def _node_Bps(interconnect: str, accelerators: int) -> float | None:
    """Return bytes/s that the cards of a node of some accelerators carry, if a row says so."""
    if cards := _CARDS.search(interconnect):
        return float(cards[1]) * float(cards[2]) * GB / BITS
    if links := _OMNI_PATH.search(interconnect):
        return float(links[1]) * OMNI_PATH_GBPS * GB / BITS
    if node := _NODE.search(interconnect):
        return float(node[1]) * (TERA if node[2] in "Tt" else GB) / BITS
    if each := _EACH.search(interconnect):
        return float(each[1]) * accelerators * GB / BITS
    return None
