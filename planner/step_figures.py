"""The figures that a training step is computed from: of the device, links, states and software."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.profile import DECODE
from topologies.figure import Provenance

if TYPE_CHECKING:
    from models.profile import Profile
    from models.workload import Workload
    from topologies.cluster import Cluster
    from topologies.figure import Figure

_LIKE_FP8 = "assumed: of their own peak products in fp4 reach what those in fp8 do"


def step_figures(workload: Workload, profile: Profile, cluster: Cluster) -> dict[str, Figure]:
    """Return every figure with its name; those that no such step reads are left out.

    Parameters
    ----------
    workload, profile, cluster
        What is trained in which precision with what, and on which devices and links.
    """
    recipe = workload.recipe
    unread = set(DECODE) if recipe.quantised else {*DECODE, "gemm_fp8_fraction"}
    found = {name: figure for name, figure in profile.figures() if name not in unread}
    if recipe.peak == "fp4":
        found["gemm_fp4_fraction"] = replace(
            profile.gemm_fp8_fraction, kind=Provenance.ASSUMED, source=_LIKE_FP8
        )
    for tier in cluster.tiers:
        found |= {f"{tier.name}.{name}": figure for name, figure in tier.figures()}
    for part in (workload.states, recipe, workload.runs_on):
        found |= dict(part.figures())
    return found
