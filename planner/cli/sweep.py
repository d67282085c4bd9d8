"""``meshwright sweep``: how the best layout changes with length, size, batch and network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.axes import given, with_axes
from planner.cli.job_options import (
    ClusterName,
    FrameworkName,
    GpuCounts,
    JsonFile,
    Model,
    load_scenario,
    numbers,
    with_choices,
)

if TYPE_CHECKING:
    from planner.sweeps import SweepPoint

SeqLens = Annotated[str, typer.Option("--seq-len", help="Lengths: 8k,32k,128k,1m.")]
Batches = Annotated[str, typer.Option("--global-batch", help="Sequences per step: 64 or 32,64.")]
Networks = Annotated[
    str, typer.Option("--network", help="Factors on every scale-out link: 0.5,1,2.")
]
CsvFile = Annotated[str | None, typer.Option("--csv", help="Write the table to FILE.")]
FigureFile = Annotated[str | None, typer.Option("--figure", help="Draw the sweep to FILE.svg.")]


@with_choices
@with_axes
def sweep(
    model: Model,
    cluster: ClusterName,
    seq_len: SeqLens,
    global_batch: Batches,
    gpus: GpuCounts = None,
    network: Networks = "1",
    framework: FrameworkName = "any",
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    figure: FigureFile = None,
    **options: Any,  # noqa: ANN401 - typed by with_choices and with_axes
) -> None:
    """Plan at many points: the best layout, and the best of each way to cut the sequence."""
    from planner import ask
    from planner.bounds import Bounds
    from planner.cli import output, sweep_report
    from planner.job_block import job_block
    from planner.sweeps import Grid, run_sweep
    from topologies.errors import Collected, Problem

    options = ask.run_by(framework, options)
    found = Collected()
    lengths = found.attempt(lambda: numbers(seq_len, "--seq-len")) or [1]
    batches = found.attempt(lambda: numbers(global_batch, "--global-batch")) or [1]
    sizes = found.attempt(lambda: numbers(gpus, "--gpus") if gpus is not None else []) or []
    networks = found.attempt(lambda: sweep_report.factors(network))
    bounds = found.attempt(lambda: Bounds.parse(given(options)))
    if figure is not None and not figure.endswith(".svg"):
        found.problems.append(Problem("--figure", figure, "end the name in .svg"))
    places = {"--json": json_file, "--csv": csv_file, "--figure": figure}
    found.attempt(lambda: output.check_places(places))
    found.attempt(lambda: ask.check_choices("train", framework))
    first = str(sizes[0]) if sizes else None
    base = found.attempt(
        lambda: load_scenario(
            model,
            cluster,
            str(lengths[0]),
            str(batches[0]),
            first,
            options,
        )
    )
    found.raise_if_any()
    grid = Grid(
        seq_lens=lengths,
        gpus=sizes or [base.cluster.accelerators],
        global_batches=batches,
        networks=networks,
    )
    with output.counting(f"Sweeping {len(grid)} points", "points") as progress:
        points: list[SweepPoint] = run_sweep(base, grid, bounds, framework, progress)
    if json_file is not None:
        asked = {"job": job_block([each for each, _ in grid.scenarios(base)])}
        output.write_json(json_file, asked | {"points": [point.to_dict() for point in points]})
    if csv_file is not None:
        output.write_text(csv_file, sweep_report.csv_text(points))
    if figure is not None:
        output.write_text(figure, sweep_report.chart(base, points).to_svg())
    written = [path for path in (csv_file, figure) if path is not None]
    if json_file != "-":
        if written:
            output.console().print(f"Wrote {', '.join(written)}.")
        sweep_report.show(output.console(), base, points)
