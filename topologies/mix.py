"""A cluster of parts that other files describe: nodes of several kinds under one job.

::

    parts: [{cluster: h100-dgx, nodes: 4}, {cluster: a100-dgx, nodes: 4}]
    tiers:
      - {name: core, fabric: spine, spans: all, GBps: {...}, ...}

Every rank gets equal work, so the job waits for whoever has least: each figure of the mix is the
worst of its parts', level by level from the inside out.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from math import gcd
from typing import TYPE_CHECKING, Any

from pydantic import Field

from topologies.cluster import Cluster, Tier, TierFabric
from topologies.errors import Problem, SpecError, raise_if_any
from topologies.figure import Figure, Provenance
from topologies.schema import Strict
from topologies.tier_file import TierSchema, build_tiers, end_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from topologies.accelerator import Accelerator

#: Fabrics that may lie at one level of a mix, the worst first.
_ALIKE: tuple[tuple[TierFabric, ...], ...] = (
    ("mesh", "pcie", "nvswitch"),
    ("dragonfly", "spine", "nic"),
)
#: Figures of a tier of which less is worse; of the others, more is.
_RATES = ("Bps", "peer_Bps", "usable_fraction", "nvls_fraction", "shift_fraction")
MOST_PARTS = 32


class PartSchema(Strict):
    """Nodes of one kind: a catalogue name or a file beside this one."""

    cluster: str
    nodes: int | None = Field(default=None, ge=1, le=1_000_000)


class MixSchema(Strict):
    """A user's file of parts."""

    name: str
    title: str
    parts: list[PartSchema] = Field(min_length=2, max_length=MOST_PARTS)
    tiers: list[TierSchema] = Field(min_length=1)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the tiers that join the parts."""
        found: list[Problem] = []
        for place, tier in enumerate(self.tiers):
            where = f"tiers.{place}"
            found += end_problems(where, tier, last=place == len(self.tiers) - 1)
            found += tier.problems(where)
            if tier.fabric != "spine":
                mend = "parts are joined by spine tiers; what is inside a part is in its own file"
                found.append(Problem(f"{where}.fabric", tier.fabric, mend))
        return found

    def build(self, parts: Sequence[Cluster], where: str) -> Cluster:
        """Return the cluster of the parts.

        Raises
        ------
        SpecError
            If their levels are not alike, or a joining tier would cut through a part.
        """
        problems = [*_level_problems(parts), *self._span_problems(parts)]
        raise_if_any([Problem(f"{where}: {p.field}", p.value, p.mend) for p in problems])
        inner = tuple(
            _worst_tier([part.tiers[level] for part in parts], parts, f"{where}: tier {level}")
            for level in range(len(parts[0].tiers))
        )
        return Cluster(
            name=self.name,
            title=self.title,
            accelerator=_least_accelerator(parts),
            accelerators_per_node=gcd(*(part.accelerators_per_node for part in parts)),
            accelerators=sum(part.accelerators for part in parts),
            tiers=inner + build_tiers(self.tiers, inner[-1]),
            parts=tuple(parts),
        )

    def _span_problems(self, parts: Sequence[Cluster]) -> Iterator[Problem]:
        sizes = [part.accelerators for part in parts]
        borders = {0, *accumulate(sizes)}
        for place, tier in enumerate(self.tiers):
            if tier.spans == "all":
                continue
            if tier.spans < 1 or not borders.issuperset(range(0, sum(sizes), tier.spans)):
                mend = f"blocks of whole parts, which have {', '.join(map(str, sizes))}, or all"
                yield Problem(f"tiers.{place}.spans", tier.spans, mend)


def _level_problems(parts: Sequence[Cluster]) -> Iterator[Problem]:
    first = _levels(parts[0])
    vendor = parts[0].accelerator.vendor
    for place, part in enumerate(parts):
        field = f"parts.{place}"
        if part.accelerator.vendor != vendor:
            mend = f"no library of collectives spans {vendor} and {part.accelerator.vendor}"
            yield Problem(field, part.name, mend)
        if _levels(part) != first:
            mend = (
                f"its tiers are {', '.join(_levels(part))}, those of {parts[0].name} "
                f"{', '.join(first)}: parts need as many tiers inside and outside their nodes"
            )
            yield Problem(field, part.name, mend)
        elif not part.tiers[-1].scale_out:
            mend = "its outermost tier has no network cards to join others with: add a nic tier"
            yield Problem(field, part.name, mend)


def _levels(cluster: Cluster) -> list[str]:
    return ["scale-out" if tier.scale_out else "scale-up" for tier in cluster.tiers]


def _worst_tier(tiers: Sequence[Tier], parts: Sequence[Cluster], where: str) -> Tier:
    """Return one level of the mix from that of every part."""
    spans = [
        gcd(min(tier.spans or part.accelerators, part.accelerators), part.accelerators)
        for tier, part in zip(tiers, parts, strict=True)
    ]
    figures: dict[str, Any] = {
        name: _worst([getattr(tier, name) for tier in tiers], min if name in _RATES else max)
        for name in dict.fromkeys(name for tier in tiers for name, _ in tier.figures())
    }
    if any(tier.nvls_fraction is None for tier in tiers):
        figures |= {"nvls_fraction": None, "nvls_start_s": None}
    shape = _worst_shape(tiers, where)
    return replace(
        shape,
        name="+".join(dict.fromkeys(tier.name for tier in tiers)),
        spans=gcd(*spans),
        staged=any(tier.staged for tier in tiers),
        rails=all(tier.rails for tier in tiers),
        planes=max(tier.planes for tier in tiers),
        paths=max(tier.paths for tier in tiers),
        **figures,
    )


def _worst_shape(tiers: Sequence[Tier], where: str) -> Tier:
    """Return the tier whose fabric the level has."""
    if len({(tier.fabric, tier.dims, tier.wrap_multiple) for tier in tiers}) == 1:
        return tiers[0]
    for alike in _ALIKE:
        if all(tier.fabric in alike for tier in tiers):
            return min(tiers, key=lambda tier: alike.index(tier.fabric))
    names = ", ".join(dict.fromkeys(tier.fabric for tier in tiers))
    mend = "a torus only mixes with the same torus: no single tier describes both"
    raise SpecError([Problem(where, names, mend)])


def _worst(
    figures: Sequence[Figure | None], pick: Callable[[Iterable[float]], float]
) -> Figure | None:
    """Return the least or the most of the figures that are known."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return None
    worst = pick(figure.value for figure in known)
    return next(figure for figure in known if figure.value == worst)


def _least_accelerator(parts: Sequence[Cluster]) -> Accelerator:
    """Return the slowest accelerator of the mix, with the least of every figure.

    Its name stays, so that its profile is found. Compute units are its own, since they go with its
    kernels. No fp8 or fp4 where one has none; price and power are the mean of all accelerators.
    """
    kinds = [part.accelerator for part in parts]
    slowest = min(kinds, key=lambda kind: kind.bf16_flops.value)
    if len(set(kinds)) == 1:
        return slowest
    least: dict[str, Any] = {
        name: _least([(kind, getattr(kind, name)) for kind in kinds])
        for name in ("hbm_bytes", "hbm_Bps", "matmul_flops")
    }
    for name in ("fp8_flops", "fp4_flops", "fp8_matmul_flops"):
        known = [(kind, getattr(kind, name)) for kind in kinds]
        least[name] = _least(known) if all(figure for _, figure in known) else None
    return replace(
        slowest,
        title=" and ".join(dict.fromkeys(kind.title for kind in kinds)),
        power_W=_mean(parts, "power_W"),
        price_usd_per_hour=_mean(parts, "price_usd_per_hour"),
        **least,
    )


def _least(figures: Sequence[tuple[Accelerator, Figure | None]]) -> Figure | None:
    known = {kind.title: figure for kind, figure in figures if figure is not None}
    if not known:
        return None
    said = ", ".join(f"{title} ({figure.source})" for title, figure in known.items())
    least = min(known.values(), key=lambda figure: figure.value)
    return replace(least, kind=_softest(known.values()), source=f"the least of: {said}")


def _mean(parts: Sequence[Cluster], name: str) -> Figure | None:
    """Return the mean of a figure over all accelerators, where every part's is known."""
    figures = [getattr(part.accelerator, name) for part in parts]
    if any(figure is None for figure in figures):
        return None
    total = sum(part.accelerators for part in parts)
    pairs = list(zip(parts, figures, strict=True))
    said = ", ".join(f"{part.accelerators} x {figure.value:g}" for part, figure in pairs)
    return Figure(
        value=sum(part.accelerators * figure.value for part, figure in pairs) / total,
        kind=_softest(figures),
        source=f"the mean of: {said}",
    )


def _softest(figures: Iterable[Figure]) -> Provenance:
    order = list(Provenance)
    return max((figure.kind for figure in figures), key=order.index)
