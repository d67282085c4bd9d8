"""The same job on the same accelerators, joined in two ways: when the best layout changes.

Each pair differs in one thing: whether pods are joined at full rate or at a seventh, whether
NVLink ends at a box or spans a rack, whether chips form a torus or hang at a switch of the same
rate. Shown is the best layout of each, and what the other's best layout would cost there.

    python -m examples.links_decide
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from examples.table import print_table
from models.layout import LayoutBatch
from planner.bounds import Bounds
from planner.layout_words import details
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner.plans import Plan
    from topologies.cluster import Cluster, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One job on two clusters.

    Parameters
    ----------
    title
        What differs.
    model, cluster, seq_len, global_batch
        The job on a cluster of the catalogue.
    real, other
        Names of the catalogue's links and of the other ones.
    joined_otherwise
        The cluster with the other links.
    """

    title: str
    model: str
    cluster: str
    seq_len: int
    global_batch: int
    real: str
    other: str
    joined_otherwise: Callable[[Cluster], Cluster]


def full_rate(cluster: Cluster) -> Cluster:
    """Return a cluster whose pods are joined at the rate of their network cards."""
    *inner, card, spine = cluster.tiers
    return replace(cluster, tiers=(*inner, card, replace(spine, Bps=card.Bps)))


def boxes_of_eight(cluster: Cluster) -> Cluster:
    """Return a cluster whose NVLink domains end at eight accelerators."""
    nvlink, *outer = cluster.tiers
    return replace(cluster, tiers=(replace(nvlink, spans=8), *outer))


def at_a_switch(cluster: Cluster) -> Cluster:
    """Return a cluster whose chips have all their links' rate towards any other chip."""
    torus, *outer = cluster.tiers
    assumed = Figure(value=torus.Bps.value, kind=Provenance.ASSUMED, source="all links together")
    switch: Tier = replace(torus, fabric="nvswitch", dims=(), wrap_multiple=0, peer_Bps=assumed)
    return replace(cluster, tiers=(switch, *outer))


PAIRS = (
    Pair(
        title="GPT-3 175B, 2K tokens, 1,536 sequences, 6,144 H100: the uplinks of pods",
        model="gpt3-175b",
        cluster="meta-24k:768",
        seq_len=2_048,
        global_batch=1_536,
        real="7:1 oversubscribed",
        other="full rate",
        joined_otherwise=full_rate,
    ),
    Pair(
        title="GPT-3 175B, 32K tokens, 32 sequences, 72 GB200: where NVLink ends",
        model="gpt3-175b",
        cluster="gb200-nvl72:18",
        seq_len=32_768,
        global_batch=32,
        real="rack of 72",
        other="boxes of 8",
        joined_otherwise=boxes_of_eight,
    ),
    Pair(
        title="Llama 3.1 70B, 32K tokens, 64 sequences, 128 TPU v5p: how chips are joined",
        model="llama-3.1-70b",
        cluster="tpu-v5p:32",
        seq_len=32_768,
        global_batch=64,
        real="torus 4x4x8",
        other="one switch",
        joined_otherwise=at_a_switch,
    ),
)


def best(scenario: Scenario) -> Plan:
    """Return the best plan of a scenario."""
    found = plan_scenario(scenario, Bounds.parse({}), "any", top=1).best
    if found is None:
        raise SystemExit(f"nothing fits on {scenario.cluster.name}")
    return found


def compared(pair: Pair) -> list[list[str]]:
    """Return a row for each way to join: links, best layout, its step, the other's step there."""
    real = Scenario.load(
        pair.model, pair.cluster, seq_len=pair.seq_len, global_batch=pair.global_batch
    )
    other = replace(real, cluster=pair.joined_otherwise(real.cluster))
    found = {name: best(one) for name, one in ((pair.real, real), (pair.other, other))}
    rows = []
    for name, scenario in ((pair.real, real), (pair.other, other)):
        rival = next(plan for key, plan in found.items() if key != name)
        (there,) = scenario.evaluate(LayoutBatch.of([rival.layout]))
        own = found[name]
        rows.append(
            [
                name,
                f"{own.layout} {details(own.layout)}",
                f"{own.step_time_s:.3f} s",
                f"{there.step_time_s / own.step_time_s - 1:+.1%}",
            ]
        )
    return rows


def main() -> None:
    """Print every pair."""
    for pair in PAIRS:
        print(pair.title)
        head = ["links", "best layout", "step", "the other's layout here"]
        print_table([head, *compared(pair)])


if __name__ == "__main__":
    main()
