"""``meshwright check-kernels``: whether the real kernels are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.job_options import JsonFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.exactness import Case, Checked

World = Annotated[
    str, typer.Option("--world", help="How many processes, once each: 1,2,4. Not under torchrun.")
]
Dtypes = Annotated[
    str | None, typer.Option("--dtype", help="Of f64, f32, bf16, f16; by default what runs there.")
]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: cuda where it is.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a rank may be silent.")]


def check_kernels(
    world: World = "1,2,4",
    dtype: Dtypes = None,
    device: DeviceName = "auto",
    timeout: Timeout = 120.0,
    json_file: JsonFile = None,
) -> None:
    """Check sequence-parallel attention against attention on one device, forward and backward.

    On CPU processes of this machine over gloo; on one GPU, which plays all ranks; or as the ranks
    that torchrun started. Exit code 1 if any error is more than rounding.
    """
    from planner.cli import output
    from validate.checks import Asked, check

    asked = Asked.parse(world, dtype, device, timeout)
    with output.counting("Checking", "attentions") as count:
        found = check(asked, count)
    if found is None:  # another rank of the job tells
        return
    if json_file is not None:
        output.write_json(json_file, {"checks": [each.to_dict() for each in found]})
    if json_file != "-":
        _print(found)
    if not all(each.exact for each in found):
        raise typer.Exit(1)


def _print(found: Sequence[Checked]) -> None:
    from planner.cli import output

    output.print_rows([_row(each) for each in found])
    wrong = [each for each in found if not each.exact]
    said = f"{len(wrong)} are not" if wrong else "all are"
    output.console().print(
        f"\nRelative errors over all tokens of a rank, the largest of all ranks, against scores in "
        f"fp64. Of {len(found)} attentions {said} exact: within the tolerance of the dtype and 1.6 "
        "times the error of one flash kernel on one device."
    )


def _row(each: Checked) -> dict[str, str]:
    from validate.exactness import TENSORS

    case: Case = each.case
    errors = {name: f"{error:.1e}" for name, error in zip(TENSORS, each.errors, strict=True)}
    return {
        "method": case.method,
        "ranks": f"{case.ulysses}x{case.ring}" + (" virtual" if each.virtual else ""),
        "mask": "causal" if case.causal else "full",
        "dtype": case.dtype,
        **errors,
        "one device": f"{max(each.one_device):.1e}",
        "tolerance": f"{each.tolerance:.0e}",
        "": "exact" if each.exact else "NOT EXACT",
    }
