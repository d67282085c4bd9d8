"""``meshwright calibrate``: a profile of this machine from real kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.job_options import JsonFile

if TYPE_CHECKING:
    from planner.scatter_chart import ScatterChart
    from validate.calibration.asked import Asked
    from validate.calibration.calibrate import Calibrated

Out = Annotated[str, typer.Option("--out", help="Where the profile goes, for --profile.")]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: cuda where it is.")]
World = Annotated[
    int | None,
    typer.Option("--world", help="Processes on a CPU, 2 by default. Not under torchrun."),
]
Budget = Annotated[float, typer.Option("--budget", help="Seconds to measure for, at most.")]
Rounds = Annotated[int, typer.Option("--rounds", help="How often to measure everything.")]
Seed = Annotated[int, typer.Option("--seed", help="Of inputs and orders.")]
AcceleratorName = Annotated[
    str | None,
    typer.Option("--accelerator", help="What the device is in the catalogue, if its name is new."),
]
ClusterName = Annotated[
    str | None,
    typer.Option("--cluster", help="What the ranks of a launcher are part of: see `topologies`."),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a rank may be silent.")]
Figure = Annotated[
    str | None, typer.Option("--figure", help="Draw predicted against measured to FILE.svg.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin anew, whatever an interrupted run has kept.")
]


def calibrate(
    out: Out = "profile.json",
    device: DeviceName = "auto",
    world: World = None,
    budget: Budget = 180.0,
    rounds: Rounds = 5,
    seed: Seed = 0,
    accelerator: AcceleratorName = None,
    cluster: ClusterName = None,
    timeout: Timeout = 300.0,
    fresh: Fresh = False,
    json_file: JsonFile = None,
    figure: Figure = None,
) -> None:
    """Measure real kernels here and write a profile that plans take with --profile.

    On CPU processes of this machine over gloo; on one GPU, which plays all ranks; or on the ranks
    that torchrun started. What an interrupted run has measured is kept, and gone on with. The
    report says how far off the fits are on what they have not seen, and how far off whole layers
    and blocks are, predicted from the inventory.
    """
    from planner.cli import output
    from topologies.errors import Collected
    from validate.calibration.asked import Asked
    from validate.calibration.calibrate import calibrate as run
    from validate.processes import first

    collected = Collected()
    asked = collected.attempt(
        lambda: Asked.parse(
            out=out,
            device=device,
            world=world,
            accelerator=accelerator,
            cluster=cluster,
            rounds=rounds,
            budget_s=budget,
            seed=seed,
            timeout_s=timeout,
            fresh=fresh,
        )
    )
    if first():
        collected.attempt(lambda: output.check_place(json_file, "--json"))
    collected.raise_if_any()
    with output.advancing(f"Measuring, {budget:g} s at most:") as count:
        found = run(asked, count)
    if found is None:  # another rank of the job tells
        return
    if json_file is not None:
        output.write_json(json_file, found.content.model_dump(mode="json"))
    if figure is not None:
        output.write_text(figure, _chart(found).to_svg())
    if json_file != "-":
        _print(asked, found)


def _chart(found: Calibrated) -> ScatterChart:
    """Return every point as the fits to the others have it, and what is held out of all fits."""
    from planner.scatter_chart import ScatterChart
    from topologies.units import MILLI

    points: dict[str, list[tuple[float, float]]] = {}
    for name, fitted in found.fitted.fits.items():
        kind = "collectives" if " scale-" in name else name.replace("_", " ")
        pairs = zip(fitted.seconds, fitted.seconds * (1.0 + fitted.held_out), strict=True)
        points.setdefault(kind, []).extend((a / MILLI, b / MILLI) for a, b in pairs)
    for each in found.fitted.predictions:
        kind = f"{each.measurement.item.kind}s"
        points.setdefault(kind, []).append((each.measurement.t / MILLI, each.seconds / MILLI))
    title = f"{found.content.name}: held out of the fits"
    return ScatterChart(title=title, unit="ms", points=points)


def _print(asked: Asked, found: Calibrated) -> None:
    from planner.cli import output

    screen = output.console()
    screen.print(f"[bold]{found.content.name}[/bold] on {found.content.provenance['device']}\n")
    output.print_rows(
        [
            {
                "figure": name,
                "value": f"{figure.value:.4g}",
                "known": figure.kind,
            }
            for name, figure in found.content.parameters.items()
        ]
    )
    screen.print("\nFits, and their errors on points they have not seen:")
    output.print_rows(
        [
            {
                "kind": name,
                "points": each.points,
                "in sample": f"{each.in_sample_median:.1%}",
                "held out": f"{each.held_out_median:.1%}",
                "90% within": f"{each.held_out_p90:.1%}",
                "measured from": f"{each.lowest * 1e3:.3g} ms",
                "to": f"{each.highest * 1e3:.3g} ms",
            }
            for name, each in found.content.fits.items()
        ]
    )
    if found.fitted.predictions:
        _print_predictions(found)
    _print_checks(found)
    for what, why in found.content.skipped:
        screen.print(f"Left out: {what}: {why}.")
    _print_cores(found)
    screen.print(f"\nWritten: {asked.out}; plans take it with --profile {asked.out}")


def _print_checks(found: Calibrated) -> None:
    from planner.cli import output

    checks = found.content.checks
    exact = [each["ok"] for each in checks if "ok" in each]
    peaks = [each for each in checks if "error" in each]
    output.console().print(
        f"\nChecks: {sum(exact)} of {len(exact)} attentions exact in bf16; peak memory of a block "
        f"within {max(abs(each['error']) for each in peaks):.1%} of the inventory's, by "
        f"{peaks[0]['how']}."
    )


def _print_predictions(found: Calibrated) -> None:
    from planner.cli import output

    screen = output.console()
    screen.print("\nForward and backward of what no fit has seen, predicted from the inventory:")
    output.print_rows([_row(each.to_dict()) for each in found.fitted.predictions])


def _row(each: dict[str, object]) -> dict[str, str]:
    args = dict(each["args"])  # type: ignore[call-overload]
    method = "gathered" if args["gathers"] else "ring" if args["ring"] > 1 else "ulysses"
    ranks = f"{args['ulysses']}x{args['ring']}" + (" virtual" if args.get("virtual") else "")
    return {
        "what": str(each["kind"]),
        "ulysses x ring": f"{ranks} {method}" if args["ulysses"] * args["ring"] > 1 else ranks,
        "hidden": str(args["hidden"]),
        "heads": f"{args['heads']}/{args['kv_heads']}",
        "tokens of a rank": str(args["tokens"]),
        "measured": f"{float(str(each['measured_s'])) * 1e3:.1f} ms",
        "predicted": f"{float(str(each['predicted_s'])) * 1e3:.1f} ms",
        "error": f"{float(str(each['error'])):+.1%}",
        "wall": f"{float(str(each['wall_error'])):+.1%}",
    }


def _print_cores(found: Calibrated) -> None:
    from planner.cli import output

    if found.cores is None:
        return
    cores = found.cores
    noisy = ": too few or too uneven for timings to say much" if cores.noisy else ""
    output.console().print(
        f"\nTimes are of cores, not of clocks on the wall. All ranks together had "
        f"{cores.median:.2f} cores, {cores.low:.2f} to {cores.high:.2f}{noisy}."
    )
