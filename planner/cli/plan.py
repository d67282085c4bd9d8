"""``meshwright plan``: the best layouts of a job."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from planner.cli.axes import USUAL, given, with_axes
from planner.cli.job_options import (
    ClusterName,
    FrameworkName,
    GlobalBatch,
    GpuCounts,
    JsonFile,
    Model,
    SeqLen,
    load_scenario,
    with_choices,
)

Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--beside",
        help=f"A layout to set beside the best: tp=4,ulysses=4,pp=2,dp=8. Axes not named: {USUAL}.",
    ),
]
Simulate = Annotated[
    bool,
    typer.Option(
        "--simulate/--no-simulate", help="Time the plans shown on the event clock as well."
    ),
]
Task = Annotated[str, typer.Option("--task", help="train; serving comes later.")]


@with_choices
@with_axes
def plan(
    model: Model,
    cluster: ClusterName,
    seq_len: SeqLen,
    global_batch: GlobalBatch,
    gpus: GpuCounts = None,
    framework: FrameworkName = "any",
    top: Annotated[
        int,
        typer.Option("--top", min=1, max=1000, help="Meshes to show, each with its best layout."),
    ] = 10,
    beside: Beside = None,
    task: Task = "train",
    json_file: JsonFile = None,
    simulate: Simulate = True,
    **options: Any,  # noqa: ANN401 - typed by with_choices and with_axes
) -> None:
    """Rank the layouts of a training job: step time, memory, what is exposed, what binds.

    Layout options pin an axis (--tp 8), list values (--zero 1,3) or bound it (--tp 4..8).
    """
    from planner import ask
    from planner.bounds import Bounds
    from planner.cli import output, report
    from planner.compare import why_better
    from planner.job_block import job_block
    from planner.plans import PlanSet
    from planner.ranking import plan_scenario
    from topologies.errors import Collected

    options = ask.run_by(framework, options)
    found = Collected()
    sizes = gpus.split(",") if gpus is not None else [None]
    scenarios = [
        found.attempt(
            partial(
                load_scenario,
                model,
                cluster,
                seq_len,
                global_batch,
                size,
                options,
            )
        )
        for size in sizes
    ]
    bounds = found.attempt(lambda: Bounds.parse(given(options)))
    found.attempt(lambda: ask.check_choices(task, framework))
    layouts = [found.attempt(partial(ask.parse_layout, text)) for text in beside or []]
    found.attempt(lambda: output.check_places({"--json": json_file}))
    found.raise_if_any()
    base = scenarios[0]
    others = [found.attempt(partial(ask.estimate_scenario, base, chosen)) for chosen in layouts]
    found.raise_if_any()
    with output.counting("Searching") as progress:
        answers = [
            plan_scenario(scenario, bounds, framework, top, progress, simulate=simulate)
            for scenario in scenarios
        ]
    plans = PlanSet.merged(answers)
    if json_file is not None:
        asked = {"job": job_block(scenarios)}
        content = plans.to_dict() | {"beside": [other.to_dict() for other in others]}
        output.write_json(json_file, asked | content)
    if json_file == "-":
        return
    screen = output.console()
    for scenario, answer in zip(scenarios, answers, strict=True):
        report.answer(screen, scenario, answer)
        if len(answers) > 1:
            screen.print()
    for other in others:
        screen.print()
        screen.print(report.ranking((other,), screen.width))
        screen.print(report.memory(other))
        report.runs(screen, base, other)
        fits = "fits" if other.fits else "does not fit"
        best = answers[0].best
        if best is not None:
            slower = other.step_time_s / best.step_time_s
            screen.print(
                f"{other.label} {fits} and takes {slower:.2f} times as long as the first; "
                f"the first has {why_better(best, other)}."
            )
