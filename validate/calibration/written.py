"""A calibration as its file holds it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from models.calibration import (
    CalibrationSchema,
    FitSchema,
    MeasurementSchema,
    RatioSchema,
)
from models.profile import file_parameter
from topologies.schema import AmountSchema
from validate.calibration import host
from validate.calibration.checked import exactness, peaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from topologies.figure import Figure
    from validate.calibration.asked import Asked
    from validate.calibration.item import Item, Scale
    from validate.calibration.measurement import Measurement
    from validate.calibration.profile_fit import ProfileFit


def content(
    asked: Asked,
    items: Sequence[Item],
    found: Sequence[Measurement],
    fitted: ProfileFit,
    provenance: Mapping[str, Any],
    impossible: Mapping[Item, str],
    scale: Scale,
) -> CalibrationSchema:
    """Return the file of a calibration."""
    return CalibrationSchema(
        schema_version="sp-profile/1",
        name=f"{asked.accelerator.name}, measured {provenance['before']['date'][:10]}",
        accelerator=asked.accelerator.name,
        dtype="bf16",
        provenance=dict(provenance),
        measurements=[_measurement(each) for each in found],
        checks=[*exactness(asked.device), *peaks(asked.device, scale)],
        skipped=[*host.skipped(asked.device), *_skipped(items, found, impossible)],
        fits={name: FitSchema(**each.summary()) for name, each in fitted.fits.items()},
        parameters=dict(_parameter(name, fitted) for name in fitted.measured),
        collectives=[
            RatioSchema(
                collective=each.collective,
                scale_out=each.scale_out,
                start=_figure(each.start),
                per_byte=_figure(each.per_byte),
                per_root_byte=_figure(each.per_root_byte),
            )
            for each in fitted.profile.collectives
        ],
        predictions=[each.to_dict() for each in fitted.predictions],
    )


def _measurement(each: Measurement) -> MeasurementSchema:
    low, high = each.spread
    return MeasurementSchema(
        kind=each.item.kind,
        args=dict(each.item.args),
        t=each.t,
        p10=low,
        p90=high,
        reps=each.calls,
        rounds=len(each.seconds),
        wall=each.wall,
    )


def _skipped(
    items: Sequence[Item], found: Sequence[Measurement], impossible: Mapping[Item, str]
) -> list[tuple[str, str]]:
    told = [(str(item), why) for item, why in impossible.items()]
    left = set(items) - {each.item for each in found} - set(impossible)
    counts = Counter(item.kind for item in left)
    return told + [(f"{kind}: {number}", "the budget ran out") for kind, number in counts.items()]


def _parameter(name: str, fitted: ProfileFit) -> tuple[str, AmountSchema]:
    figure = getattr(fitted.profile, name)
    file_name, unit = file_parameter(name)
    return file_name, _figure(figure, unit)


def _figure(figure: Figure, unit: float = 1.0) -> AmountSchema:
    return AmountSchema(value=figure.value / unit, kind=figure.kind.value, source=figure.source)
