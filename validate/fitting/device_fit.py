"""A device's compute figures, fitted kind by kind to what several sources measured.

Every source weighs alike, whatever the number of its rows, so that a figure holds across sources.
Errors are of rows that a fit has not seen: each fifth in turn, and each source in turn, or each
library of a lone source. Forms tried and not taken, by errors on rows held out of products on H100
and B200 (A100): exact waves of tiles of 128 x 128 15% (26%), the best of three tile shapes 6.5%
(10%), against 5.4 to 6.1% (5.7%); a last wave of which a fitted share is lost 4.8 to 5.7% (6.3%).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.compute import TILE, WIDE, Device
from topologies.figure import Figure, Provenance
from validate.calibration.fit import Fitted, fit, solve
from validate.fitting import work
from validate.fitting.kind_fit import KindFit
from validate.fitting.sample import (
    BACKWARD,
    DECODE,
    FORWARD,
    GROUPED,
    MEMORY,
    NARROW_PRODUCT,
    PRODUCT,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.profile import Profile
    from validate.calibration.fit import Floats
    from validate.fitting.sample import Sample

#: What rows of each kind fix. In order: what moves memory is in all others; without rows of it
#: products tell it, whose weights stream where few tokens meet them.
FIGURES: dict[str, tuple[str, ...]] = {
    MEMORY: ("hbm_fraction", "kernel_s"),
    PRODUCT: ("gemm_fraction", "gemm_half_waves", "gemm_half_depth", "hbm_fraction", "kernel_s"),
    NARROW_PRODUCT: ("gemm_fp8_fraction",),
    FORWARD: (
        "attention_fraction",
        "attention_half_waves",
        "attention_half_tokens",
        "attention_half_width",
        "attention_wide_ratio",
    ),
    BACKWARD: (
        "attention_backward_ratio",
        "attention_backward_half_tokens",
        "attention_backward_half_width",
        "attention_backward_wide_ratio",
    ),
    DECODE: ("decode_fraction", "decode_s", "decode_pair_s"),
    GROUPED: (),
}
#: What rows must have at least twice of elsewhere, or in all, to tell a figure.
VARIED = {
    "attention_half_width": "width",
    "attention_backward_half_width": "width",
    "attention_half_tokens": "tokens",
    "attention_backward_half_tokens": "tokens",
}
#: What rows must have heads on both sides of :data:`~models.compute.WIDE` for, to tell it.
WIDE_RATIOS = ("attention_wide_ratio", "attention_backward_wide_ratio")
#: Rows of a product below which its weights' bytes take longer than its FLOP.
THIN = 64.0
#: Sides of the tiles that flash kernels work in along a mask; the best is taken.
MASK_TILES = (64.0, 128.0, 256.0)
#: How much more than the average row one may count.
MOST_WEIGHT = 10.0
#: Kinds whose sources have a vote each, however few their rows: of backward passes there are two on
#: a device at most, one of which is short, and where they disagree neither is the other's outlier.
ALIKE = (BACKWARD,)


@dataclass(slots=True)
class DeviceFit:
    """The compute figures of one device.

    Parameters
    ----------
    samples
        Rows without those that a rule leaves out.
    device
        With the profile of whatever is not measured.
    seed
        Of the folds.
    profile
        What comes of it.
    fits
        By kind.
    """

    samples: Sequence[Sample]
    device: Device
    seed: int = 0
    profile: Profile = field(init=False)
    fits: dict[str, KindFit] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Bursts are short: no power limit has set in.
        self.profile = _with(self.device.profile, {"gemm_sustained": 1.0})
        for kind in FIGURES:
            mine = [each for each in self.samples if each.kind == kind and not each.check]
            if mine:
                self._kind(kind, mine)

    def _kind(self, kind: str, samples: Sequence[Sample]) -> None:
        whole, origin = joined(samples)
        names = self._names(kind, whole)
        if kind == BACKWARD:
            self._as_forward(names)
        tiles: Sequence[float | None] = MASK_TILES if kind == FORWARD else (None,)
        tried = [(self._fit(whole, names, samples, tile), tile) for tile in tiles]
        fitted, tile = min(tried, key=lambda one: float(np.mean(np.abs(one[0].in_sample))))
        apart = self._apart(whole, origin, samples, names, tile)
        values = dict(fitted.values) | ({} if tile is None else {"attention_mask_keys": tile})
        self.profile = _with(self.profile, values)
        found = KindFit(whole=whole, fitted=fitted, sources={**apart, **self._checked(kind)})
        self.fits[kind] = found
        for name, value in values.items():
            self.figures[name] = Figure(
                value=value, kind=Provenance.FITTED, source=found.told(name)
            )

    def _checked(self, kind: str) -> dict[str, tuple[int, Floats | None]]:
        """Predict the sources that only check fits."""
        found: dict[str, list[Floats]] = {}
        for each in self.samples:
            if each.kind == kind and each.check:
                off = self._seconds(each, {}, None) / each.seconds - 1.0
                found.setdefault(each.source, []).append(off)
        every = {source: np.concatenate(off) for source, off in found.items()}
        return {source: (len(off), off) for source, off in every.items()}

    def _as_forward(self, names: Sequence[str]) -> None:
        """Take forward's halves for backward where rows of backward do not tell them."""
        for name in FIGURES[BACKWARD]:
            forward = name.replace("backward_", "")
            if name not in names and forward in self.figures:
                value = self.figures[forward].value
                self.profile = _with(self.profile, {name: value})
                self.figures[name] = Figure(
                    value=value, kind=Provenance.ASSUMED, source="assumed: as forward"
                )

    def _names(self, kind: str, whole: Sample) -> list[str]:
        """Return the figures that these rows can tell and none before told."""
        return [
            name for name in FIGURES[kind] if name not in self.figures and self._told(name, whole)
        ]

    def _told(self, name: str, whole: Sample) -> bool:
        """Return whether rows differ in what a figure is about."""
        if name in WIDE_RATIOS:
            widths = whole.shapes["width"]
            return bool(widths.max() > WIDE >= widths.min())
        if name in VARIED:
            sizes = whole.shapes[VARIED[name]]
            return bool(sizes.max() >= 2.0 * sizes.min())
        if whole.kind == PRODUCT and name in FIGURES[MEMORY]:
            return bool((whole.shapes["m"] <= THIN).any())
        if name == "attention_half_waves":
            rows = whole.shapes["b"] * whole.shapes["heads"] * whole.shapes["tokens"]
            return bool(rows.min() < TILE * self.device.accelerator.compute_units.value)
        return True

    def _fit(
        self, whole: Sample, names: Sequence[str], samples: Sequence[Sample], tile: float | None
    ) -> Fitted:
        return fit(
            {name: getattr(self.profile, name).value for name in names},
            lambda values, points: self._seconds(whole.only(points), values, tile),
            whole.seconds,
            self.seed,
            weights(samples),
            robust=whole.kind not in ALIKE,
        )

    def _apart(
        self,
        whole: Sample,
        origin: NDArray[np.intp],
        samples: Sequence[Sample],
        names: Sequence[str],
        tile: float | None,
    ) -> dict[str, tuple[int, Floats | None]]:
        """Predict each source from a fit to the others."""
        sources = [each.source for each in samples]
        if len(set(sources)) == 1:  # its libraries, then
            sources = [f"{each.source} {each.library}".strip() for each in samples]
        own = np.array(sources)[origin]
        found: dict[str, tuple[int, Floats | None]] = {}
        for source in dict.fromkeys(sources):
            mine, others = np.flatnonzero(own == source), np.flatnonzero(own != source)
            off = None
            if len(others):
                values = solve(
                    {name: getattr(self.profile, name).value for name in names},
                    lambda values, points: self._seconds(whole.only(points), values, tile),
                    whole.seconds,
                    others,
                    weights(samples),
                    robust=whole.kind not in ALIKE,
                )
                rows = whole.only(mine)
                off = self._seconds(rows, values, tile) / rows.seconds - 1.0
            found[source] = len(mine), off
        return found

    def _seconds(self, rows: Sample, values: Mapping[str, float], tile: float | None) -> Floats:
        fixed = {} if tile is None else {"attention_mask_keys": tile}
        profile = _with(self.profile, {**values, **fixed})
        return work.seconds(rows, Device(self.device.accelerator, profile))


def weights(samples: Sequence[Sample]) -> Floats:
    """Return the weights of rows: every source's together alike, but no row's beyond a bound.

    The bound does not hold for kinds that are :data:`ALIKE`.
    """
    most = np.inf if samples[0].kind in ALIKE else MOST_WEIGHT
    rows: dict[str, int] = {}
    for each in samples:
        rows[each.source] = rows.get(each.source, 0) + len(each)
    mean = sum(rows.values()) / len(rows)
    each_row = [min(mean / rows[sample.source], most) for sample in samples]
    return np.repeat(each_row, [len(sample) for sample in samples])


def _with(profile: Profile, values: Mapping[str, float]) -> Profile:
    figures: dict[str, Any] = {
        name: Figure(value=value, kind=Provenance.FITTED, source="a fit")
        for name, value in values.items()
    }
    return replace(profile, **figures)
