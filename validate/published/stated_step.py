"""Training steps of the second schema in the words of the first, so that one reader has both."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from validate.published.row import Row

#: What is done beyond the layout that is not modelled, as methods and columns say it.
UNMODELLED = (
    (r"fpdt", "chunks of keys and values kept in host memory are not modelled"),
    (r"colossalai", "ring self-attention without flash kernels is not modelled"),
)
#: Whose trainers repeat every layer unless told otherwise (Hugging Face's checkpointing).
REPEATING = re.compile(r"xtuner|ArcticTraining|huggingface", re.IGNORECASE)
#: Frameworks by methods, and of sources whose rows do not name one.
FRAMEWORKS = (
    (r"(?<!no )liger", "Liger-Kernel"),  # fused norms, rotations and activations
    # xtuner 0.2.0 model/modules/dispatch: Triton's norms and rotations in Hugging Face's modules.
    (r"xtuner", "XTuner"),
    (r"ArcticTraining|huggingface", "DeepSpeed"),  # Hugging Face's modules
    (
        r"deepspeedai",
        "Megatron-LM/DeepSpeed",
    ),  # its fork, whose kernels are fused and have flash attention
    (r"torchtitan", "torchtitan"),
    (r"megatron", "Megatron-LM"),
)
#: Families whose MLPs have a gate.
GATED = re.compile(r"llama|qwen|yi|mistral|mixtral|gemma|deepseek", re.IGNORECASE)
#: Networks of sources whose rows state none, as another table of the laboratory states its own.
NETWORKS = (
    # InternLM/InternEvo doc/en/train_performance.md@c628a8c: nodes of eight A100 or A800.
    (r"InternLM/", "NVLink; 4 x 100 Gb/s RoCE per node"),
)
#: Tools that memory was read with, of sources that name them once for all their rows.
MEMORY_KINDS = (
    # snowflakedb/ArcticTraining@b28638e projects/sequence-parallelism: "NV" figures.
    (r"ArcticTraining", "nvidia-smi"),
)
_ZERO = re.compile(r"ZeRO-?(\d)|(FSDP)", re.IGNORECASE)
_PER_GROUP = re.compile(r"(\d+)(?: per SP group)?(?: x grad-acc (\d+|sp))?$")


def stated_step(row: Row) -> Row:
    """Return a row with columns as tables of training runs have them.

    What is in host memory is left to :class:`validate.published.sparing.Sparing`.

    Raises
    ------
    UnexpressedError
        If it says what is not modelled, or cannot be read.
    """
    said = f"{row.text('method')} {row.text('offload')}"
    if reason := _named(UNMODELLED, said):
        raise UnexpressedError(reason)
    cells = {name: cell for name, cell in row.cells.items() if name != "offload"}
    for name in ("ulysses", "ring"):
        if not cells.get(name, "1").isdigit():
            del cells[name]
    source = row.text("source")
    cells |= {
        "interconnect": row.text("interconnect") or _named(NETWORKS, source),
        "memory_kind": row.text("memory_kind") or _named(MEMORY_KINDS, source),
        "task": "pretrain",
        "framework": _named(FRAMEWORKS, f"{row.text('method')} {source}"),
        "precision": row.text("precision", "bf16").split()[0],
        "zero": _zero(row),
        "recompute": _recompute(row),
        "gated": str(int(bool(GATED.match(row.text("model"))))),
        "tp_sp": str(int("tp-sp" in said.lower() or "megatron-sp" in said.lower())),
    }
    cells |= _batch(row, _replicas(replace(row, cells=cells)))
    return replace(row, cells={name: cell for name, cell in cells.items() if cell})


def _named(table: tuple[tuple[str, str], ...], said: str) -> str:
    """Return what a table has for the first of its words that are said; nothing without."""
    return next((name for words, name in table if re.search(words, said, re.IGNORECASE)), "")


def _zero(row: Row) -> str:
    found = _ZERO.search(row.text("zero"))
    if found is None:
        return "0"
    return found[1] or "3"


def _recompute(row: Row) -> str:
    said = row.text("recompute").split("(")[0].strip()
    if said:
        return said
    return "full" if REPEATING.search(row.text("source")) else ""


def _replicas(row: Row) -> int:
    """Return how many groups of ranks have sequences of their own."""
    group = row.count("tp", 1) * row.count("pp", 1)
    cp = row.count("cp", row.count("ulysses", 1) * row.count("ring", 1))
    gpus = row.count("gpus")
    if gpus % (group * cp):
        raise UnexpressedError(f"{group * cp} ranks of a replica do not divide {gpus}")
    return gpus // (group * cp)


def _batch(row: Row, replicas: int) -> dict[str, str]:
    """Return sequences of a step and of a pass: what rows state of each replica, or of all."""
    said = row.text("global_batch", "1")
    found = _PER_GROUP.match(said)
    if found is None:
        raise UnexpressedError(f"batch not expressed: {said[:40]}")
    each, repeats = int(found[1]), found[2] or "1"
    again = row.count("cp", 1) if repeats == "sp" else int(repeats)
    if said.isdigit() and each > replicas:  # of all replicas together
        return {"global_batch": said}
    return {"global_batch": str(each * again * replicas), "micro_batch": str(each)}
