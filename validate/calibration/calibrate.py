"""A calibration from the first sample to the profile: measure, fit, predict, write."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.compute import Device
from models.profile import load_profile
from topologies.errors import Problem, SpecError
from topologies.whole_file import whole_file
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

    first = _first()
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


def _first() -> bool:
    """Return whether this process is to tell: of a launcher's ranks only the first."""
    from validate.processes import launched

    return not launched() or os.environ["RANK"] == "0"


def _measured(asked: Asked, told: Told, heard: Callable[[int, object], None]) -> None:
    """Measure wherever the ranks are."""
    from validate import processes

    if processes.launched():
        import torch

        number = int(os.environ["RANK"])
        if asked.device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        with processes.group(number, asked.world, "env://", asked.timeout_s, asked.device):
            measure(_rank(number, asked.world, heard), told)
    elif asked.device == "cuda":
        measure(_rank(0, 1, heard), told)
    else:
        processes.run(asked.world, measure, told, timeout_s=asked.timeout_s, progress=heard)


def _rank(number: int, world: int, heard: Callable[[int, object], None]) -> Any:  # noqa: ANN401
    from validate.processes import Rank

    return Rank(rank=number, world=world, report=lambda what: heard(number, what))


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
