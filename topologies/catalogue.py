"""Reading accelerators and clusters from YAML: the only place where human units become SI."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topologies.accelerator import Accelerator
from topologies.cluster import Cluster, Tier, TierFabric
from topologies.errors import Problem, SpecError, raise_if_any, unknown_name
from topologies.figure import Figure, Provenance
from topologies.units import GB, GIB, MICRO, TERA
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

DATA = Path(__file__).parent / "data"

#: Fabrics above a block that share its uplink, and those that join accelerators in a switch.
_ABOVE, _SWITCHED = ("spine", "dragonfly"), ("pcie", "nvswitch")

_Schema = TypeVar("_Schema", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class FigureSchema(_Strict):
    """``{value, kind, source}``: a number and where it comes from."""

    #: Beyond these no quantity of a cluster lies in any unit of these files.
    value: float = Field(ge=1e-6, le=1e9)
    kind: Literal["spec", "measured", "fitted", "assumed"]
    source: str = Field(min_length=1)
    note: str = ""

    def si(self, unit: float = 1.0) -> Figure:
        """Return the figure in SI units, `unit` being the size of the human unit."""
        return Figure(value=self.value * unit, kind=Provenance(self.kind), source=self.source)


def _optional(figure: FigureSchema | None, unit: float = 1.0) -> Figure | None:
    return None if figure is None else figure.si(unit)


class AcceleratorSchema(_Strict):
    """One file of ``data/accelerators``."""

    name: str
    title: str
    vendor: str
    compute_units: FigureSchema
    bf16_TFLOPs: FigureSchema
    hbm_GiB: FigureSchema
    hbm_GBps: FigureSchema
    fp8_TFLOPs: FigureSchema | None = None
    matmul_TFLOPs: FigureSchema | None = None
    power_W: FigureSchema | None = None
    price_usd_per_hour: FigureSchema | None = None

    def build(self) -> Accelerator:
        """Return the accelerator in SI units."""
        return Accelerator(
            name=self.name,
            title=self.title,
            vendor=self.vendor,
            compute_units=self.compute_units.si(),
            bf16_flops=self.bf16_TFLOPs.si(TERA),
            hbm_bytes=self.hbm_GiB.si(GIB),
            hbm_Bps=self.hbm_GBps.si(GB),
            fp8_flops=_optional(self.fp8_TFLOPs, TERA),
            matmul_flops=_optional(self.matmul_TFLOPs, TERA),
            power_W=_optional(self.power_W),
            price_usd_per_hour=_optional(self.price_usd_per_hour),
        )


class TierSchema(_Strict):
    """One tier of a cluster file."""

    name: str
    fabric: TierFabric
    spans: int | Literal["all"]
    GBps: FigureSchema
    peer_GBps: FigureSchema | None = None
    usable_fraction: FigureSchema
    latency_us: FigureSchema
    start_us: FigureSchema | None = None
    chunk_us: FigureSchema | None = None
    nvls_fraction: FigureSchema | None = None
    nvls_start_us: FigureSchema | None = None
    peer_issue_us: FigureSchema | None = None
    staged: bool = False
    rails: bool = False
    dims: list[int] = Field(default_factory=list, max_length=6)
    wrap_multiple: int = Field(default=0, ge=0)

    def build(self, inner: Tier | None = None) -> Tier:
        """Return the tier in SI units; a flow over a shared uplink is as fast as inside."""
        pooled = self.fabric in _ABOVE or (
            self.fabric == "pcie" and inner is not None and inner.fabric in _SWITCHED
        )
        through = inner.peer_Bps if inner and pooled else self.GBps.si(GB)
        return Tier(
            name=self.name,
            fabric=self.fabric,
            spans=None if self.spans == "all" else self.spans,
            Bps=self.GBps.si(GB),
            peer_Bps=self.peer_GBps.si(GB) if self.peer_GBps else through,
            usable_fraction=self.usable_fraction.si(),
            latency_s=self.latency_us.si(MICRO),
            start_s=(self.start_us or _unstated().start_us).si(MICRO),
            chunk_s=(self.chunk_us or _unstated().chunk_us).si(MICRO),
            nvls_fraction=_optional(self.nvls_fraction),
            nvls_start_s=_optional(self.nvls_start_us, MICRO),
            peer_issue_s=_optional(self.peer_issue_us, MICRO),
            staged=self.staged,
            rails=self.rails,
            dims=tuple(self.dims),
            wrap_multiple=self.wrap_multiple,
            pooled=pooled,
        )


class UnstatedSchema(_Strict):
    """``data/unstated_tier.yaml``: figures of tiers whose file does not give them."""

    start_us: FigureSchema
    chunk_us: FigureSchema


@cache
def _unstated() -> UnstatedSchema:
    path = DATA / "unstated_tier.yaml"
    return _checked(UnstatedSchema, read_yaml(path), path.name)


class ClusterSchema(_Strict):
    """One file of ``data/clusters``, or a user's own."""

    name: str
    title: str
    accelerator: str
    accelerators_per_node: int = Field(ge=1, le=1024)
    nodes: int | None = Field(default=None, ge=1, le=1_000_000)
    max_nodes: FigureSchema | None = None
    tiers: list[TierSchema] = Field(min_length=1)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the tiers taken together."""
        found: list[Problem] = []
        if self.max_nodes is not None and self.max_nodes.value < 1:
            found.append(Problem("max_nodes", self.max_nodes.value, "at least 1"))
        inner = 0
        for position, tier in enumerate(self.tiers):
            where = f"tiers.{position}"
            last = position == len(self.tiers) - 1
            if (tier.spans == "all") != last:
                mend = "the last tier, and only the last, spans all"
                found.append(Problem(f"{where}.spans", tier.spans, mend))
            if isinstance(tier.spans, int):
                found += self._span_problems(f"{where}.spans", tier.spans, inner)
                inner = tier.spans
            if tier.usable_fraction.value > 1:
                mend = "a share of the wire rate, at most 1"
                found.append(Problem(f"{where}.usable_fraction", tier.usable_fraction.value, mend))
            if (tier.nvls_fraction is None) != (tier.nvls_start_us is None):
                mend = "give nvls_fraction and nvls_start_us, or neither"
                found.append(Problem(f"{where}.nvls_fraction", tier.nvls_fraction, mend))
        return found

    def _span_problems(self, where: str, spans: int, inner: int) -> list[Problem]:
        node = self.accelerators_per_node
        if spans < 1:
            return [Problem(where, spans, "at least 1 accelerator, or all")]
        if inner and (spans <= inner or spans % inner):
            return [Problem(where, spans, f"a whole multiple of the tier inside it ({inner})")]
        if spans % node and node % spans:
            return [Problem(where, spans, f"a divisor or a multiple of the {node} of a node")]
        return []


def accelerator_names() -> tuple[str, ...]:
    """Return the names in the accelerator catalogue, sorted."""
    return _names("accelerators")


def cluster_names() -> tuple[str, ...]:
    """Return the names in the cluster catalogue, sorted."""
    return _names("clusters")


@cache
def load_accelerator(name: str, field: str = "accelerator") -> Accelerator:
    """Return an accelerator of the catalogue.

    Raises
    ------
    SpecError
        If the catalogue has no such name, or its file is not what the schema says.
    """
    if name not in accelerator_names():
        raise SpecError([unknown_name(field, name, accelerator_names())])
    path = DATA / "accelerators" / f"{name}.yaml"
    return _checked(AcceleratorSchema, read_yaml(path), path.name).build()


def load_cluster(spec: str, gpus: int | None = None) -> Cluster:
    """Return the cluster that ``NAME``, ``NAME:NODES`` or ``FILE.yaml[:NODES]`` stands for.

    Parameters
    ----------
    spec
        ``h100-dgx:32`` is 32 nodes of that kind; without a number of nodes, what the file says,
        or one node.
    gpus
        Take this many accelerators instead.

    Raises
    ------
    SpecError
        With every problem of the name, the file and the numbers.

    Examples
    --------
    >>> load_cluster("h100-dgx:32").accelerators
    256
    """
    name, nodes = _split_nodes(spec)
    is_file = name.endswith((".yaml", ".yml"))
    if not is_file and name not in cluster_names():
        raise SpecError([unknown_name("--cluster", name, cluster_names())])
    path = Path(name) if is_file else DATA / "clusters" / f"{name}.yaml"
    schema = _checked(ClusterSchema, read_yaml(path), path.name)
    raise_if_any([Problem(f"{path.name}: {p.field}", p.value, p.mend) for p in schema.problems()])
    nodes = nodes if nodes is not None else schema.nodes or 1
    cluster = _build_cluster(schema, path.name)
    if gpus is not None:
        return cluster.take(gpus)
    return cluster.take(nodes * cluster.accelerators_per_node, f"--cluster {spec}")


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (DATA / folder).glob("*.yaml")))


def _split_nodes(spec: str) -> tuple[str, int | None]:
    name, colon, nodes = spec.rpartition(":")
    if not colon:
        return spec, None
    if not re.fullmatch(r"[0-9]{1,9}", nodes) or int(nodes) < 1:
        mend = "after the colon comes a whole number of nodes, as in h100-dgx:32"
        raise SpecError([Problem("--cluster", spec, mend)])
    return name, int(nodes)


def _tiers(schema: ClusterSchema) -> tuple[Tier, ...]:
    tiers: list[Tier] = []
    for tier in schema.tiers:
        tiers.append(tier.build(tiers[-1] if tiers else None))
    return tuple(tiers)


def _build_cluster(schema: ClusterSchema, where: str) -> Cluster:
    return Cluster(
        name=schema.name,
        title=schema.title,
        accelerator=load_accelerator(schema.accelerator, f"{where}: accelerator"),
        accelerators_per_node=schema.accelerators_per_node,
        accelerators=schema.accelerators_per_node,
        tiers=_tiers(schema),
        max_nodes=int(schema.max_nodes.value) if schema.max_nodes else None,
    )


def _checked(schema: type[_Schema], content: Mapping[str, Any], where: str) -> _Schema:
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise SpecError([_problem(schema, entry, where) for entry in error.errors()]) from error


def _problem(schema: type[BaseModel], entry: ErrorDetails, where: str) -> Problem:
    path = ".".join(str(part) for part in entry["loc"])
    field = f"{where}: {path}"
    if entry["type"] == "extra_forbidden":
        known = sorted(_schema_at(schema, entry["loc"][:-1]).model_fields)
        return unknown_name(field, str(entry["loc"][-1]), known, "no such key")
    if entry["type"] == "missing":
        return Problem(field, "missing", "this key is required")
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
