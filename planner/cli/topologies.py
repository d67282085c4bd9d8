"""``meshwright topologies``: the clusters the planner knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.job_options import EcmpMode, JsonFile, ProfileName
from topologies.units import GB, GIB, MICRO, TERA

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
TIER_UNITS = {"Bps": ("GB/s", GB), "_s": ("us", MICRO), "fraction": ("", 1.0)}

app = typer.Typer(help="Clusters: list them, or show one.", no_args_is_help=True)
ClusterArgument = Annotated[str, typer.Argument(help="NAME, NAME:NODES or FILE.yaml.")]
SvgFile = Annotated[
    str | None, typer.Option("--svg", help="Write the picture to FILE (- for the screen).")
]
DotFile = Annotated[
    str | None, typer.Option("--dot", help="Write it for Graphviz to FILE (- for the screen).")
]
GroupSize = Annotated[int | None, typer.Option("--size", help="Axes of this many ranks only.")]
Stride = Annotated[int | None, typer.Option("--stride", help="Axes of this stride only.")]
CollectiveName = Annotated[
    str | None,
    typer.Option("--collective", help="This one only, by every algorithm: all_reduce, ..."),
]
Bytes = Annotated[str, typer.Option("--bytes", help="Of a message: 65536, 64KiB, 64MiB, 1GiB.")]
TableFiles = Annotated[
    list[Path] | None, typer.Argument(help="Tables of measured collectives, as CSV.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the draw of --ecmp seeded.")]


@app.command(name="list")
def list_clusters(json_file: JsonFile = None) -> None:
    """List the cluster catalogue."""
    from planner.cli import output
    from topologies import cluster_names, load_cluster

    rows = [_summary(load_cluster(name)) for name in cluster_names()]
    if json_file is not None:
        output.write_json(json_file, {"topologies": rows})
    if json_file != "-":
        output.print_rows([_quoted_summary(row) for row in rows])


@app.command()
def show(cluster: ClusterArgument, json_file: JsonFile = None) -> None:
    """Show one cluster: its accelerator, every tier of links, and the parts and links of its file.

    Each figure has its source; the figures of a mix are the worst of its parts.
    """
    from planner.cli import output
    from topologies import load_cluster

    loaded = load_cluster(cluster)
    figures = [*_device_figures(loaded.accelerator), *_tier_figures(loaded)]
    parts, links = _parts(loaded), _links(loaded)
    if json_file is not None:
        more = {"parts": parts, "links": links}
        found = {key: rows for key, rows in more.items() if rows}
        output.write_json(json_file, {**_summary(loaded), "figures": figures, **found})
    if json_file == "-":
        return
    screen = output.console()
    screen.print(
        f"[bold]{loaded.title}[/bold]  {loaded.accelerators} x {loaded.accelerator.title}\n"
    )
    for rows in (parts, [*map(_quoted_link, links)], [*map(_quoted, figures)]):
        if rows:
            output.print_rows(rows)
            screen.print()


@app.command()
def draw(cluster: ClusterArgument, svg: SvgFile = None, dot: DotFile = None) -> None:
    """Draw one cluster: an SVG picture and a Graphviz file; what repeats is folded."""
    from planner.cli import output
    from topologies import load_cluster
    from topologies.builders import build_graph
    from topologies.draw import to_dot, to_svg

    loaded = load_cluster(cluster)
    if svg is None and dot is None:
        svg, dot = f"{_file_stem(cluster)}.svg", f"{_file_stem(cluster)}.dot"
    graph = build_graph(loaded)
    for file, picture in ((svg, to_svg(graph, loaded.title)), (dot, to_dot(graph))):
        if file == "-":
            typer.echo(picture, nl=False)
        elif file is not None:
            output.write_text(file, picture)
            typer.echo(f"Wrote {file}", err="-" in (svg, dot))


def _file_stem(cluster: str) -> str:
    """Return the name of a cluster or of its file, without folder, nodes and suffix.

    >>> _file_stem("h100-dgx:32"), _file_stem("mine/cluster.yaml:2")
    ('h100-dgx', 'cluster')
    """
    name, colon, _ = cluster.rpartition(":")
    path = Path(name if colon else cluster)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


@app.command()
def fabric(
    cluster: ClusterArgument,
    size: GroupSize = None,
    stride: Stride = None,
    collective: CollectiveName = None,
    nbytes: Bytes = "64MiB",
    ecmp: EcmpMode = "perfect",
    seed: Seed = 0,
    profile: ProfileName = None,
    json_file: JsonFile = None,
) -> None:
    """Show what groups of ranks get: latency, bus bandwidth, sharing, and the time of a message.

    Without --size and --stride these are telling axes, without --collective only the algorithms
    that the library takes; --json has every axis and algorithm that the filters leave.
    """
    from models.profile import load_profile
    from models.profile_file import read_profile
    from planner import fabric_rows
    from planner.cli import byte_count, fabric_report, output
    from topologies.catalogue import load_cluster
    from topologies.collective import Collective
    from topologies.ecmp import parse_ecmp
    from topologies.errors import Collected
    from topologies.fabric_table import FabricTable, telling_pairs

    found = Collected()
    loaded = found.attempt(lambda: load_cluster(cluster))
    chosen = [collective] if collective is not None else list(Collective)
    kinds = found.attempt(lambda: [fabric_rows.parse_collective(name) for name in chosen])
    sent = found.attempt(lambda: byte_count.parse_bytes(nbytes, "--bytes"))
    meeting = found.attempt(lambda: parse_ecmp(ecmp, seed, seed_field="--seed"))
    pairs = found.attempt(
        lambda: fabric_rows.matching_pairs(loaded.accelerators, size, stride) if loaded else []
    )
    device = loaded.accelerator.name if loaded else None
    measured = found.attempt(lambda: read_profile(profile, device) if profile is not None else None)
    found.raise_if_any()
    telling = telling_pairs(loaded) if size is None and stride is None else pairs
    table = FabricTable.of(loaded, telling if json_file is None else pairs, meeting, seed)
    used = measured or load_profile(loaded.accelerator.name)
    rows = fabric_rows.fabric_rows(table, used, sent, kinds)
    if json_file is not None:
        output.write_json(json_file, fabric_report.content(table, used.name, sent, rows))
    if json_file == "-":
        return
    shown = [row for row in rows if row.pair in telling and (row.taken or len(kinds) == 1)]
    fabric_report.show(output.console(), table, shown, sent)
    fabric_report.footing(output.console(), table, used.name, sent)


@app.command()
def collectives(
    files: TableFiles = None, profile: ProfileName = None, json_file: JsonFile = None
) -> None:
    """Compare predicted with measured collectives: each system's median errors.

    Of the tables that come with Meshwright, or of FILES: CSV, packed or not, in any shape that
    topologies/data/measured/shapes.yaml describes. With --profile only systems of its accelerator,
    predicted by it.
    """
    from models.measured_collectives import LARGE_TARGET, SMALL_TARGET, Measured
    from models.profile_file import open_profile
    from planner.cli import collective_report, output

    opened = None if profile is None else open_profile(profile)
    if files:
        collective_report.compare(files, opened, json_file)
        return
    measured = Measured.read()
    errors = measured.errors() if opened is None else measured.errors_by(opened)
    if json_file is not None:
        output.write_json(json_file, {"systems": [found.record() for found in errors]})
    if json_file == "-":
        return
    output.print_rows([found.row() for found in errors])
    output.console().print(
        "\nMedian relative errors of single collectives, with the number of rows. Rows held out of "
        f"the fits: at most {LARGE_TARGET:.0%} wanted from 64 MiB up, {SMALL_TARGET:.0%} below."
    )
    for found in errors:
        if found.reported_only:
            output.console().print(f"{found.system}, reported only: {found.reported_only}.")


def _summary(cluster: Any) -> dict[str, Any]:  # noqa: ANN401 - imported when run
    inner, outer = cluster.tiers[0], cluster.tiers[-1]
    return {
        "name": cluster.name,
        "accelerator": cluster.accelerator.name,
        "a_node": cluster.accelerators_per_node,
        "inner": {"name": inner.name, "Bps": inner.Bps.value, "spans": inner.spans},
        "outer": {"name": outer.name, "Bps": outer.Bps.value},
        "title": cluster.title,
    }


def _parts(cluster: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - imported when run
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


def _links(cluster: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - imported when run
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


def _device_figures(accelerator: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - imported when run
    pairs = [(name, getattr(accelerator, name)) for name in DEVICE_UNITS]
    return [_figure(name, figure) for name, figure in pairs if figure is not None]


def _tier_figures(cluster: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - imported when run
    return [
        _figure(f"{tier.name} {name}", figure)
        for tier in cluster.tiers
        for name, figure in tier.figures()
    ]


def _figure(name: str, figure: Any) -> dict[str, Any]:  # noqa: ANN401 - imported when run
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
    return summary | {
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
