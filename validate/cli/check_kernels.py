"""``meshwright check-kernels``: whether the real kernels are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.job_options import JsonFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validate.cases import Case
    from validate.exactness import Checked
    from validate.lessons import Compared

World = Annotated[
    str, typer.Option("--world", help="How many processes, once each: 1,2,4. Not under torchrun.")
]
Dtypes = Annotated[
    str | None, typer.Option("--dtype", help="Of f64, f32, bf16, f16; by default what runs there.")
]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: cuda where it is.")]
Steps = Annotated[
    int, typer.Option("--steps", help="Of a small Llama trained with and without; 0 for none.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a rank may be silent.")]


def check_kernels(
    world: World = "1,2,4",
    dtype: Dtypes = None,
    device: DeviceName = "auto",
    steps: Steps = 200,
    timeout: Timeout = 120.0,
    json_file: JsonFile = None,
) -> None:
    """Check sequence-parallel attention against attention on one device, forward and backward.

    On CPU processes of this machine over gloo; on one GPU, which plays all ranks; or as the ranks
    that torchrun started. On processes it starts it trains a small Llama too, left at a checkpoint
    and gone on with by other ranks. Exit code 1 if any error is more than rounding.
    """
    from planner.cli import output
    from topologies.errors import Collected
    from validate.checks import Asked, check, learn
    from validate.processes import first

    collected = Collected()
    asked = collected.attempt(lambda: Asked.parse(world, dtype, device, steps, timeout))
    if first():
        collected.attempt(lambda: output.check_place(json_file, "--json"))
    collected.raise_if_any()
    with output.counting("Checking", "attentions") as count:
        found = check(asked, count)
    if found is None:  # another rank of the job tells
        return
    with output.counting("Training", "steps") as count:
        learnt = learn(asked, count)
    if json_file is not None:
        content = {
            "checks": [each.to_dict() for each in found],
            "trainings": [each.to_dict() for each in learnt],
        }
        output.write_json(json_file, content)
    if json_file != "-":
        _print(found)
        if learnt:
            _print_learnt(learnt)
    if not all(each.exact for each in found) or not all(each.agrees for each in learnt):
        raise typer.Exit(1)


def _print(found: Sequence[Checked]) -> None:
    from planner.cli import output

    output.print_rows([_row(each) for each in found])
    wrong = [each for each in found if not each.exact]
    said = f"{len(wrong)} are not" if wrong else "all are"
    output.console().print(
        f"\nRelative errors over all tokens of a rank, the largest of all ranks, against scores in "
        f"fp64. Of {len(found)} attentions {said} exact: within the tolerance of the dtype and 1.6 "
        "times the error of attention on one device."
    )


def _print_learnt(learnt: Sequence[Compared]) -> None:
    from planner.cli import output

    output.console().print(
        "\nA small Llama trained on one rank, and on ranks (Ulysses x ring) that cut its sequence, "
        "left it at a checkpoint and were followed by others:"
    )
    output.print_rows(
        [
            {
                "dtype": each.dtype,
                "steps": each.steps,
                "ranks": "x".join(map(str, each.first))
                + ", then "
                + "x".join(map(str, each.second)),
                "first gradients": f"{each.gradient_error:.1e}",
                "losses": f"{each.loss_error:.1e}",
                "last loss": f"{each.last_loss[0]:.4f}",
                "of one rank": f"{each.last_loss[1]:.4f}",
                "weights resumed": "to the bit" if each.resumed_exactly else "CHANGED",
                "": "agrees" if each.agrees else "DIFFERS",
            }
            for each in learnt
        ]
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
