"""Groups of ranks on known machines, and what NCCL runs on them."""

from __future__ import annotations

import numpy as np

from topologies.nccl_tuning import ALGORITHMS, PROTOCOLS, Groups, Tuning

INSIDE = {"volta": 120e9, "ampere": 240e9, "hopper": 370.8e9, "blackwell": 721.8e9}
MIB, GIB = 2.0**20, 2.0**30


def groups(
    per_node: float | list[float],
    nodes: float | list[float] = 1.0,
    generation: str = "hopper",
    *,
    node: float = 388e9,
    inside: float | None = None,
    **more,
) -> Groups:
    ranks = np.multiply(per_node, nodes)
    inside = INSIDE[generation] if inside is None else inside
    inside_Bps = np.where(np.equal(per_node, 1), np.inf, inside)
    return Groups(
        ranks=ranks,
        nodes=np.asarray(nodes, dtype=float),
        generation=generation,
        inside_Bps=inside_Bps,
        node_Bps=np.array(node),
        **more,
    )


def choice(tuning: Tuning, nbytes: float) -> tuple[str, float]:
    """Return what runs, and its us."""
    algorithm, protocol = int(tuning.choose(nbytes)), int(tuning.protocol(nbytes))
    return f"{ALGORITHMS[algorithm]}/{PROTOCOLS[protocol]}", float(tuning.seconds(nbytes)) * 1e6
