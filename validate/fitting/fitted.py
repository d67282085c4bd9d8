"""A fit from its tables to the profile it makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.compute import Device
from models.profile import file_parameter, load_profile, own_schema, profile_names
from topologies.catalogue import load_accelerator
from topologies.errors import Collected, Problem, SpecError, unknown_name
from validate.fitting import rules
from validate.fitting.device_fit import DeviceFit
from validate.fitting.formats import samples
from validate.fitting.profile_text import profile_text
from validate.fitting.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.fitting.rules import LeftOut
    from validate.fitting.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """What was asked, and what came of it.

    Parameters
    ----------
    device, kin
        Catalogue name of the accelerator, and the profile for what is not measured.
    fit
        The figures.
    left_out
        Rows that rules leave out.
    """

    device: str
    kin: str
    fit: DeviceFit
    left_out: list[LeftOut]

    @classmethod
    def run(cls, tables: Sequence[str], device: str, *, kin: str, seed: int) -> Fitting:
        """Read tables and fit the device's figures to what they say of it.

        Raises
        ------
        SpecError
            If a table cannot be read or is of no known source, the device or kin is unknown, or
            no row is of the device.
        """
        collected = Collected()
        accelerator = collected.attempt(lambda: load_accelerator(device))
        collected.attempt(lambda: _check_kin(kin))
        read = [collected.attempt(partial(_read, path, device)) for path in tables]
        collected.raise_if_any()
        good, out = rules.kept([each for found in read for each in found], accelerator)
        if not good:
            mend = "no row of the tables is usable and of this device"
            raise SpecError([Problem("--device", device, mend)])
        base = Device(accelerator, load_profile(device))
        return cls(device=device, kin=kin, fit=DeviceFit(good, base, seed), left_out=out)

    def text(self) -> str:
        """Return the profile as YAML."""
        title = self.fit.device.accelerator.title
        own = own_schema(self.device)
        return profile_text(self.device, title, own, self.kin, self.fit.figures)

    def record(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "device": self.device,
            "parameters": {
                file_parameter(name)[0]: {
                    "value": figure.value / file_parameter(name)[1],
                    "kind": figure.kind,
                    "source": figure.source,
                }
                for name, figure in self.fit.figures.items()
            },
            "fits": {kind: each.summary() for kind, each in self.fit.fits.items()},
            "left_out": [
                {
                    "source": each.source,
                    "library": each.library,
                    "kind": each.kind,
                    "rows": each.rows,
                    "rule": each.rule.name,
                    "reason": each.rule.reason,
                }
                for each in self.left_out
            ],
        }


def _read(path: str, device: str) -> list[Sample]:
    return samples(Table.read(path), device)


def _check_kin(kin: str) -> None:
    if kin not in profile_names():
        raise SpecError([unknown_name("--kin", kin, profile_names(), "no such profile")])
