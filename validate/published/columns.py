"""The one table of what columns of published runs are called, and which schema a file has."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What a column is called here, in tables of training runs, and in tables of sequence parallelism;
#: empty where a table has none.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("id", "row_id", "id"),
    ("source", "source_id", "source"),
    ("grade", "completeness", "grade"),
    ("suspect", "suspect", ""),
    ("repeats", "dup_group", ""),
    ("accelerator", "accel_class", "hardware"),
    ("device_memory", "accel_mem_gib", "gpu_mem_gib"),
    ("gpus", "n_accel", "n_gpus"),
    ("gpus_per_node", "accel_per_node", "gpus_per_node"),
    ("interconnect", "interconnect", "interconnect"),
    ("model", "model", "model"),
    ("layers", "layers", "layers"),
    ("hidden", "hidden", "hidden"),
    ("heads", "heads", "heads"),
    ("kv_heads", "kv_heads", "kv_heads"),
    ("head_dim", "head_dim", "head_dim"),
    ("ffn", "ffn", "ffn"),
    ("vocab", "vocab", "vocab"),
    ("gated", "glu", ""),
    ("tied", "tied_emb", ""),
    ("attention", "attn_kind", ""),
    ("experts", "moe_experts", ""),
    ("top_k", "moe_topk", ""),
    ("expert_ffn", "moe_ffn", ""),
    ("shared_ffn", "moe_shared_ffn", ""),
    ("expert_layers", "moe_layers", ""),
    ("predict_depth", "mtp_layers", ""),
    ("seq_len", "seq", "seq_len"),
    ("global_batch", "global_batch", "batch"),
    ("micro_batch", "micro_batch", ""),
    ("precision", "precision", "precision"),
    ("precision_class", "precision_class", "precision"),
    ("tp", "tp", "tp"),
    ("tp_sp", "sp", ""),
    ("cp", "cp", "sp_degree"),
    ("cp_kind", "cp_type", "method"),
    ("ulysses", "ulysses", "ulysses_degree"),
    ("ring", "ring", "ring_degree"),
    ("pp", "pp", "pp"),
    ("vp", "vp", ""),
    ("ep", "ep", "ep"),
    ("etp", "etp", ""),
    ("zero", "zero_stage", "zero_fsdp"),
    ("fsdp", "fsdp", ""),
    ("dp", "dp", "dp"),
    ("dp_replicate", "dp_replicate", ""),
    ("overlap", "overlap_notes", ""),
    ("cuda_graph", "cuda_graph", ""),
    ("recompute", "recompute", "recompute"),
    ("recompute_detail", "recompute_detail", ""),
    ("offload", "offload", "offload"),
    ("task", "task", "scope"),
    ("framework", "framework", ""),
    ("framework_version", "framework_version", ""),
    ("date", "source_date", ""),
    ("step_s", "ref_step_time_s", ""),
    ("metric", "", "metric"),
    ("value", "", "value"),
    ("unit", "", "unit"),
    ("basis", "ref_basis", "basis"),
    ("peak_memory", "peak_mem_gib", "peak_mem_gib"),
    ("memory_kind", "mem_kind", ""),
    ("status", "", "status"),
    ("pass", "", "pass"),
    ("causal", "", "causal"),
    ("method", "", "method"),
    ("seq_layout", "", "seq_layout"),
    ("notes", "", "notes"),
    ("locator", "", "source_locator"),
    ("split", "split", ""),
    ("assumed", "assumed", ""),
    ("family", "family", ""),
)
#: Columns whose zero says that there is none of it; all other numbers are above zero.
NONE_AT_ZERO = (
    "gated",
    "tied",
    "tp_sp",
    "zero",
    "experts",
    "shared_ffn",
    "predict_depth",
    "causal",
)
#: What the first column is called in each schema.
TRAINING, SEQUENCE_PARALLEL = "row_id", "id"
#: What rows of the first schema are of; those of the second say it themselves (``scope``).
TRAINING_RUN = "training_run"
#: How like a column that a file lacks an unread one is that may be meant for it, and how many of
#: those are named: a wrong name here costs a line, a column that is not read costs the prediction.
LIKE, MOST_MEANT = 0.7, 2
#: Scopes of the second schema that are predicted.
ATTENTION_ONLY, TRAIN_STEP = "attention_only", "train_step"


def names_of(header: Sequence[str], file: str) -> dict[str, str]:
    """Return what each column is called in a file, by its header.

    Raises
    ------
    SpecError
        If it is of neither schema.
    """
    if TRAINING in header:
        schema = 1
    elif SEQUENCE_PARALLEL in header:
        schema = 2
    else:
        mend = f"a column {TRAINING} (training runs) or {SEQUENCE_PARALLEL} (sequence parallelism)"
        raise SpecError(
            [Problem(file, ",".join(header[:4]) or "empty", f"no known table: it needs {mend}")]
        )
    return {each[0]: each[schema] for each in COLUMNS if each[schema]}


def meant_by(header: Sequence[str], names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the columns of a file that are not read but look like some that it lacks.

    Tables have columns for people too: one that is like no missing column is passed over.

    Parameters
    ----------
    header
        The file's columns.
    names
        What each column is called in its schema, by what it is called here.

    >>> meant_by(["row_id", "stepp_time", "remarks"], names_of(["row_id"], "mine.csv"))
    {'stepp_time': ('ref_step_time_s',)}
    """
    lacking = {name: column for name, column in names.items() if column not in header}
    known = {**lacking, **{column: column for column in lacking.values()}}
    unread = [column for column in header if column and column not in names.values()]
    found = {
        column: get_close_matches(column.lower(), known, n=4, cutoff=LIKE) for column in unread
    }
    return {
        column: tuple(dict.fromkeys(known[name] for name in near))[:MOST_MEANT]
        for column, near in found.items()
        if near
    }
