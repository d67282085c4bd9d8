"""What a prediction took for all that its row leaves unstated."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from planner.layout_words import label
from topologies.catalogue import load_cluster
from topologies.units import GB
from validate.published.estimate_command import catalogue_model, estimate_command
from validate.published.machine_of import BITS
from validate.published.predicted import Quantity

if TYPE_CHECKING:
    from topologies.cluster import Cluster
    from validate.published.predicted import Predicted

#: What a model is called that the catalogue does not have.
OF_SIZES = "of the row's sizes"
#: What :func:`taken` tells, in order.
TAKEN = (
    "model",
    "cluster",
    "precision",
    "software",
    "states",
    "packed_len",
    "layout",
    "sequence_order",
    "command",
)


def taken(each: Predicted) -> dict[str, Any]:
    """Return what was taken, as JSON holds it: all null where no layout was evaluated.

    The command is that of the same step time, so that predictions of anything else have none.
    """
    if each.scenario is None or each.layout is None:
        return dict.fromkeys(TAKEN)
    scenario, layout = each.scenario, each.layout
    work, model = scenario.workload, catalogue_model(scenario.architecture)
    timed = each.quantity is Quantity.TIME
    values = (
        model[0] if model else OF_SIZES,
        cluster_words(scenario.cluster),
        work.precision,
        work.software,
        f"{work.states.optimizer}, gradients {work.states.gradients}, sent {work.states.reduce}",
        work.packed_len,
        label(layout),
        layout.sequence_order.label if layout.ring > 1 else None,
        estimate_command(scenario, layout) if timed else None,
    )
    return dict(zip(TAKEN, values, strict=True))


def cluster_words(cluster: Cluster) -> str:
    """Return a cluster of the catalogue in words, with what a row changed of it.

    >>> cluster_words(load_cluster("h100-dgx:2"))
    'h100-dgx, 16 accelerators'
    >>> cluster_words(load_cluster("h100-dgx:2").scale_network(0.25))
    'h100-dgx, 16 accelerators, 800 Gb/s a node'
    """
    own = _catalogued(cluster.name)
    parts = [cluster.name, f"{cluster.accelerators:,} accelerators"]
    if cluster.accelerators_per_node != own.accelerators_per_node:
        parts.append(f"{cluster.accelerators_per_node} a node")
    if (carried := _network_Gbps(cluster)) != _network_Gbps(own):
        parts.append(f"{carried * cluster.accelerators_per_node:g} Gb/s a node")
    return ", ".join(parts)


@cache
def _catalogued(name: str) -> Cluster:
    """Return a cluster of the catalogue; its file is read once for all rows."""
    return load_cluster(name)


def _network_Gbps(cluster: Cluster) -> float:
    """Return what network cards carry of each accelerator; 0 where there are none."""
    cards = [tier.Bps.value for tier in cluster.tiers if tier.fabric == "nic"]
    return cards[0] * BITS / GB if cards else 0.0
