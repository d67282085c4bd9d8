"""The catalogue: accelerators and clusters by name, and users' own files, read from YAML.

A cluster file is of one of three kinds: ``tiers`` that nest, ``nodes`` and ``links`` one by one,
or ``parts`` that other files describe. Human units become SI here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topologies.accelerator import Accelerator
from topologies.errors import Collected, Problem, SpecError, raise_if_any, unknown_name
from topologies.mix import MixSchema, PartSchema
from topologies.schema import FigureSchema, Strict, checked, optional
from topologies.stated import StatedSize
from topologies.tier_file import ClusterSchema
from topologies.units import GB, GIB, TERA
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from topologies.cluster import Cluster

__all__ = [
    "DATA",
    "FigureSchema",
    "accelerator_names",
    "accelerator_of_device",
    "cluster_names",
    "load_accelerator",
    "load_cluster",
]

DATA = Path(__file__).parent / "data"
#: Files of parts within files of parts.
DEEPEST_MIX = 3


class AcceleratorSchema(Strict):
    """One file of ``data/accelerators``."""

    name: str
    title: str
    vendor: str
    device_name: str = ""
    compute_units: FigureSchema
    bf16_TFLOPs: FigureSchema
    hbm_GiB: FigureSchema
    hbm_GBps: FigureSchema
    fp8_TFLOPs: FigureSchema | None = None
    fp4_TFLOPs: FigureSchema | None = None
    matmul_TFLOPs: FigureSchema | None = None
    fp8_matmul_TFLOPs: FigureSchema | None = None
    power_W: FigureSchema | None = None
    price_usd_per_hour: FigureSchema | None = None

    def build(self) -> Accelerator:
        """Return the accelerator in SI units."""
        return Accelerator(
            name=self.name,
            title=self.title,
            vendor=self.vendor,
            device_name=self.device_name,
            compute_units=self.compute_units.si(),
            bf16_flops=self.bf16_TFLOPs.si(TERA),
            hbm_bytes=self.hbm_GiB.si(GIB),
            hbm_Bps=self.hbm_GBps.si(GB),
            fp8_flops=optional(self.fp8_TFLOPs, TERA),
            fp4_flops=optional(self.fp4_TFLOPs, TERA),
            matmul_flops=optional(self.matmul_TFLOPs, TERA),
            fp8_matmul_flops=optional(self.fp8_matmul_TFLOPs, TERA),
            power_W=optional(self.power_W),
            price_usd_per_hour=optional(self.price_usd_per_hour),
        )


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
    return checked(AcceleratorSchema, read_yaml(path), path.name).build()


def accelerator_of_device(device_name: str) -> str | None:
    """Return the accelerator that a driver calls so; None if the catalogue has none.

    Examples
    --------
    >>> accelerator_of_device("NVIDIA H100 80GB HBM3"), accelerator_of_device("NVIDIA H200")
    ('h100-sxm', 'h200-sxm')
    """
    known = (load_accelerator(name) for name in accelerator_names())
    called = [
        each for each in known if each.device_name and device_name.startswith(each.device_name)
    ]
    return max(called, key=lambda each: len(each.device_name)).name if called else None


def load_cluster(spec: str, gpus: int | None = None) -> Cluster:
    """Return the cluster that ``NAME``, ``NAME:NODES`` or ``FILE.yaml[:NODES]`` stands for.

    Parameters
    ----------
    spec
        ``h100-dgx:32`` is 32 nodes of that kind; without a number of nodes, what the file says,
        or one node.
    gpus
        Take this many accelerators: instead of one node, or of those that the name or the file
        states.

    Raises
    ------
    SpecError
        With every problem of the name, the file and the numbers.

    Examples
    --------
    >>> load_cluster("h100-dgx:32").accelerators
    256
    """
    cluster = _load(spec, "--cluster", ())
    return cluster if gpus is None else _bounded(cluster, spec).take(gpus)


def _bounded(cluster: Cluster, spec: str) -> Cluster:
    """Return a cluster with no more nodes to take from than stand after its name, if any do."""
    name, nodes = _split_nodes(spec, "--cluster")
    if nodes is None:
        return cluster
    mend = f"leave :{nodes} out after {name}"
    return replace(cluster, stated=StatedSize(nodes, f"--cluster {spec}", mend))


def _load(spec: str, field: str, within: tuple[Path, ...]) -> Cluster:
    """Return a cluster that a user names, or a file that lies `within` others does."""
    name, nodes = _split_nodes(spec, field)
    is_file = name.endswith((".yaml", ".yml"))
    if not is_file and name not in cluster_names():
        raise SpecError([unknown_name(field, name, cluster_names())])
    path = Path(name) if is_file else DATA / "clusters" / f"{name}.yaml"
    path = within[-1].parent / path if within else path
    content = read_yaml(path)
    if "parts" in content:
        cluster = _mixed(content, path, within)
    elif "links" in content or isinstance(content.get("nodes"), dict):
        cluster = _wired(content, path)
    else:
        return _tiered(content, path.name, nodes, f"{field} {spec}")
    if nodes is not None and nodes != cluster.nodes:
        raise SpecError([Problem(f"{field} {spec}", nodes, cluster.all_or_nothing())])
    return cluster


def _tiered(content: Mapping[str, Any], where: str, nodes: int | None, field: str) -> Cluster:
    schema = checked(ClusterSchema, content, where)
    found = Collected()
    found.attempt(lambda: _raise_in(where, schema.problems()))
    accelerator = found.attempt(lambda: _accelerator_of(schema.accelerator, where))
    found.raise_if_any()
    cluster = schema.build(accelerator)
    if schema.nodes is not None:
        stated = StatedSize(schema.nodes, where, f"raise nodes in {where}")
        cluster = replace(cluster, stated=stated)
    nodes = nodes if nodes is not None else schema.nodes or 1
    return cluster.take(nodes * cluster.accelerators_per_node, field)


def _wired(content: Mapping[str, Any], path: Path) -> Cluster:
    from topologies.graph_file import GraphSchema  # loads networkx and scipy

    found = Collected()
    found.attempt(lambda: _raise_in(path.name, _strangers(content, "nodes and links")))
    wanted = {key: value for key, value in content.items() if key not in ("tiers", "parts")}
    schema = found.attempt(lambda: checked(GraphSchema, wanted, path.name))
    found.raise_if_any()
    accelerator = found.attempt(lambda: _accelerator_of(schema.accelerator, path.name))
    cluster = found.attempt(lambda: schema.build(accelerator, path.name))
    found.raise_if_any()
    return cluster


def _mixed(content: Mapping[str, Any], path: Path, within: tuple[Path, ...]) -> Cluster:
    """Return the mix of the clusters that a file names; their paths start at its own folder."""
    here = path.resolve()
    if here in within:
        chain = " -> ".join(step.name for step in (*within[within.index(here) :], here))
        mend = f"this file is a part of itself ({chain})"
        raise SpecError([Problem(f"{within[-1].name}: parts", path.name, mend)])
    if len(within) == DEEPEST_MIX:
        mend = f"parts within parts go {DEEPEST_MIX} files deep at most"
        raise SpecError([Problem(f"{within[-1].name}: parts", path.name, mend)])
    found = Collected()
    found.attempt(lambda: _raise_in(path.name, _strangers(content, "parts and tiers")))
    wanted = {key: value for key, value in content.items() if key not in ("nodes", "links")}
    schema = found.attempt(lambda: checked(MixSchema, wanted, path.name))
    found.raise_if_any()
    parts = [
        found.attempt(partial(_part, part, f"{path.name}: parts.{at}", (*within, here)))
        for at, part in enumerate(schema.parts)
    ]
    found.attempt(lambda: _raise_in(path.name, schema.problems()))
    found.raise_if_any()
    return schema.build(parts, path.name)


def _part(part: PartSchema, field: str, within: tuple[Path, ...]) -> Cluster:
    spec = part.cluster if part.nodes is None else f"{part.cluster}:{part.nodes}"
    return _load(spec, f"{field}.cluster", within)


def _strangers(content: Mapping[str, Any], kind: str) -> list[Problem]:
    """Return the keys of a file that belong to another kind of file."""
    mend = f"a file of {kind} has none: a cluster is tiers, or nodes and links, or parts"
    own = kind.split(" and ")
    strange = [key for key in ("tiers", "nodes", "links", "parts") if key not in own]
    return [Problem(key, "given", mend) for key in strange if key in content]


def _raise_in(where: str, problems: list[Problem]) -> None:
    raise_if_any([Problem(f"{where}: {p.field}", p.value, p.mend) for p in problems])


def _accelerator_of(name: str, where: str) -> Accelerator:
    return load_accelerator(name, f"{where}: accelerator")


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (DATA / folder).glob("*.yaml")))


def _split_nodes(spec: str, field: str) -> tuple[str, int | None]:
    name, colon, nodes = spec.rpartition(":")
    if not colon:
        return spec, None
    if not re.fullmatch(r"[0-9]{1,9}", nodes) or int(nodes) < 1:
        mend = "after the colon comes a whole number of nodes, as in h100-dgx:32"
        raise SpecError([Problem(field, spec, mend)])
    return name, int(nodes)
