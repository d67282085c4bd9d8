"""Everything a profile takes from measurements, kind by kind: each fit builds on those before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.compute import Device
from topologies.figure import Figure, Provenance
from validate.calibration import (
    attentions,
    host,
    messages,
    overlap,
    products,
    ratios,
    streams,
    sustained,
)
from validate.calibration.fit import Fitted, fit
from validate.calibration.measurement import medians, of_kind
from validate.calibration.predict import predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from models.operation import Compute
    from models.profile import Profile
    from topologies.cluster import Cluster
    from validate.calibration.fit import Floats
    from validate.calibration.item import Item
    from validate.calibration.measurement import Measurement
    from validate.calibration.predict import Prediction

#: Where a search starts where the profile below has nothing.
LEAST_START = 0.01
#: Sides of the tiles that flash kernels work in; the one that fits best is taken.
MASK_TILES = (64.0, 128.0, 256.0, 512.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of operation.

    Parameters
    ----------
    kind
        Of the items.
    figures
        That their measurements fix.
    work
        What the inventory counts of items.
    weight
        Of a point. What moves memory counts by what it takes of a layer that has it once: there
        one bandwidth stands for operators of many kinds.
    """

    kind: str
    figures: tuple[str, ...]
    work: Callable[[Sequence[Item]], Compute]
    weight: Callable[[Measurement], float] = lambda _: 1.0


#: In order: what moves memory is in all others.
KINDS = (
    Kind(
        kind=streams.KIND,
        figures=("hbm_fraction", "kernel_s"),
        work=streams.work,
        weight=lambda point: point.t / point.item.number("elements"),
    ),
    Kind(
        kind=products.KIND,
        figures=("gemm_fraction", "gemm_half_waves", "gemm_half_depth"),
        work=products.work,
    ),
    Kind(kind=products.OF_WEIGHTS, figures=("weight_gradient_ratio",), work=products.work),
    Kind(
        kind=attentions.FORWARD,
        figures=(
            "attention_fraction",
            "attention_half_waves",
            "attention_half_tokens",
            "attention_half_width",
        ),
        work=attentions.work,
    ),
    Kind(
        kind=attentions.BACKWARD,
        figures=(
            "attention_backward_ratio",
            "attention_backward_half_tokens",
            "attention_backward_half_width",
        ),
        work=attentions.work,
    ),
)


@dataclass(slots=True)
class ProfileFit:
    """A profile fitted to measurements.

    Parameters
    ----------
    found
        All measurements.
    device
        The accelerator, with the profile of whatever was not measured.
    cluster
        With as many accelerators as ranks measured; None for one alone.
    cores
        That all ranks really had together; None where each has a device.
    source
        Who measured, where and when: the source of every figure.
    seed
        Of the folds.
    profile
        What comes of it.
    fits
        By kind, or by collective and reach.
    measured
        Names of the figures that were fitted or measured.
    predictions
        Of held-out layers and blocks, as short as they were measured.
    """

    found: Sequence[Measurement]
    device: Device
    cluster: Cluster | None
    cores: float | None
    source: str
    seed: int
    profile: Profile = field(init=False)
    fits: dict[str, Fitted] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Bursts are short: no power limit has set in.
        self.profile = self._with({"gemm_sustained": 1.0}, self.device.profile)
        self._launches()
        for kind in KINDS:
            self._kind(kind)
        self._collectives()
        self._overlap()
        self.predictions = predictions(self.found, self._on(self.profile), self.cluster, self.cores)
        self._sustained()
        self._spreads()

    def _launches(self) -> None:
        """Take the time between kernels from a graph, and between launches from a loop of them."""
        replays, launches = of_kind(self.found, host.REPLAY), of_kind(self.found, host.LAUNCH)
        if replays and launches:
            self._take("kernel_s", replays[0].t / host.REPLAYED)
            self._take("host_launch_s", launches[0].t)

    def _kind(self, kind: Kind) -> None:
        names = [name for name in kind.figures if name not in self.measured]
        tiles = MASK_TILES if kind.kind == attentions.FORWARD else (None,)
        best = min(
            (self._fit(kind, names, tile) for tile in tiles), key=lambda one: _misfit(one[0])
        )
        fitted, tile = best
        for name, value in fitted.values.items():
            self._take(name, value, Provenance.FITTED)
        if tile is not None:
            self._take("attention_mask_keys", tile, Provenance.FITTED)
        self.fits[kind.kind] = fitted

    def _fit(
        self, kind: Kind, names: Sequence[str], tile: float | None
    ) -> tuple[Fitted, float | None]:
        points = of_kind(self.found, kind.kind)
        items = [point.item for point in points]
        fixed = {} if tile is None else {"attention_mask_keys": tile}
        every = kind.work(items)

        def form(values: Mapping[str, float], which: NDArray[np.intp]) -> Floats:
            device = self._on(self._with({**values, **fixed}, self.profile))
            seconds: Floats = device.host_bound(device.seconds(every), every.launches)[which]
            return seconds

        start = {name: getattr(self.profile, name).value or LEAST_START for name in names}
        weights = np.array([kind.weight(point) for point in points])
        return fit(start, form, medians(points), self.seed, weights), tile

    def _collectives(self) -> None:
        if self.cluster is None or not of_kind(self.found, messages.KIND):
            return
        found = ratios.fits(self.found, self.cluster, self.profile, self.seed)
        for (collective, beyond), fitted in found.items():
            self.fits[f"{collective} {'scale-out' if beyond else 'scale-up'}"] = fitted
        held = (ratios.ratio(reach, fitted.values, self.source) for reach, fitted in found.items())
        self.profile = replace(self.profile, collectives=tuple(held))

    def _overlap(self) -> None:
        for name, shares in overlap.shares(self.found, self.cluster).items():
            self._take(name, float(np.median(shares)))

    def _sustained(self) -> None:
        """Take what lasts of a burst's rate, or what the profile below says."""
        share = sustained.share(self.found)
        if share is not None:
            self._take("gemm_sustained", share)
        else:
            self.profile = replace(self.profile, gemm_sustained=self.device.profile.gemm_sustained)

    def _spreads(self) -> None:
        computed = [each.error for each in self.predictions]
        sent = [fitted.held_out for name, fitted in self.fits.items() if " scale-" in name]
        if computed:
            self._take("compute_spread", _spread(np.array(computed)))
        if sent:
            self._take("communication_spread", _spread(np.concatenate(sent)))

    def _take(self, name: str, value: float, kind: Provenance = Provenance.MEASURED) -> None:
        figure = Figure(value=value, kind=kind, source=self.source)
        figures: dict[str, Any] = {name: figure}
        self.profile = replace(self.profile, **figures)
        self.measured.append(name)

    def _with(self, values: Mapping[str, float], profile: Profile) -> Profile:
        figures: dict[str, Any] = {
            name: Figure(value=value, kind=Provenance.FITTED, source=self.source)
            for name, value in values.items()
        }
        return replace(profile, **figures)

    def _on(self, profile: Profile) -> Device:
        return Device(self.device.accelerator, profile)


def _misfit(fitted: Fitted) -> float:
    return float(np.median(np.abs(fitted.in_sample)) + np.mean(np.abs(fitted.in_sample)))


def _spread(errors: Floats) -> float:
    """Return the root mean square of errors, as intervals take it: of their logarithms."""
    return float(np.sqrt(np.mean(np.log1p(np.maximum(errors, -0.99)) ** 2)))
