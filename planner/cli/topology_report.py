"""Clusters as tables and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from planner.cli import output
from planner.cli.columns import Columns
from topologies.units import GB, GIB, MICRO, TERA

if TYPE_CHECKING:
    from topologies.accelerator import Accelerator
    from topologies.cluster import Cluster, Tier
    from topologies.figure import Figure

#: Units that figures of accelerators, and of tiers by the end of their names, are quoted in.
DEVICE_UNITS = {
    "compute_units": ("", 1.0),
    "bf16_flops": ("TFLOP/s", TERA),
    "fp8_flops": ("TFLOP/s", TERA),
    "fp4_flops": ("TFLOP/s", TERA),
    "matmul_flops": ("TFLOP/s", TERA),
    "fp8_matmul_flops": ("TFLOP/s", TERA),
    "hbm_bytes": ("GiB", GIB),
    "hbm_Bps": ("GB/s", GB),
    "power_W": ("W", 1.0),
    "price_usd_per_hour": ("USD/h", 1.0),
}
COLUMNS = Columns(
    names=(
        *("name", "accelerator", "part", "link", "joins", "tier", "fabric", "spans", "rails"),
        *("figure", "value", "kind"),
    ),
    words=("inner", "outer", "title", "accelerators", "and"),
    text=("source",),
    dispensable=("a node", "accelerator", "one way"),
)
TIER_UNITS = {"Bps": ("GB/s", GB), "_s": ("us", MICRO), "fraction": ("", 1.0)}


def content(cluster: Cluster) -> dict[str, Any]:
    """Return one cluster as JSON values, in SI units."""
    more = {"parts": _parts(cluster), "links": _links(cluster)}
    return {
        **summary(cluster),
        "tiers": [_tier(tier) for tier in cluster.tiers],
        "figures": _figures(cluster),
        **{key: rows for key, rows in more.items() if rows},
    }


def show(cluster: Cluster) -> None:
    """Print one cluster: what it is made of, how its tiers are built, and every figure."""
    screen = output.console()
    screen.print(
        f"[bold]{escape(cluster.title)}[/bold]  {cluster.accelerators} x "
        f"{escape(cluster.accelerator.title)}\n"
    )
    tiers = [_quoted_tier(_tier(tier)) for tier in cluster.tiers]
    links, figures = map(_quoted_link, _links(cluster)), map(_quoted, _figures(cluster))
    for rows in (_parts(cluster), tiers, [*links], [*figures]):
        if rows:
            screen.print(COLUMNS.table(rows, screen.width))
            screen.print()


def show_list(rows: list[dict[str, Any]]) -> None:
    """Print the list of clusters."""
    screen = output.console()
    screen.print(COLUMNS.table([_quoted_summary(row) for row in rows], screen.width))


def summary(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster as a row of the list, rates in bytes/s."""
    inner, outer = cluster.tiers[0], cluster.tiers[-1]
    return {
        "name": cluster.name,
        "accelerator": cluster.accelerator.name,
        "a_node": cluster.accelerators_per_node,
        "inner": {"name": inner.name, "Bps": inner.Bps.value, "spans": inner.spans},
        "outer": {"name": outer.name, "Bps": outer.Bps.value},
        "title": cluster.title,
    }


def _parts(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the parts of a mix."""
    return [
        {
            "part": part.name,
            "nodes": part.nodes,
            "accelerators": f"{part.accelerators} x {part.accelerator.title}",
            "title": part.title,
        }
        for part in cluster.parts
    ]


def _links(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the classes of links of a file that gives them one by one, from the inside out."""
    if cluster.graph is None:
        return []
    return [
        {
            "link": link.name,
            "joins": " - ".join(dict.fromkeys(map(str, kinds))),
            "Bps": link.Bps,
            "one way": count,
            "tier": cluster.tiers[link.level].name,
            "source": link.source,
        }
        for (link, kinds), count in cluster.graph.joins().items()
    ]


def _figures(cluster: Cluster) -> list[dict[str, Any]]:
    return [*_device_figures(cluster.accelerator), *_tier_figures(cluster)]


def _device_figures(accelerator: Accelerator) -> list[dict[str, Any]]:
    pairs = [(name, getattr(accelerator, name)) for name in DEVICE_UNITS]
    return [_figure(name, figure) for name, figure in pairs if figure is not None]


def _tier_figures(cluster: Cluster) -> list[dict[str, Any]]:
    return [
        _figure(f"{tier.name} {name}", figure)
        for tier in cluster.tiers
        for name, figure in tier.figures()
    ]


def _figure(name: str, figure: Figure) -> dict[str, Any]:
    """Return a figure in SI units, which its name ends in."""
    return {
        "figure": name,
        "value": figure.value,
        "kind": str(figure.kind),
        "source": figure.source,
    }


def _quoted_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a cluster's row as people read it, rates in GB/s."""
    inner, outer = summary["inner"], summary["outer"]
    over = inner["spans"] or "all"
    named = {key.replace("_", " "): value for key, value in summary.items()}
    return named | {
        "inner": f"{inner['name']} {inner['Bps'] / GB:g} GB/s over {over}",
        "outer": f"{outer['name']} {outer['Bps'] / GB:g} GB/s",
    }


def _quoted_link(link: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a class of links with its rate in GB/s."""
    found = {("GB/s" if key == "Bps" else key): value for key, value in link.items()}
    return found | {"GB/s": f"{link['Bps'] / GB:g}"}


def _quoted(figure: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a figure in the unit it is quoted in."""
    unit, size = _unit(figure["figure"])
    return figure | {"value": f"{figure['value'] / size:g} {unit}".strip()}


def _unit(figure: str) -> tuple[str, float]:
    """Return the unit that a figure is quoted in, and its size."""
    if figure in DEVICE_UNITS:
        return DEVICE_UNITS[figure]
    return next(unit for ending, unit in TIER_UNITS.items() if figure.endswith(ending))


def _tier(tier: Tier) -> dict[str, Any]:
    """Return how a tier is built: what its file says of it beside figures."""
    return {
        "tier": tier.name,
        "fabric": tier.fabric,
        "spans": tier.spans,
        "rails": tier.rails,
        "cards": tier.cards,
        "planes": tier.planes,
        "paths": tier.paths,
        "dims": list(tier.dims),
        "wrap_multiple": tier.wrap_multiple,
        "staged": tier.staged,
    }


def _quoted_tier(tier: dict[str, Any]) -> dict[str, Any]:
    """Return a tier's row as people read it; what only some tiers have stands at the end."""
    more = {
        "{} cards a node": tier["cards"],
        "{} planes": tier["planes"] if tier["planes"] > 1 else None,
        "{} paths": tier["paths"] if tier["paths"] > 1 else None,
        "sides {}": " x ".join(map(str, tier["dims"])),
        "closed at multiples of {}": tier["wrap_multiple"],
        "through host memory": tier["staged"],
    }
    rails = "yes" if tier["rails"] else "no"
    return {
        "tier": tier["tier"],
        "fabric": tier["fabric"],
        "spans": "all" if tier["spans"] is None else f"{tier['spans']:,}",
        "rails": rails if tier["fabric"] == "nic" else "-",
        "and": ", ".join(words.format(value) for words, value in more.items() if value),
    }
