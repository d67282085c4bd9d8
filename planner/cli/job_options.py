"""Options that say what the job is: cluster, lengths, batch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.choices import Choices
from planner.cli.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner.scenario import Scenario

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
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Of the layers' products: bf16, fp16, fp8-tensorwise, fp8-rowwise, fp8-delayed, "
        "fp8-blockwise, mxfp8, nvfp4 or mxfp4.",
    ),
]
OptimizerName = Annotated[
    str,
    typer.Option(
        "--optimizer",
        help="adamw, adamw-bf16, adamw-8bit, adafactor, sgd-momentum, adamw-bf16-master, "
        "adamw-pure-bf16 or muon: its states.",
    ),
]
GradientDtype = Annotated[
    str,
    typer.Option(
        "--gradients", help="What gradients are kept and summed in: fp32, bf16 or bf16+fp32."
    ),
]
ReduceDtype = Annotated[str, typer.Option("--reduce", help="What they are sent in: fp32 or bf16.")]
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

EcmpMode = Annotated[
    str,
    typer.Option(
        "--ecmp",
        help="Flows on equal links: perfect (evenly), expected or seeded (hashed). It matters "
        "where a spine has paths > 1, in dragonflies and where a file gives links one by one.",
    ),
]
EcmpSeed = Annotated[int, typer.Option("--ecmp-seed", help="Of the draw of --ecmp seeded.")]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="What the accelerator was measured to reach: FILE.json of `calibrate`, or a whole "
        "profile as FILE.yaml; else the catalogue's.",
    ),
]
ExpertSkew = Annotated[
    float,
    typer.Option(
        "--expert-skew", help="Exponent of the power law by which experts are wanted; 0: balanced."
    ),
]
ExpertCapacity = Annotated[
    float | None,
    typer.Option(
        "--expert-capacity", help="Most tokens of an expert over the mean; others are dropped."
    ),
]
PredictDepth = Annotated[
    int,
    typer.Option("--predict-depth", help="Layers of multi-token prediction that are trained too."),
]
SoftwareName = Annotated[
    str,
    typer.Option(
        "--software",
        help="What runs it: usual (the --framework's own, else what frameworks of today do), or "
        "software of another time such as megatron-2021.",
    ),
]
PackedLen = Annotated[
    str | None,
    typer.Option(
        "--packed-len",
        help="Tokens of each of the sequences packed into one of --seq-len, such as 500 or 1k: "
        "attention stays in them.",
    ),
]
FitChance = Annotated[
    float,
    typer.Option(
        "--fit-chance",
        help="Least chance with which a layout must fit in memory, by the interval of its "
        "prediction.",
    ),
]

#: The fields of :class:`~planner.choices.Choices` as options.
CHOICES: dict[str, Any] = {
    "precision": Precision,
    "ecmp": EcmpMode,
    "ecmp_seed": EcmpSeed,
    "profile": ProfileName,
    "optimizer": OptimizerName,
    "gradients": GradientDtype,
    "reduce": ReduceDtype,
    "expert_skew": ExpertSkew,
    "expert_capacity": ExpertCapacity,
    "predict_depth": PredictDepth,
    "software": SoftwareName,
    "packed_len": PackedLen,
    "fit_chance": FitChance,
}


def with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :data:`CHOICES`, in its ``**options``."""
    usual = Choices()
    return with_options(
        command, {name: (kind, getattr(usual, name)) for name, kind in CHOICES.items()}
    )


def load_scenario(
    model: str,
    cluster: str,
    seq_len: str,
    global_batch: str,
    gpus: str | None,
    options: dict[str, Any],
) -> Scenario:
    """Return the scenario of the options, with those of :data:`CHOICES` among others.

    Raises
    ------
    SpecError
        With every problem of all options together.
    """
    from models.workload import LONGEST_SEQUENCE, parse_count
    from planner.scenario import Scenario
    from topologies.errors import Collected

    found = Collected()
    length = found.attempt(lambda: parse_count(seq_len, "--seq-len"))
    batch = found.attempt(lambda: parse_count(global_batch, "--global-batch"))
    size = found.attempt(lambda: parse_count(gpus, "--gpus") if gpus is not None else None)
    scenario = found.attempt(
        lambda: Scenario.load(
            model,
            cluster,
            seq_len=length or LONGEST_SEQUENCE,  # room for all that is asked of a sequence
            global_batch=batch or 1,
            gpus=size,
            **{name: options[name] for name in CHOICES},
        )
    )
    found.raise_if_any()
    return scenario


def numbers(text: str, field: str) -> list[int]:
    """Return a comma-separated list of numbers.

    Raises
    ------
    SpecError
        With every entry that is none.
    """
    from models.workload import parse_count
    from topologies.errors import Collected

    found = Collected()
    values = [found.attempt(partial(parse_count, part, field)) for part in text.split(",")]
    found.raise_if_any()
    return values
