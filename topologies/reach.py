"""How far out the groups of an axis reach: the outermost tier of links they cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topologies.cluster import Cluster, Tier


def outermost_tier(cluster: Cluster, size: int, stride: int) -> Tier:
    """Return the outermost tier that any group of an axis crosses.

    Groups fill extents of ``size * stride`` accelerators one after another. They all lie within
    blocks of a tier where the extent divides the block; where it does not, a border of blocks goes
    through some extent, and through a group of it.

    Parameters
    ----------
    cluster
        Tiers from the inside out.
    size, stride
        Ranks of a group, at least 2, and the distance between them; the axis fills the cluster.

    Examples
    --------
    >>> from topologies import load_cluster
    >>> racks = load_cluster("gb200-nvl72:36")
    >>> outermost_tier(racks, 8, 1).name, outermost_tier(racks, 16, 1).name
    ('nvlink', 'infiniband')
    """
    for tier in cluster.tiers:
        if tier.spans is None or cluster.accelerators <= tier.spans:
            return tier
        if tier.spans % (size * stride) == 0:
            return tier
    return cluster.tiers[-1]
