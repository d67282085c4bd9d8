"""DeepSeek-V3 on 2,048 H800 in its published layout: what each of its choices is worth.

The layout of arXiv:2412.19437 section 3.2: 16 pipeline ranks in DualPipe, experts over 64 ranks
(8 nodes), no tensor parallelism, ZeRO-1, products in fp8 with scales of blocks, tokens sent once to
each node, norms, activations of experts and up-projections of latent attention recomputed, one
layer of multi-token prediction; 4,096 tokens x 15,360 sequences a step. Then the same with one
choice undone at a time.

    python -m examples.deepseek_v3
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from examples.published import like
from examples.table import HEAD, cells, print_table
from planner.ask import estimate

if TYPE_CHECKING:
    from planner.plans import Plan

MODEL, CLUSTER, SEQ_LEN, GLOBAL_BATCH = "deepseek-v3", "h800-hgx:256", 4_096, 15_360
PUBLISHED: dict[str, Any] = {
    "precision": "fp8-blockwise",
    "predict_depth": 1,
    "dp": 128,
    "pp": 16,
    "ep": 64,
    "zero": 1,
    "schedule": "dualpipe",
    "dispatch": "deepep",
    "recompute": "selective",
    "recompute_modules": "layernorm,moe_act,mla_up_proj",
    "gradients": "fp32",
    "optimizer": "adamw-bf16",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """The published layout with some choices changed.

    Parameters
    ----------
    title
        What is changed.
    changed
        Choices and axes that differ.
    """

    title: str
    changed: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("as published"),
    Variant("products in bf16", {"precision": "bf16"}),
    Variant("1F1B: exchanges exposed", {"schedule": "1f1b"}),
    Variant("every copy sent (all-to-all)", {"dispatch": "all-to-all"}),
    Variant("experts over one node", {"ep": 8}),
    Variant("nothing recomputed", {"recompute": "none", "recompute_modules": "core_attn"}),
    Variant("no multi-token prediction", {"predict_depth": 0}),
    Variant("routing skewed (0.2)", {"expert_skew": 0.2}),
)


def evaluated(variant: Variant) -> Plan:
    """Return the estimate of a variant."""
    return estimate(
        MODEL,
        CLUSTER,
        seq_len=SEQ_LEN,
        global_batch=GLOBAL_BATCH,
        **{**PUBLISHED, **variant.changed},
    )


def main() -> None:
    """Print a row for each variant, and what was published."""
    print(f"{MODEL}, {SEQ_LEN} tokens x {GLOBAL_BATCH} sequences on {CLUSTER}")
    print_table([["", *HEAD], *([x.title, *cells(evaluated(x))] for x in VARIANTS)])
    print("! does not fit; MFU is of the dense peak of the products' precision")
    for sentence in like(MODEL):
        print(sentence)


if __name__ == "__main__":
    main()
