"""A calibration: what `meshwright calibrate` measured on a machine, and the figures it fitted.

The file keeps every measurement beside what was made of it. Its parameters and ratios are laid
over the accelerator's profile; what it did not measure keeps its own origin there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from models.profile import CollectiveRatio, parameters
from topologies.catalogue import accelerator_names
from topologies.collective import Collective
from topologies.errors import Collected, Problem, raise_if_any, unknown_name
from topologies.schema import AmountSchema, Strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.profile import Profile

VERSION = "sp-profile/1"
#: What a reader sees of values that nobody foresaw.
_OPEN = ("provenance", "checks", "predictions")

Seconds = Annotated[float, Field(gt=0.0)]
#: JSON has lists and text where Python has tuples and members of enumerations.
Pair = Annotated[tuple[str, str], Field(strict=False)]
CollectiveName = Annotated[Collective, Field(strict=False)]


class MeasurementSchema(Strict):
    """One kernel or collective with its arguments: median, 10th and 90th percentile, how often."""

    kind: str
    args: dict[str, int | float | str | bool]
    t: Seconds
    p10: Seconds
    p90: Seconds
    reps: int
    rounds: int
    wall: Seconds | None = None


class FitSchema(Strict):
    """How well the parameters of one kind of kernel describe its measurements."""

    parameters: list[str]
    points: int
    in_sample_median: float
    held_out_median: float
    held_out_p90: float
    lowest: float
    highest: float


class RatioSchema(Strict):
    """How many times as long as the fabric says one collective takes."""

    collective: CollectiveName
    scale_out: bool
    start: AmountSchema
    per_byte: AmountSchema
    per_root_byte: AmountSchema

    def build(self) -> CollectiveRatio:
        """Return the ratio."""
        return CollectiveRatio(
            collective=self.collective,
            scale_out=self.scale_out,
            start=self.start.si(),
            per_byte=self.per_byte.si(),
            per_root_byte=self.per_root_byte.si(),
        )


class CalibrationSchema(Strict):
    """The whole file."""

    schema_version: Literal["sp-profile/1"]
    name: str = Field(min_length=1)
    accelerator: str
    dtype: Literal["bf16"]
    provenance: dict[str, Any]
    measurements: list[MeasurementSchema]
    checks: list[dict[str, Any]]
    skipped: list[Pair]
    fits: dict[str, FitSchema]
    parameters: dict[str, AmountSchema]
    collectives: list[RatioSchema]
    predictions: list[dict[str, Any]]

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Whose profile it is."""
        return (self.accelerator,)

    def over(self, base: Profile, where: str) -> Profile:
        """Return a profile with what was measured laid over it; `where` is the file.

        Raises
        ------
        SpecError
            If a parameter is unknown, or a ratio is there twice.
        """
        found = Collected()
        measured = found.attempt(lambda: parameters(self.parameters, where))
        found.attempt(lambda: raise_if_any(list(self._slips(where))))
        found.raise_if_any()
        values: dict[str, Any] = dict(measured)
        return replace(
            base,
            title=f"{self.name}, over {base.name}",
            collectives=tuple(ratio.build() for ratio in self.collectives),
            **values,
        )

    def _slips(self, where: str) -> Iterator[Problem]:
        if self.accelerator not in accelerator_names():
            yield unknown_name(f"{where}: accelerator", self.accelerator, accelerator_names())
        seen: set[tuple[Collective, bool]] = set()
        for place, ratio in enumerate(self.collectives):
            key = (ratio.collective, ratio.scale_out)
            if key in seen:
                yield Problem(f"{where}: collectives.{place}", ratio.collective, "there twice")
            seen.add(key)
        for name in _OPEN:
            for path in _endless(getattr(self, name), name):
                yield Problem(f"{where}: {path}", "not finite", "a finite number")


def _endless(value: object, path: str) -> Iterator[str]:
    """Yield the paths of numbers that are not finite."""
    for where, leaf in leaves(value, path):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            yield where


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield what lists and mappings hold at their ends, each with its path.

    >>> list(leaves({"a": [1, {"b": 2}]}, "file"))
    [('file.a.0', 1), ('file.a.1.b', 2)]
    """
    left = [(path, value)]
    while left:
        path, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{path}.{key}", part) for key, part in reversed(value.items())]
        elif isinstance(value, list | tuple):
            left += [(f"{path}.{at}", part) for at, part in reversed(list(enumerate(value)))]
        else:
            yield path, value
