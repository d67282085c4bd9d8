"""Figures of profiles that whole training runs decide, because no single kernel shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from models.profile import load_profile

if TYPE_CHECKING:
    from models.profile import Profile
    from planner.scenario import Scenario

#: Profiles of devices that share their figures: of one make, with one power budget.
MAKES = {
    "a100": ("a100", "a100-sxm-40gb", "a100-pcie-80gb"),
    "h100": ("h100", "h100-pcie", "h200-sxm", "h800-sxm", "h20-sxm", "gh200"),
    "b200": ("b200-sxm", "gb200"),
    "b300": ("b300-sxm", "gb300"),
}
ALL = "all"


@dataclass(frozen=True, slots=True)
class RunFigure:
    """A figure that is fitted to runs.

    Parameters
    ----------
    name
        Of the profile's parameter.
    make
        Key of :data:`MAKES`, or ``all``.
    most
        What it cannot exceed.
    """

    name: str
    make: str
    most: float

    def of(self, profile: Profile) -> bool:
        """Whether a profile's figure is this one."""
        return self.make == ALL or profile.name in MAKES[self.make]

    def __str__(self) -> str:
        """Return the name with the make."""
        return f"{self.name} of {self.make}"


#: Sustained power, the host's part, and what hidden communication takes of kernels. A share of the
#: burst rate is at most all of it; the host's are bounded by what was ever measured of frameworks;
#: collectives do not take most of a device.
FIGURES = (
    *(RunFigure("gemm_sustained", make, 1.0) for make in MAKES),
    RunFigure("micro_batch_s", ALL, 0.1),
    RunFigure("host_launch_s", ALL, 1e-4),
    RunFigure("steal_data_parallel", ALL, 0.5),
)
#: Names of the parameters that they are.
NAMES = tuple(dict.fromkeys(figure.name for figure in FIGURES))


def scaled(scenario: Scenario, name: str, factor: float) -> Scenario:
    """Return a scenario whose profile, of the catalogue, has one figure times a factor."""
    return replace(scenario, profile=_profile(scenario.cluster.accelerator.name, name, factor))


@cache
def _profile(accelerator: str, name: str, factor: float) -> Profile:
    """Return one profile for all that ask, so that their rows are evaluated together."""
    profile = load_profile(accelerator)
    figure = getattr(profile, name)
    changed: Profile = replace(profile, **{name: replace(figure, value=figure.value * factor)})
    return changed
