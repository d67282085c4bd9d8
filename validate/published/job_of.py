"""The job and the layout of a published run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.model_states import ModelStates
from models.software import USUAL
from models.workload import Workload
from planner.complete import legal_layout
from planner.scenario import Scenario
from topologies.errors import SpecError
from validate.published.machine_of import machine_of
from validate.published.model_of import model_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from models.layout import Layout
    from validate.published.row import Row

#: What tables call precisions, by how they begin; the first that fits.
PRECISIONS = (
    ("FP8-MX", "mxfp8"),
    ("MXFP8", "mxfp8"),
    ("NVFP4", "nvfp4"),
    ("FP8-CS", "fp8-tensorwise"),
    ("FP8", "fp8-delayed"),
    ("FP16", "fp16"),
    ("BF16", "bf16"),
)
#: Frameworks whose kernels are plain modules; all others run fused ones, or compile to such.
EAGER = ("Composer", "torchtitan", "DeepSpeed", "fms-fsdp", "prime-rl")
#: Software that runs of a framework used, by the year they were published in; the first that fits.
#: Until 2022 no framework had flash attention; the fork for DeepSpeed stayed at that time's code.
SOFTWARE = (
    (r"megatron-deepspeed$", 9999, "megatron-2021"),
    (r"megatron|deepspeed", 2022, "megatron-2021"),
)
#: What is trained in ways that are not modelled.
UNMODELLED_TASKS = ("lora",)


def scenario_of(row: Row) -> Scenario:
    """Return what a row trains, on what.

    Raises
    ------
    UnexpressedError
        If that is not modelled, or not stated.
    """
    task = row.text("task").lower()
    if any(word in task for word in UNMODELLED_TASKS):
        raise UnexpressedError(f"task not modelled: {task}")
    if row.text("offload") not in ("", "none", "0"):
        raise UnexpressedError(f"offload not modelled: {row.text('offload')[:40]}")
    said = row.text("precision", "BF16").upper()
    precision = next((ours for theirs, ours in PRECISIONS if said.startswith(theirs)), None)
    if precision is None:
        raise UnexpressedError(f"precision not modelled: {said[:40]}")
    workload = Workload(
        seq_len=row.count("seq_len"),
        global_batch=row.count("global_batch"),
        precision=precision,
        states=ModelStates(),
        software=software_of(row),
    )
    return Scenario(model_of(row), machine_of(row), workload)


def software_of(row: Row) -> str:
    """Return what a row's framework was like at the time."""
    framework, date = row.text("framework").lower(), row.text("date", "9999")
    year = int(date[:4]) if date[:4].isdigit() else 9999
    for pattern, last, name in SOFTWARE:
        if re.match(pattern, framework) and year <= last:
            return name
    return USUAL


def layout_of(row: Row, scenario: Scenario) -> Layout:
    """Return how a row cuts its job; what it does not state is as most runs have it.

    Raises
    ------
    UnexpressedError
        If the layout cannot be.
    """
    axes = _degrees(row)
    axes["zero"] = row.count("zero", 0)
    axes["tp_sp"] = int(bool(row.count("tp_sp", 0)) and axes["tp"] > 1)
    if axes["zero"]:
        axes["dp_replicate"] = row.count("dp_replicate", 1)
    recompute = row.text("recompute", "none")
    if recompute not in ("none", "selective", "full"):
        raise UnexpressedError(f"recomputation not expressed: {recompute[:40]}")
    eager = row.text("framework").startswith(EAGER)
    try:
        return legal_layout(
            scenario,
            {**axes, "recompute": recompute, "kernels": "eager" if eager else "fused"},
        )
    except SpecError as error:
        raise UnexpressedError("; ".join(map(str, error.problems))) from error


def _degrees(row: Row) -> dict[str, int]:
    """Return degrees and micro-batch; data parallelism has what the others leave."""
    gpus = row.count("gpus")
    degrees = {axis: row.count(axis, 1) for axis in ("tp", "pp", "vp", "ep", "etp")}
    cp, ulysses = row.count("cp", 1), row.count("ulysses", 1)
    degrees |= {"ulysses": ulysses, "ring": row.count("ring", max(cp // ulysses, 1))}
    taken = degrees["tp"] * degrees["pp"] * degrees["ulysses"] * degrees["ring"]
    if gpus % taken:
        raise UnexpressedError(f"{taken} ranks of a replica do not divide {gpus} accelerators")
    return degrees | {"dp": gpus // taken, "micro_batch": row.count("micro_batch", 1)}
