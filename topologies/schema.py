"""What files are checked with: strict schemas, figures with an origin, and slips named one by one.

Rates are bytes per second. Network cards are sold in bits, so a rate that was copied with its
number of bits is the slip to look for: in a key, in a figure's own source, or by its size. Waits
are microseconds, and programs measure seconds: a wait that is next to nothing is one of those.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from topologies.errors import Problem, SpecError, unknown_name
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

_Schema = TypeVar("_Schema", bound=BaseModel)

#: A key that speaks of bits: ``Gbps``, ``gbps``, ``GBit``, ``peer_Gb_s``; ``GBps`` is bytes.
_BIT_KEY = re.compile(r"(?:\w+_)?[GgTtMm](?:b|[Bb][Ii][Tt])(?:s|ps|/s|_s|_per_s|E)?")
#: A rate in words: number, size of the unit, and whether it is bits or bytes.
_RATE = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?) ?([GT])(b|B|[Bb]it)(?:/s|ps)")
#: No wait of a link is shorter; beyond the second it would be long even in seconds, so that a
#: number above it counts milliseconds.
SHORTEST_WAIT_US, LONGEST_WAIT_S = 0.01, 1e-3
#: No network card is faster, in GB/s: twice the 800 Gb/s of today's.
FASTEST_CARD_GBPS = 200.0


class Strict(BaseModel):
    """A mapping of a file, without keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class FigureSchema(Strict):
    """``{value, kind, source}``: a number and where it comes from."""

    #: Beyond these no quantity of a cluster lies in any unit of these files.
    value: float = Field(ge=1e-6, le=1e9)
    kind: Literal["spec", "measured", "fitted", "assumed"]
    source: str = Field(min_length=1)
    note: str = ""

    def si(self, unit: float = 1.0) -> Figure:
        """Return the figure in SI units, `unit` being the size of the human unit."""
        return Figure(value=self.value * unit, kind=Provenance(self.kind), source=self.source)


class AmountSchema(FigureSchema):
    """A figure that may be nothing at all: a wait, a memory, a share."""

    value: float = Field(ge=0.0, le=1e9)


class WaitSchema(AmountSchema):
    """A wait in microseconds, nothing at all or long enough that it was not meant in seconds."""

    @model_validator(mode="after")
    def _counts_microseconds(self) -> Self:
        if 0.0 < self.value < SHORTEST_WAIT_US:
            meant = self.value * (1e3 if self.value >= LONGEST_WAIT_S else 1e6)
            given = format(Decimal(repr(self.value)), "f")
            raise PydanticCustomError(
                "seconds",
                "in microseconds: {meant}, not {number}",
                {"meant": f"{meant:g}", "number": given},
            )
        return self


class LatencySchema(WaitSchema):
    """What a hop takes in microseconds, which is never nothing."""

    value: float = Field(gt=0.0, le=1e9)


class RateSchema(FigureSchema):
    """A link's rate in GB/s, whose own words must not say that its number counts bits."""

    @model_validator(mode="after")
    def _counts_bytes(self) -> Self:
        said = {
            (float(number.replace(",", "")) * (1000 if size == "T" else 1), unit == "B")
            for number, size, unit in _RATE.findall(f"{self.source}; {self.note}")
        }
        if (self.value, False) in said and (self.value, True) not in said:
            text = "{number} GB/s, but its own source or note says {number} Gb/s: divide Gb/s by 8"
            raise PydanticCustomError("bits", text, {"number": f"{self.value:g}"})
        return self


def optional(figure: FigureSchema | None, unit: float = 1.0) -> Figure | None:
    """Return a figure in SI units where there is one."""
    return None if figure is None else figure.si(unit)


def card_problems(where: str, *rates: FigureSchema | None) -> list[Problem]:
    """Return the problem of a network card that is faster than any."""
    return [
        Problem(
            where,
            f"{rate.value:g}",
            f"faster than any network card ({FASTEST_CARD_GBPS:g} GB/s); "
            "network cards are sold in Gb/s: 400 Gb/s is 50 GB/s",
        )
        for rate in rates
        if rate is not None and rate.value > FASTEST_CARD_GBPS
    ]


def share_problems(where: str, fraction: FigureSchema) -> list[Problem]:
    """Return the problem of a share above 1."""
    if fraction.value <= 1:
        return []
    return [Problem(where, fraction.value, "a share of the wire rate, at most 1")]


def checked(schema: type[_Schema], content: Mapping[str, Any], where: str) -> _Schema:
    """Return what a schema reads from a mapping.

    Raises
    ------
    SpecError
        With every key and value that is not what the schema says.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise SpecError([_problem(schema, entry, where) for entry in error.errors()]) from error


def _problem(schema: type[BaseModel], entry: ErrorDetails, where: str) -> Problem:
    path = ".".join(str(part) for part in entry["loc"])
    field = f"{where}: {path}"
    if entry["type"] == "extra_forbidden":
        key = str(entry["loc"][-1])
        if _BIT_KEY.fullmatch(key):
            return Problem(field, entry["input"], "rates are in GB/s: divide Gb/s by 8")
        known = sorted(_schema_at(schema, entry["loc"][:-1]).model_fields)
        return unknown_name(field, key, known, "no such key")
    if entry["type"] == "missing":
        return Problem(field, "missing", "this key is required")
    if entry["type"] == "model_type":
        mend = "a mapping, of a figure {value: 50, kind: assumed, source: where it is from}"
        return Problem(field, entry["input"], mend)
    if entry["type"] in ("bits", "seconds"):
        return Problem(f"{field}.value", entry["ctx"]["number"], entry["msg"])
    return Problem(field, entry["input"], str(entry["msg"]).lower())


def _schema_at(schema: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """Return the schema of the mapping at a path of keys and positions."""
    for key in path:
        entry = schema.model_fields.get(str(key))
        inner = [] if entry is None else _schemas_in(entry.annotation)
        schema = inner[0] if inner else schema
    return schema


def _schemas_in(annotation: object) -> list[type[BaseModel]]:
    """Return the schemas an annotation such as ``list[TierSchema]`` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [schema for part in get_args(annotation) for schema in _schemas_in(part)]
