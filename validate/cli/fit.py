"""``meshwright fit``: a device's compute figures from tables of measured kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.job_options import JsonFile

if TYPE_CHECKING:
    from validate.fitting.device_fit import DeviceFit
    from validate.fitting.rules import LeftOut

Tables = Annotated[
    list[str], typer.Argument(metavar="TABLE...", help="Measured kernels: CSV, or CSV.gz.")
]
DeviceName = Annotated[str, typer.Option("--device", help="An accelerator of the catalogue.")]
Out = Annotated[
    str | None, typer.Option("--out", help="Write the profile to FILE.yaml (- for the screen).")
]
Kin = Annotated[
    str, typer.Option("--kin", help="Profile of a device like it, for what is not measured.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the held-out parts.")]


def fit(
    tables: Tables,
    device: DeviceName,
    out: Out = None,
    kin: Kin = "h100",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Fit a device's compute figures to tables of measured kernels, and say how far off they are.

    Tables of several sources and devices can be given together: each is told by its header, and
    rows of other devices are left out, as are rows that stated rules find defective. Written is a
    profile that plans take with --profile; what kernels do not tell is as before, or as of kin.
    """
    from planner.cli import output
    from validate.fitting.fitted import Fitting

    found = Fitting.run(tables, device, kin=kin, seed=seed)
    if out is not None:
        output.write_out(out, found.text())
    if json_file is not None:
        output.write_json(json_file, found.record())
    if "-" not in (out, json_file):
        _print(found.fit, found.left_out)


def _print(found: DeviceFit, left_out: list[LeftOut]) -> None:
    import numpy as np

    from planner.cli import output

    screen = output.console()
    output.print_rows(
        [{"figure": name, "value": f"{each.value:.4g}"} for name, each in found.figures.items()]
    )
    screen.print("\nFits, and their errors on rows they have not seen:")
    output.print_rows([_kind(kind, each.summary()) for kind, each in found.fits.items()])
    screen.print("\nEach source, predicted from the others:")
    output.print_rows(
        [
            {
                "kind": kind,
                "source": source,
                "rows": f"{rows:,}",
                "median": "-" if off is None else f"{np.median(abs(off)):.1%}",
                "bias": "-" if off is None else f"{np.median(off):+.1%}",
            }
            for kind, each in found.fits.items()
            for source, (rows, off) in each.sources.items()
        ]
    )
    for each in left_out:
        screen.print(
            f"Left out: {each.rows:,} rows of {each.kind} of {each.source} {each.library}: "
            f"{each.rule.name} ({each.rule.reason})."
        )


def _kind(kind: str, short: dict[str, Any]) -> dict[str, str]:
    return {
        "kind": kind,
        "rows": f"{short['points']:,}",
        "in sample": f"{short['in_sample_median']:.1%}",
        "held out": f"{short['held_out_median']:.1%}",
        "large": (
            "-"
            if short["large_held_out_median"] is None
            else f"{short['large_held_out_median']:.1%}"
        ),
        "90% within": f"{short['held_out_p90']:.1%}",
    }
