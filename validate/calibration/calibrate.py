"""A calibration from the first sample to the profile: measure, fit, predict, write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from models.compute import Device
from models.profile import load_profile
from topologies.errors import Problem, SpecError
from topologies.whole_file import whole_file
from validate import processes
from validate.calibration import everything, machine, probe
from validate.calibration.bench import Sample
from validate.calibration.item import SCALES
from validate.calibration.kept import Kept
from validate.calibration.measurement import Measurement, of_kind
from validate.calibration.profile_fit import KINDS, ProfileFit
from validate.calibration.rounds import Heard, Told, measure
from validate.calibration.written import content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.calibration import CalibrationSchema
    from validate.calibration.asked import Asked
    from validate.calibration.item import Item, Scale

#: How medians and fits were taken.
ESTIMATOR = "median of rounds; least squares over logarithms with a soft l1 loss, five folds"
#: Points that each fitted figure needs at least.
POINTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A finished calibration.

    Parameters
    ----------
    found
        All measurements.
    fitted
        The profile and its fits.
    cores
        That all ranks really had; None on GPUs.
    content
        The file.
    """

    found: Sequence[Measurement]
    fitted: ProfileFit
    cores: probe.Cores | None
    content: CalibrationSchema


def calibrate(
    asked: Asked, count: Callable[[int, int], None], scale: Scale | None = None
) -> Calibrated | None:
    """Measure, and write a profile; what is kept of an earlier run is gone on with.

    Parameters
    ----------
    asked
        What to measure on.
    count
        Called with how many samples there are, of how many.
    scale
        How large things are; the device's own by default.

    Returns
    -------
    Calibrated | None
        None on ranks of a launcher other than the first.

    Raises
    ------
    SpecError
        If the budget is too short for any profile; what was measured is kept.
    RankError
        If a rank dies, fails or hangs; what was measured is kept.
    """
    before, begun = machine.state(asked.device), time.monotonic()
    items = tuple(everything.items(asked.device, asked.world, scale))
    identity = machine.identity(asked.device, asked.world, asked.seed, asked.cluster_name)
    kept = Kept.beside(asked.out, identity, fresh=asked.fresh)
    told = Told(
        items=items,
        had=kept.rounds(items),
        device=asked.device,
        rounds=asked.rounds,
        budget_s=asked.budget_s,
        seed=asked.seed,
        scale=scale,
    )

    def heard(_: int, what: object) -> None:
        if isinstance(what, Heard):
            kept.add(items, what)
            count(sum(kept.rounds(items)), len(items) * asked.rounds)

    first = processes.first()
    try:
        _measured(asked, told, heard)
    finally:
        if first and kept.samples:
            kept.write()
    if not first:
        return None
    found = kept.measurements(items)
    _check_enough(found, items, asked, kept)
    cores = _cores(found, asked)
    provenance = (
        identity
        | machine.properties(asked.device)
        | {
            "before": before,
            "after": machine.state(asked.device),
            "wall_s": time.monotonic() - begun,
            "budget_s": asked.budget_s,
            "estimator": ESTIMATOR,
            "effective_cores": cores.to_dict() if cores else None,
        }
    )
    fitted = ProfileFit(
        found=found,
        device=Device(asked.accelerator, load_profile(asked.accelerator.name)),
        cluster=asked.cluster,
        cores=cores.median if cores else None,
        source=f"meshwright calibrate on {identity['device']}, {before['date'][:10]}",
        seed=asked.seed,
    )
    sizes = scale or SCALES[asked.device]
    written = content(asked, items, found, fitted, provenance, kept.impossible, sizes)
    with whole_file(asked.out, "--out") as stream:
        stream.write(written.model_dump_json(indent=1).encode() + b"\n")
    kept.remove()
    return Calibrated(found=found, fitted=fitted, cores=cores, content=written)


def _measured(asked: Asked, told: Told, heard: Callable[[int, object], None]) -> None:
    """Measure wherever the ranks are."""
    if processes.launched():
        with processes.launched_rank(asked.device, asked.timeout_s, partial(heard, 0)) as rank:
            measure(rank, told)
    elif asked.device == "cuda":
        measure(processes.Rank(rank=0, world=1, report=partial(heard, 0)), told)
    else:
        processes.run(asked.world, measure, told, timeout_s=asked.timeout_s, progress=heard)


def _check_enough(
    found: Sequence[Measurement], items: Sequence[Item], asked: Asked, kept: Kept
) -> None:
    """Check that every fit has points to stand on."""
    short = [
        kind.kind for kind in KINDS if len(of_kind(found, kind.kind)) < POINTS * len(kind.figures)
    ]
    if short:
        mend = (
            f"more seconds: {len(found)} of {len(items)} things were measured, too little of "
            f"{', '.join(short)}; they are kept in {kept.path}, and the next run goes on from there"
        )
        raise SpecError([Problem("--budget", asked.budget_s, mend)])


def _cores(found: Sequence[Measurement], asked: Asked) -> probe.Cores | None:
    if asked.device != "cpu":
        return None
    bursts = [
        Sample(seconds, wall)
        for each in of_kind(found, probe.KIND)
        for seconds, wall in zip(each.seconds, each.wall_s, strict=True)
    ]
    return probe.Cores.of(bursts, asked.world) if bursts else None
