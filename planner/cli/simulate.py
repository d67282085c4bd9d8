"""``meshwright simulate``: one layout on the event clock."""

from __future__ import annotations

from pathlib import Path
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
from planner.disturbances import SAMPLES

TraceFile = Annotated[
    str | None,
    typer.Option(
        "--trace",
        help="Write every kernel and collective to FILE.json.gz, for Perfetto, or to FOLDER/ with "
        "a file for each rank, for Holistic Trace Analysis.",
    ),
]
Contention = Annotated[
    bool,
    typer.Option(
        "--contention/--no-contention", help="Whether collectives that share links slow each other."
    ),
]
AsyncUlysses = Annotated[
    bool,
    typer.Option(
        "--async-ulysses",
        help="Ulysses exchanges each of q, k and v beside the projection of the next one.",
    ),
]
Samples = Annotated[int, typer.Option("--samples", help="Steps to draw with --jitter or --packed.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all that --jitter or --packed draws.")]
JitterSpread = Annotated[
    float, typer.Option("--jitter", help="Spread of one accelerator's passes: 0.05 is 5%.")
]
Straggler = Annotated[
    list[str] | None,
    typer.Option("--straggler", help="RANK:FACTOR, a rank whose passes take FACTOR times as long."),
]
SlowLink = Annotated[
    list[str] | None,
    typer.Option(
        "--slow-link", help="RANK:SHARE, a node whose scale-out links have SHARE of their rate."
    ),
]
FailedNics = Annotated[
    list[str] | None,
    typer.Option("--failed-nics", help="RANK:NUMBER, a node that lost NUMBER of its cards."),
]
Packed = Annotated[
    str | None,
    typer.Option(
        "--packed", help="Sequences packed together: MEAN[:SPREAD] of their log-normal lengths."
    ),
]


@with_choices
@with_axes
def simulate(
    model: Model,
    cluster: ClusterName,
    seq_len: SeqLen,
    global_batch: GlobalBatch,
    gpus: Gpus = None,
    json_file: JsonFile = None,
    trace: TraceFile = None,
    contention: Contention = True,
    async_ulysses: AsyncUlysses = False,
    samples: Samples = SAMPLES,
    seed: Seed = 0,
    jitter: JitterSpread = 0.0,
    straggler: Straggler = None,
    slow_link: SlowLink = None,
    failed_nics: FailedNics = None,
    packed: Packed = None,
    **options: Any,  # noqa: ANN401 - typed by with_choices and with_axes
) -> None:
    """Play one layout's step on the event clock, undisturbed or not, and record what happens.

    Axes not given are those of `estimate`.
    """
    from models.simulation.trace import check_name, write_trace
    from planner import ask
    from planner.bounds import Bounds
    from planner.cli import output, simulation_report
    from planner.complete import legal_layout
    from planner.disturbances import Disturbances, by_rank, lengths
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
    slowed = found.attempt(lambda: by_rank(straggler or [], "--straggler"))
    linked = found.attempt(lambda: by_rank(slow_link or [], "--slow-link"))
    failed = found.attempt(lambda: by_rank(failed_nics or [], "--failed-nics"))
    mean, spread = found.attempt(lambda: lengths(packed) if packed else (None, 1.0)) or (None, 1.0)
    disturbances = Disturbances(
        contention=contention,
        async_ulysses=async_ulysses,
        samples=samples,
        seed=seed,
        jitter=jitter,
        stragglers=slowed or {},
        slow_links=linked or {},
        failed_nics=failed or {},
        packed_tokens=mean,
        packed_spread=spread,
    )
    if scenario is not None:
        layout = found.attempt(lambda: legal_layout(scenario, given(options)))
        found.attempt(lambda: disturbances.check(scenario, layout))
    if trace is not None:
        found.attempt(lambda: check_name(trace))
    places = {"--json": json_file, "--trace": _place(trace)}
    found.attempt(lambda: output.check_places(places))
    found.raise_if_any()
    with output.working("Simulating"):
        answer = ask.simulate_scenario(scenario, given(options), disturbances)
    if trace is not None:
        with output.working("Writing the trace"):
            write_trace(answer.timeline, trace, device=scenario.cluster.accelerator.title)
    if json_file is not None:
        output.write_json(json_file, {"job": job_block([scenario])} | answer.to_dict())
    if json_file != "-":
        simulation_report.print_simulated(output.console(), scenario, answer)
        if trace is not None:
            viewer = "give it to Holistic Trace Analysis"
            if not trace.endswith("/"):
                viewer = "open it in ui.perfetto.dev"
            output.console().print(f"Wrote {trace}: {viewer}.", markup=False)


def _place(trace: str | None) -> str | None:
    """Return the file that tells whether a trace can be written: of a folder there, one in it."""
    if trace is None or not trace.endswith("/") or not Path(trace).exists():
        return trace
    return f"{trace}rank-0.json.gz"
