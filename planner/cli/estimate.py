"""``meshwright estimate``: one layout in full."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from planner.cli.axes import given, with_axes
from planner.cli.job_options import (
    ClusterName,
    GlobalBatch,
    Gpus,
    JsonFile,
    Model,
    SeqLen,
    load_scenario,
    with_choices,
)

MapFile = Annotated[
    str | None,
    typer.Option("--map", help="Write where every rank sits as CSV to FILE (- for the screen)."),
]


@with_choices
@with_axes
def estimate(
    model: Model,
    cluster: ClusterName,
    seq_len: SeqLen,
    global_batch: GlobalBatch,
    gpus: Gpus = None,
    json_file: JsonFile = None,
    map_file: MapFile = None,
    **options: Any,  # noqa: ANN401 - typed by with_choices and with_axes
) -> None:
    """Show one layout in full: where the time goes, what fills the memory, what is assumed.

    Axes not given: ZeRO-1, micro-batch 1, tp_sp with tp, 1F1B, fused kernels, no recomputation,
    and as much data parallelism as is left.
    """
    from planner import ask
    from planner.bounds import Bounds
    from planner.cli import output, placement_report, report
    from planner.job_block import job_block
    from topologies.errors import Collected

    found = Collected()
    scenario = found.attempt(
        lambda: load_scenario(
            model,
            cluster,
            seq_len,
            global_batch,
            gpus,
            options,
        )
    )
    found.attempt(lambda: Bounds.parse(given(options)))
    found.attempt(lambda: output.check_places({"--json": json_file, "--map": map_file}))
    found.raise_if_any()
    plan = ask.estimate_scenario(scenario, given(options))
    if json_file is not None:
        output.write_json(json_file, {"job": job_block([scenario])} | plan.to_dict())
    if map_file is not None:
        output.write_out(map_file, placement_report.csv_text(plan.placement))
    if "-" not in (json_file, map_file):
        if map_file is not None:
            output.console().print(f"Wrote {map_file}.", markup=False)
        report.full(output.console(), scenario, plan)
