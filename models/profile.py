"""A profile: how much of a device's data sheet real kernels and collectives reach.

Few parameters with physical names, each with its origin. The forms they enter are those of
:mod:`models.compute` and :mod:`models.collectives`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from topologies.catalogue import FigureSchema
from topologies.errors import Problem, SpecError
from topologies.figure import Figure, Provenance
from topologies.units import GIB, MICRO, MILLI
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILES = Path(__file__).parent / "data" / "profiles"
#: The profile of accelerators that no other profile names.
FALLBACK = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Parameters of one kind of accelerator, in SI units.

    Parameters
    ----------
    name, title
        File name, and what people read.
    gemm_fraction, gemm_half_waves, gemm_half_depth
        Share of the dense peak that large products reach in a short burst; waves of tiles over the
        compute units, and inner dimension, at which half of that is left.
    gemm_sustained
        Share of the burst rate that lasts through a step: power limits, clocks, cold caches.
    attention_fraction, attention_half_waves, attention_half_tokens, attention_half_width
        The same for flash attention forward, over waves, key tokens and head width.
    attention_backward_ratio, attention_backward_half_tokens
        Rate of attention backward over forward, both over many keys; key tokens at which half of it
        is left.
    attention_mask_keys
        Keys of one tile of flash attention, which is computed whole where the mask cuts it.
    hbm_fraction
        Share of the memory bandwidth that streaming kernels reach.
    kernel_s, host_launch_s
        Shortest time between two kernels on the device, and on the host that starts them.
    collective_s
        What the framework adds to the start of one collective.
    collective_copy
        Bytes sent that take as long as one byte of a rank's own shard, which is copied.
    steal_scale_up, steal_scale_out
        Share of the compute rate that a collective takes while it hides behind compute.
    step_s
        Host work per step that nothing hides: data, logging, gradient norm.
    context_bytes, group_bytes, workspace_bytes, driver_bytes
        Device memory of the context, of one communicator, of library workspaces, of the driver.
    fragmentation
        Share of activations and buffers that the allocator holds beyond what is asked for.
    compute_spread, communication_spread, memory_spread
        Relative standard deviation of predictions.
    """

    name: str
    title: str
    gemm_fraction: Figure
    gemm_sustained: Figure
    gemm_half_waves: Figure
    gemm_half_depth: Figure
    attention_fraction: Figure
    attention_half_waves: Figure
    attention_half_tokens: Figure
    attention_half_width: Figure
    attention_backward_ratio: Figure
    attention_backward_half_tokens: Figure
    attention_mask_keys: Figure
    hbm_fraction: Figure
    kernel_s: Figure
    host_launch_s: Figure
    collective_s: Figure
    collective_copy: Figure
    steal_scale_up: Figure
    steal_scale_out: Figure
    step_s: Figure
    context_bytes: Figure
    group_bytes: Figure
    workspace_bytes: Figure
    driver_bytes: Figure
    fragmentation: Figure
    compute_spread: Figure
    communication_spread: Figure
    memory_spread: Figure

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every parameter with its name."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Figure):
                yield entry.name, value

    def assumed(self) -> list[str]:
        """Return the names of parameters that nothing measured backs."""
        return [name for name, figure in self.figures() if figure.kind is Provenance.ASSUMED]


#: Size of the human unit a parameter's file name ends in.
_UNITS = {"_us": ("_s", MICRO), "_ms": ("_s", MILLI), "_GiB": ("_bytes", GIB)}


class ProfileSchema(BaseModel):
    """A profile file: its parameters carry human units in their names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["meshwright-profile/1"]
    name: str
    title: str
    accelerators: list[str]
    parameters: dict[str, FigureSchema]

    def build(self) -> Profile:
        """Return the profile in SI units.

        Raises
        ------
        SpecError
            If a parameter is missing or unknown.
        """
        values = dict(_si(name, figure) for name, figure in self.parameters.items())
        needed = {entry.name for entry in fields(Profile)} - {"name", "title"}
        problems = [
            Problem(f"profile {self.name}", name, "this parameter is missing")
            for name in sorted(needed - set(values))
        ]
        problems += [
            Problem(f"profile {self.name}", name, "no such parameter")
            for name in sorted(set(values) - needed)
        ]
        if problems:
            raise SpecError(problems)
        return Profile(name=self.name, title=self.title, **values)


def _si(name: str, figure: FigureSchema) -> tuple[str, Figure]:
    for ending, (si_ending, size) in _UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + si_ending, figure.si(size)
    return name, figure.si()


@cache
def load_profile(accelerator: str) -> Profile:
    """Return the profile of a catalogue accelerator: its own, or the assumed one.

    Raises
    ------
    SpecError
        If a profile file is not what the schema says.
    """
    schemas = {path.stem: _read(path) for path in sorted(PROFILES.glob("*.yaml"))}
    own = next((s for s in schemas.values() if accelerator in s.accelerators), schemas[FALLBACK])
    return own.build()


def _read(path: Path) -> ProfileSchema:
    try:
        return ProfileSchema.model_validate(read_yaml(path))
    except ValidationError as error:
        problems = [
            Problem(f"{path.name}: {'.'.join(map(str, e['loc']))}", e["input"], str(e["msg"]))
            for e in error.errors()
        ]
        raise SpecError(problems) from error
