"""Options that say what the job is: cluster, lengths, batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from planner.scenario import Scenario
    from topologies.errors import Problem

Model = Annotated[str, typer.Argument(help="Catalogue name, or a Hugging Face config.json.")]
ClusterName = Annotated[
    str, typer.Option("--cluster", help="NAME, NAME:NODES or FILE.yaml; see `topologies list`.")
]
SeqLen = Annotated[str, typer.Option("--seq-len", help="Tokens of one sequence: 8192, 256k, 1m.")]
GlobalBatch = Annotated[str, typer.Option("--global-batch", help="Sequences per optimizer step.")]
Gpus = Annotated[
    str | None, typer.Option("--gpus", help="Accelerators, instead of nodes after the name.")
]
GpuCounts = Annotated[
    str | None,
    typer.Option("--gpus", help="Accelerators, instead of nodes: 64, or 64,128,256 for each."),
]
Precision = Annotated[str, typer.Option("--precision", help="Of the matrix products: bf16.")]
FrameworkName = Annotated[
    str,
    typer.Option(
        "--framework",
        help="any, unrestricted, megatron, megatron-fsdp, torchtitan, deepspeed or accelerate.",
    ),
]
JsonFile = Annotated[
    str | None, typer.Option("--json", help="Write the answer as JSON to FILE (- for the screen).")
]


def load_scenario(
    model: str,
    cluster: str,
    seq_len: str,
    global_batch: str,
    gpus: str | None,
    precision: str,
) -> Scenario:
    """Return the scenario of the options.

    Raises
    ------
    SpecError
        With every problem of all options together.
    """
    from planner.scenario import Scenario
    from topologies.errors import SpecError

    found: list[Problem] = []
    numbers = {
        "--seq-len": whole_number(seq_len, "--seq-len", found),
        "--global-batch": whole_number(global_batch, "--global-batch", found),
        "--gpus": whole_number(gpus, "--gpus", found) if gpus is not None else None,
    }
    try:
        scenario = Scenario.load(
            model,
            cluster,
            seq_len=numbers["--seq-len"] or 1,
            global_batch=numbers["--global-batch"] or 1,
            gpus=numbers["--gpus"],
            precision=precision,
        )
    except SpecError as error:
        raise SpecError([*found, *error.problems]) from error
    if found:
        raise SpecError(found)
    return scenario


def whole_number(text: str, field: str, found: list[Problem]) -> int | None:
    """Return a number with an optional k, m or g, or note what is wrong and return None."""
    from models.workload import parse_count
    from topologies.errors import SpecError

    try:
        return parse_count(text, field)
    except SpecError as error:
        found += error.problems
        return None


def numbers(text: str, field: str) -> list[int]:
    """Return a comma-separated list of numbers.

    Raises
    ------
    SpecError
        With every entry that is none.
    """
    from topologies.errors import SpecError

    found: list[Problem] = []
    values = [whole_number(part, field, found) for part in text.split(",")]
    if found:
        raise SpecError(found)
    return [value for value in values if value is not None]
