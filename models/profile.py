"""A profile: how much of a device's data sheet real kernels and collectives reach.

Few parameters with physical names, each with its origin. The forms they enter are those of
:mod:`models.compute` and :mod:`models.collectives`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from topologies.errors import Problem, SpecError, raise_if_any, unknown_name
from topologies.figure import Figure, Provenance
from topologies.schema import AmountSchema, Strict, checked
from topologies.units import GIB, MICRO, MILLI
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from topologies.collective import Collective

PROFILES = Path(__file__).parent / "data" / "profiles"
#: The profile of accelerators that no other profile names.
FALLBACK = "assumed"
#: Parameters that rates are multiplied by, and shares of a rate.
_FACTORS = (
    "gemm_fraction",
    "gemm_fp8_fraction",
    "gemm_sustained",
    "unaligned_fraction",
    "weight_gradient_ratio",
    "attention_fraction",
    "attention_wide_ratio",
    "attention_backward_ratio",
    "attention_backward_wide_ratio",
    "hbm_fraction",
    "decode_fraction",
)
#: Parameters that only serving reads.
DECODE = ("decode_fraction", "decode_s", "decode_pair_s")
_SHARES = ("steal_scale_up", "steal_scale_out", "steal_data_parallel")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRatio:
    """How many times as long as the fabric says a collective takes.

    Parameters
    ----------
    collective, scale_out
        Which one, and whether of groups that leave the fast domain.
    start, per_byte, per_root_byte
        Factors on what it takes whatever the size, for each byte, and for the root of the bytes.
    """

    collective: Collective
    scale_out: bool
    start: Figure
    per_byte: Figure
    per_root_byte: Figure


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
    gemm_fp8_fraction
        The same share for products in fp8 and fp4, of their own peaks.
    gemm_sustained
        Share of the burst rate that lasts through a step: power limits, clocks, cold caches.
    unaligned_fraction
        Share of its rate that a batched product keeps whose rows do not start on boundaries of 16
        bytes, as those of heads of 108 or 225 columns.
    weight_gradient_ratio
        Rate of the products that give gradients of weights over that of all others, which read no
        operand along its columns.
    attention_fraction, attention_half_waves, attention_half_tokens, attention_half_width
        The same for flash attention forward, over waves, keys that a query row meets in whole
        tiles, and head width.
    attention_backward_ratio, attention_backward_half_tokens, attention_backward_half_width
        Rate of attention backward over forward, both at their best; query tokens and head width at
        which half of it is left.
    attention_wide_ratio, attention_backward_wide_ratio
        Rate of either with heads of more than 128 columns over that of narrower ones beyond what
        saturates: their tiles are smaller, for want of shared memory and registers (flash-attention
        2 ``flash_fwd_launch_template.h``, ``flash_bwd_launch_template.h``).
    attention_mask_keys
        Keys of one tile of flash attention, which is computed whole where the mask cuts it.
    hbm_fraction
        Share of the memory bandwidth that streaming kernels reach.
    decode_fraction, decode_s, decode_pair_s
        Of attention of one new token over a cache: share of the memory bandwidth, shortest time,
        and time of each sequence and key/value head beyond what it reads.
    kernel_s, host_launch_s
        Shortest time between two kernels on the device, and on the host that starts them.
    collective_s
        What the framework adds to the start of one collective.
    collective_copy
        Bytes sent that take as long as one byte of a rank's own shard, which is copied.
    steal_scale_up, steal_scale_out
        Share of the compute rate that a collective takes while it hides behind compute.
    steal_data_parallel
        The same of collectives that gather parameters and reduce gradients across nodes: they open
        as many channels as links take, where sends between two ranks open few.
    micro_batch_s
        Host work of each micro-batch that nothing runs beside: its data, positions and masks, which
        the device is waited for to hand on (Megatron-Core ``tensor_parallel/data.py``: sizes are
        read back), and its loss.
    context_bytes, group_bytes, workspace_bytes, driver_bytes
        Device memory of the context, of one communicator, of library workspaces, of the driver.
    fragmentation, fragmentation_least
        Share of activations and buffers that the allocator holds beyond what is asked for; what of
        it is left when memory is short and the allocator gives back what it caches.
    compute_spread, communication_spread, memory_spread
        Relative standard deviation of predictions.
    collectives
        Collectives that were measured against what the fabric says.
    """

    name: str
    title: str
    gemm_fraction: Figure
    gemm_sustained: Figure
    gemm_half_waves: Figure
    gemm_half_depth: Figure
    gemm_fp8_fraction: Figure
    unaligned_fraction: Figure
    weight_gradient_ratio: Figure
    attention_fraction: Figure
    attention_half_waves: Figure
    attention_half_tokens: Figure
    attention_half_width: Figure
    attention_wide_ratio: Figure
    attention_backward_ratio: Figure
    attention_backward_half_tokens: Figure
    attention_backward_half_width: Figure
    attention_backward_wide_ratio: Figure
    attention_mask_keys: Figure
    hbm_fraction: Figure
    decode_fraction: Figure
    decode_s: Figure
    decode_pair_s: Figure
    kernel_s: Figure
    host_launch_s: Figure
    collective_s: Figure
    collective_copy: Figure
    steal_scale_up: Figure
    steal_scale_out: Figure
    steal_data_parallel: Figure
    micro_batch_s: Figure
    context_bytes: Figure
    group_bytes: Figure
    workspace_bytes: Figure
    driver_bytes: Figure
    fragmentation: Figure
    fragmentation_least: Figure
    compute_spread: Figure
    communication_spread: Figure
    memory_spread: Figure
    collectives: tuple[CollectiveRatio, ...] = ()

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every parameter with its name."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Figure):
                yield entry.name, value


#: Size of the human unit a parameter's file name ends in.
_UNITS = {"_us": ("_s", MICRO), "_ms": ("_s", MILLI), "_GiB": ("_bytes", GIB)}


class ProfileSchema(Strict):
    """A profile file: its parameters carry human units in their names.

    What it does not give it takes from `kin`, the profile of a device like it, as assumed.
    """

    schema_version: Literal["meshwright-profile/1"]
    name: str
    title: str
    accelerators: list[str]
    kin: str | None = None
    parameters: dict[str, AmountSchema]

    def build(self, where: str) -> Profile:
        """Return the profile in SI units; `where` is its file.

        Raises
        ------
        SpecError
            If a parameter is missing, unknown or impossible, or its kin is.
        """
        values: dict[str, Any] = {**self._of_kin(where), **parameters(self.parameters, where)}
        missing = sorted(set(_parameter_names()) - set(values))
        raise_if_any(
            [Problem(f"{where}: parameters", name, "this parameter is missing") for name in missing]
        )
        return Profile(name=self.name, title=self.title, **values)

    def _of_kin(self, where: str) -> dict[str, Figure]:
        if self.kin is None:
            return {}
        if self.kin not in _schemas():
            slip = unknown_name(f"{where}: kin", self.kin, profile_names(), "no such profile")
            raise SpecError([slip])
        return {
            name: replace(figure, kind=Provenance.ASSUMED, source=f"as {self.kin}: {figure.source}")
            for name, figure in _schemas()[self.kin].build(f"{self.kin}.yaml").figures()
        }


def parameters(named: Mapping[str, AmountSchema], where: str) -> dict[str, Figure]:
    """Return parameters of a profile file in SI units.

    Parameters
    ----------
    named
        Figures with human units in their names, such as ``kernel_us``.
    where
        The file, for problems.

    Raises
    ------
    SpecError
        If one is unknown, there twice in different units, or impossible.
    """
    values: dict[str, Figure] = {}
    found: list[Problem] = []
    for name, figure in named.items():
        field = f"{where}: parameters.{name}"
        si_name, value = _si(name, figure)
        if si_name not in _parameter_names():
            found.append(unknown_name(field, name, _file_names(), "no such parameter"))
        elif si_name in values:
            found.append(Problem(field, figure.value, "there twice, in different units"))
        elif si_name in _FACTORS and figure.value == 0:
            found.append(Problem(field, figure.value, "above 0: a rate is multiplied by it"))
        elif si_name == "memory_spread" and figure.value == 0:
            found.append(Problem(field, figure.value, "above 0: no prediction is certain"))
        elif si_name in _SHARES and figure.value > 1:
            found.append(Problem(field, figure.value, "a share of the compute rate, at most 1"))
        values[si_name] = value
    raise_if_any(found)
    return values


def file_parameter(name: str) -> tuple[str, float]:
    """Return a parameter's name in files, and the size of its unit there.

    >>> file_parameter("kernel_s"), file_parameter("gemm_fraction")
    (('kernel_us', 1e-06), ('gemm_fraction', 1.0))
    """
    for ending, (si_ending, size) in _UNITS.items():
        if name.removesuffix(si_ending) + ending in _file_names():
            return name.removesuffix(si_ending) + ending, size
    return name, 1.0


def _si(name: str, figure: AmountSchema) -> tuple[str, Figure]:
    for ending, (si_ending, size) in _UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + si_ending, figure.si(size)
    return name, figure.si()


def _parameter_names() -> list[str]:
    apart = ("name", "title", "collectives")
    return [entry.name for entry in fields(Profile) if entry.name not in apart]


def _file_names() -> list[str]:
    return sorted(_schemas()[FALLBACK].parameters)


@cache
def load_profile(accelerator: str) -> Profile:
    """Return the profile of a catalogue accelerator: its own, or the assumed one.

    Raises
    ------
    SpecError
        If a profile file is not what the schema says.
    """
    schema = own_schema(accelerator) or _schemas()[FALLBACK]
    return schema.build(f"{schema.name}.yaml")


def own_schema(accelerator: str) -> ProfileSchema | None:
    """Return the profile file of a catalogue accelerator; None if it has none."""
    own = (schema for schema in _schemas().values() if accelerator in schema.accelerators)
    return next(own, None)


def profile_names() -> list[str]:
    """Return the names of the profiles there are."""
    return sorted(_schemas())


@cache
def _schemas() -> dict[str, ProfileSchema]:
    return {
        path.stem: checked(ProfileSchema, read_yaml(path), path.name)
        for path in sorted(PROFILES.glob("*.yaml"))
    }
