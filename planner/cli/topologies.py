"""``meshwright topologies``: the clusters the planner knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.job_options import EcmpMode, JsonFile, ProfileName

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
    from planner.cli import output, topology_report
    from topologies import cluster_names, load_cluster

    rows = [topology_report.summary(load_cluster(name)) for name in cluster_names()]
    if json_file is not None:
        output.write_json(json_file, {"topologies": rows})
    if json_file != "-":
        topology_report.show_list(rows)


@app.command()
def show(cluster: ClusterArgument, json_file: JsonFile = None) -> None:
    """Show one cluster: its accelerator, every tier of links, and the parts and links of its file.

    Each figure has its source; the figures of a mix are the worst of its parts. The README lists
    all that a file of tiers may say.
    """
    from planner.cli import output, topology_report
    from topologies import load_cluster

    loaded = load_cluster(cluster)
    if json_file is not None:
        output.write_json(json_file, topology_report.content(loaded))
    if json_file != "-":
        topology_report.show(loaded)


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
    collective_report.show([found.row() for found in errors])
    output.console().print(
        "\nMedian relative errors of single collectives, with the number of rows. Rows held out of "
        f"the fits: at most {LARGE_TARGET:.0%} wanted from 64 MiB up, {SMALL_TARGET:.0%} below."
    )
    for found in errors:
        if found.reported_only:
            output.console().print(f"{found.system}, reported only: {found.reported_only}.")
