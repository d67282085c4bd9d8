"""The layout axes as command-line options, declared once for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a layout takes where an axis is not named.
USUAL = (
    "ZeRO-1, micro-batch 1, tp_sp with tp, 1F1B, fused kernels, no recomputation, and as much data "
    "parallelism as is left"
)

#: Axis, and what its option means.
AXIS_HELP: dict[str, str] = {
    "tp": "Tensor-parallel ranks.",
    "ulysses": "Context-parallel ranks that trade heads.",
    "ring": "Context-parallel ranks that pass keys and values on.",
    "inner_ring": "Ranks of one window of a double ring; 1 is a flat ring.",
    "cp": "Context-parallel ranks in all: ulysses x ring.",
    "pp": "Pipeline ranks.",
    "dp": "Data-parallel ranks.",
    "ep": "Ranks that experts are spread over, out of those of dp, cp and tp.",
    "etp": "Ranks that cut each expert, out of those of dp, cp and tp.",
    "vp": "Model chunks per pipeline rank (interleaving; 2 in a V).",
    "micro_batch": "Sequences of one forward pass.",
    "zero": "ZeRO stage 0..3; 3 is FSDP.",
    "dp_replicate": "HSDP: replicas of the shards.",
    "tp_sp": "Megatron's sequence parallelism: on or off.",
    "cp_method": "p2p, all_gather or per-layer (gathered under windows), for the ring axis.",
    "sequence_order": "zigzag or contiguous, for the ring axis.",
    "cp_placement": "head-first or context-first: the inner of ulysses and ring.",
    "schedule": "1f1b, interleaved, gpipe, looped-bfs, zb-h1, zb-h2, zb-v, dualpipe or dualpipe-v.",
    "recompute": "none, selective or full.",
    "recompute_layers": "With full: layers of each pipeline rank (0 for all).",
    "recompute_method": "block (the first layers of a rank) or uniform (every so many together).",
    "recompute_modules": (
        "With selective and fused kernels: core_attn (the default), layernorm, mlp, moe_act, "
        "mla_up_proj, moe, shared_experts, or several, joined by commas."
    ),
    "rank_order": "tp-cp-ep-dp-pp (innermost first), or cp-ep, dp and pp in another order.",
    "stage_split": "even or balanced layers per stage.",
    "dispatch": "all-to-all, hierarchical or deepep: how tokens reach experts.",
    "shared_overlap": "Shared experts run while tokens travel: on or off.",
    "expert_overlap": (
        "Another micro-batch's pass runs while tokens travel: on or off; off unless asked for."
    ),
    "kernels": "eager (Hugging Face) or fused (Megatron, TransformerEngine).",
}


def with_axes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per axis; :func:`given` finds them among its ``**options``."""
    return with_options(
        command,
        {
            axis: (
                Annotated[
                    str | None,
                    typer.Option(
                        f"--{axis.replace('_', '-')}", help=text, rich_help_panel="Layout"
                    ),
                ],
                None,
            )
            for axis, text in AXIS_HELP.items()
        },
    )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the axes a user gave."""
    return {axis: options[axis] for axis in AXIS_HELP if options[axis] is not None}
