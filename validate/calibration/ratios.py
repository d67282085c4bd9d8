"""How many times as long as the fabric says collectives take: a fit for each and each reach."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.collectives import cost
from models.profile import CollectiveRatio
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance
from validate.calibration import messages
from validate.calibration.fit import fit
from validate.calibration.measurement import medians, of_kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.profile import Profile
    from topologies.cluster import Cluster
    from topologies.group_links import GroupLinks
    from validate.calibration.fit import Fitted, Floats
    from validate.calibration.measurement import Measurement

#: A collective, and whether its groups leave the fast domain.
Reach = tuple[Collective, bool]


def fits(
    found: Sequence[Measurement], cluster: Cluster, profile: Profile, seed: int
) -> dict[Reach, Fitted]:
    """Return the fit of every collective that was measured, inside the fast domain and beyond.

    Parameters
    ----------
    found
        All measurements.
    cluster
        With as many accelerators as ranks that measured.
    profile
        Whose start-up and copies the fabric's costs are taken with.
    seed
        Of the folds.
    """
    fabric = Fabric(cluster)
    points = of_kind(found, messages.KIND)
    apart: dict[Reach, list[Measurement]] = {}
    for point in points:
        beyond = bool(_links(fabric, [point]).scale_out[0])
        apart.setdefault((Collective(str(point.item["collective"])), beyond), []).append(point)
    return {reach: _fit(reach, own, fabric, profile, seed) for reach, own in apart.items()}


def ratio(reach: Reach, values: Mapping[str, float], source: str) -> CollectiveRatio:
    """Return a fit as a profile holds it; what was not fitted is as the fabric says."""
    start, per_byte, per_root_byte = (
        Figure(value=values.get(name, 1.0), kind=Provenance.FITTED, source=source)
        for name in ("start", "per_byte", "per_root_byte")
    )
    return CollectiveRatio(
        collective=reach[0],
        scale_out=reach[1],
        start=start,
        per_byte=per_byte,
        per_root_byte=per_root_byte,
    )


def _links(fabric: Fabric, points: Sequence[Measurement]) -> GroupLinks:
    size, stride = (
        np.array([float(point.item[name]) for point in points]) for name in ("size", "stride")
    )
    return fabric.links((size, stride))


def _fit(
    reach: Reach, points: Sequence[Measurement], fabric: Fabric, profile: Profile, seed: int
) -> Fitted:
    nbytes = np.array([float(point.item["nbytes"]) for point in points])
    links = _links(fabric, points)

    def form(values: Mapping[str, float], which: NDArray[np.intp]) -> Floats:
        own = replace(profile, collectives=(ratio(reach, values, "measured here"),))
        found: Floats = cost(reach[0], links, own).seconds(nbytes)[which]
        return found

    bare = cost(reach[0], links, replace(profile, collectives=()))
    names = ["start", "per_byte", *(["per_root_byte"] if bare.per_root_byte_s.any() else [])]
    return fit(dict.fromkeys(names, 1.0), form, medians(points), seed)
