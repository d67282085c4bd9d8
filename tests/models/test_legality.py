"""Which layouts are possible, and what a user reads where one is not."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.framework_choice import (
    ANY,
    UNRESTRICTED,
    framework_names,
    frameworks,
    has_ability,
    lacking,
    recompute_modules,
    runnable,
    runs_in,
    why_not,
)
from models.layout import Layout, LayoutBatch
from models.legality import RULES, legal, mesh_legal, options_legal, problems
from models.model_states import USUAL_STATES
from models.named_axes import (
    CpMethod,
    Dispatch,
    Kernels,
    RankOrder,
    Recompute,
    RecomputeMethod,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.recompute_modules import NOTHING, RecomputeModules
from models.rules.rule import Job
from models.workload import Workload
from tests import strategies
from topologies.errors import SpecError

if TYPE_CHECKING:
    from tests.strategies import Drawn


def job(name: str = "llama-3.1-8b", gpus: int = 8, **workload: Any) -> Job:
    """Return a job; Llama-3.1-8B has 32 heads over 8, an MLP of 14,336 and 32 layers."""
    return Job(
        architecture=load_architecture(name),
        workload=Workload(**{"seq_len": 65536, "global_batch": 48, **workload}),
        gpus=gpus,
    )


#: Two of the modules that dense layers have.
BY_MODULES = Layout(
    dp=8,
    recompute=Recompute.SELECTIVE,
    recompute_modules=RecomputeModules.CORE_ATTN | RecomputeModules.MLP,
)


def mixtral(gpus: int = 8) -> Job:
    """Return a job with 8 experts of 14,336 columns."""
    return job("mixtral-8x7b", gpus=gpus)


#: One layout for every rule, broken once: field, value shown, a word of the mend.
BROKEN: list[tuple[str, Layout, Job, str, str]] = [
    ("dp", Layout(dp=3), job(), "3", "the cluster has 8"),
    ("dp", Layout(dp=2, tp=2), job(), "2", "use --dp 4"),
    ("tp", Layout(tp=3), job(gpus=3), "3", "must divide the 32 attention heads"),
    ("tp", Layout(tp=7, zero=0), job("qwen2.5-7b", gpus=7), "7", "the 4 key/value heads"),
    ("tp", Layout(tp=64), job("llama-2-7b", gpus=64), "64", "attention heads"),
    (
        "tp",
        Layout(tp=7),
        job("qwen2.5-7b", gpus=7),
        "7",
        "the 18944 columns of the MLP",
    ),
    ("ulysses", Layout(ulysses=3), job(gpus=3), "3", "move part of it to --ring"),
    ("ulysses", Layout(ulysses=7), job("qwen2.5-7b", gpus=7, seq_len=7168), "7", "4 key/value"),
    ("ulysses", Layout(tp=4, ulysses=16), job(gpus=64), "16", "the 8 attention heads that tp 4"),
    ("seq_len", Layout(ring=8), job(seq_len=65544), "65544", "pad to 65552 tokens"),
    (
        "seq_len",
        Layout(ring=8, sequence_order=SequenceOrder.CONTIGUOUS),
        job(seq_len=65540),
        "65540",
        "pad to 65544 tokens",
    ),
    ("tp_sp", Layout(tp=8, tp_sp=True), job(seq_len=65540), "on", "multiple of cp x tp = 8"),
    ("tp_sp", Layout(dp=8, tp_sp=True), job(), "on", "use --tp 2 or more"),
    (
        "pp",
        Layout(pp=64, dp=1, stage_split=StageSplit.BALANCED),
        job(gpus=64),
        "64",
        "there are 32 layers",
    ),
    ("stage_split", Layout(pp=3), job(gpus=3), "even", "use --stage-split balanced"),
    ("micro_batch", Layout(dp=8, micro_batch=4), job(), "4", "must divide --global-batch 48"),
    ("vp", Layout(pp=8, vp=2), job(), "2", "is the interleaved or the looped-bfs schedule"),
    (
        "vp",
        Layout(pp=8, schedule=Schedule.INTERLEAVED),
        job(),
        "1",
        "is the interleaved or the looped-bfs schedule",
    ),
    (
        "schedule",
        Layout(dp=8, vp=2, schedule=Schedule.INTERLEAVED),
        job(),
        "interleaved",
        "needs --pp 2 or more",
    ),
    (
        "schedule",
        Layout(pp=8, vp=2, schedule=Schedule.INTERLEAVED),
        job(global_batch=12),
        "interleaved",
        "in multiples of pp = 8",
    ),
    ("vp", Layout(pp=8, schedule=Schedule.ZB_V), job(), "1", "use --vp 2"),
    ("vp", Layout(pp=8, vp=4, schedule=Schedule.DUALPIPE_V), job(), "4", "use --vp 2"),
    ("vp", Layout(pp=8, vp=2, schedule=Schedule.ZB_H1), job(), "2", "and the reverse"),
    ("schedule", Layout(dp=8, schedule=Schedule.ZB_H1), job(), "zb-h1", "needs --pp 2 or more"),
    (
        "schedule",
        Layout(pp=8, schedule=Schedule.ZB_H2),
        job(global_batch=14),
        "zb-h2",
        "needs 15 micro-batches per step or more",
    ),
    (
        "schedule",
        Layout(pp=8, vp=2, schedule=Schedule.ZB_V),
        job(global_batch=14),
        "zb-v",
        "needs 15 micro-batches per step or more",
    ),
    (
        "schedule",
        Layout(pp=8, vp=2, schedule=Schedule.DUALPIPE_V),
        job(global_batch=15),
        "dualpipe-v",
        "needs 16 micro-batches per step or more",
    ),
    (
        "schedule",
        Layout(pp=8, schedule=Schedule.DUALPIPE),
        job(global_batch=17),
        "dualpipe",
        "even micro-batches per step",
    ),
    ("dp_replicate", Layout(dp=8, dp_replicate=3), job(), "3", "must divide dp = 8"),
    ("dp_replicate", Layout(dp=8, dp_replicate=2, zero=0), job(), "2", "use --zero 1, 2 or 3"),
    (
        "cp_method",
        Layout(ulysses=2, ring=4, cp_method=CpMethod.ALL_GATHER),
        job(),
        "all-gather",
        "do not combine with Ulysses",
    ),
    (
        "cp_method",
        Layout(ulysses=2, ring=4, cp_method=CpMethod.ALL_GATHER),
        job("mistral-7b"),
        "all-gather",
        "use either: layers have sliding windows",
    ),
    (
        "recompute_method",
        Layout(dp=8, recompute=Recompute.FULL, recompute_method=RecomputeMethod.UNIFORM),
        job(),
        "uniform",
        "--recompute-layers, such as 2",
    ),
    (
        "recompute_layers",
        Layout(
            dp=8,
            recompute=Recompute.FULL,
            recompute_layers=5,
            recompute_method=RecomputeMethod.UNIFORM,
        ),
        job(),
        "5",
        "must divide the layers of a stage",
    ),
    (
        "cp_method",
        Layout(ring=8, cp_method=CpMethod.PER_LAYER),
        job(),
        "per-layer",
        "all layers of this job are alike",
    ),
    ("inner_ring", Layout(ring=8, inner_ring=3), job(), "3", "must divide ring = 8"),
    ("ep", Layout(dp=8, ep=2), job(), "2", "the model has no experts"),
    ("ep", Layout(dp=8, ep=16), mixtral(), "16", "must divide the 8 experts"),
    ("ep", Layout(dp=2, pp=4, ep=8), mixtral(), "8", "must divide dp x cp x tp = 2"),
    ("etp", Layout(dp=3, etp=3), mixtral(gpus=3), "3", "must divide the 14336 columns"),
    ("tp_sp", Layout(tp=2, dp=4, ep=4), mixtral(), "off", "routes tokens of its own"),
    (
        "rank_order",
        Layout(pp=2, dp=4, ep=4, rank_order=RankOrder.TP_CP_EP_PP_DP),
        mixtral(),
        "tp-cp-ep-pp-dp",
        "between the ranks of one group",
    ),
    ("dp_replicate", Layout(dp=8, ep=4, dp_replicate=4), mixtral(), "4", "must divide the 2 ranks"),
    ("dispatch", Layout(dp=8, dispatch=Dispatch.DEEPEP), mixtral(), "deepep", "use --ep 2"),
    ("shared_overlap", Layout(dp=8, ep=2, shared_overlap=True), mixtral(), "on", "shared experts"),
    ("expert_overlap", Layout(dp=8, expert_overlap=True), mixtral(), "on", "needs --ep 2 or more"),
    ("inner_ring", Layout(ring=8, inner_ring=8), job(), "8", "and be smaller"),
    ("inner_ring", Layout(dp=8, inner_ring=2), job(), "2", "or be 1 for a flat ring"),
    (
        "inner_ring",
        Layout(ring=8, inner_ring=2, cp_method=CpMethod.ALL_GATHER),
        job(),
        "2",
        "use --cp-method p2p",
    ),
    ("ring", Layout(ring=8), job("mistral-7b"), "8", "layers with sliding windows"),
    ("ring", Layout(ring=8), job("llama-4-scout"), "8", "layers with chunks do not run on a p2p"),
    (
        "ring",
        Layout(ring=8, cp_method=CpMethod.ALL_GATHER),
        job("gpt-oss-20b"),
        "8",
        "layers with attention sinks run on whole sequences: use --ulysses",
    ),
    ("ring", Layout(ring=8), job("bloom-176b"), "8", "layers with ALiBi run on whole sequences"),
    (
        "ring",
        Layout(ring=8),
        job("gpt3-175b", seq_len=2048, software="megatron-2021"),
        "8",
        "megatron-2021 computes attention with all keys at hand: use --ulysses, or other",
    ),
    (
        "ring",
        Layout(ulysses=2, ring=4),
        job("mistral-7b"),
        "4",
        "use --ulysses, or --cp-method all-gather without it",
    ),
    (
        "recompute_layers",
        Layout(dp=8, recompute_layers=4),
        job(),
        "4",
        "goes with --recompute full",
    ),
    (
        "recompute_layers",
        Layout(dp=8, recompute=Recompute.FULL, recompute_layers=33),
        job(),
        "33",
        "at most all of them",
    ),
    (
        "recompute_modules",
        Layout(dp=8, recompute_modules=RecomputeModules.MLP),
        job(),
        "mlp",
        "go with --recompute selective",
    ),
    (
        "recompute_modules",
        replace(BY_MODULES, kernels=Kernels.EAGER),
        job(),
        "core_attn+mlp",
        "and --kernels fused",
    ),
    (
        "recompute_modules",
        replace(BY_MODULES, recompute_modules=RecomputeModules.MOE),
        job(),
        "moe",
        "Llama 3.1 8B has core_attn+layernorm+mlp: name one or more of these",
    ),
    (
        "recompute_modules",
        replace(BY_MODULES, recompute_modules=NOTHING),
        job(),
        "none",
        "name one or more of these",
    ),
]


@pytest.mark.parametrize(
    ("axis", "layout", "work", "value", "mend"),
    BROKEN,
    ids=[f"{axis}-{i}" for i, (axis, *_) in enumerate(BROKEN)],
)
def test_a_broken_rule_names_its_flag_its_value_and_the_mend(
    axis: str, layout: Layout, work: Job, value: str, mend: str
) -> None:
    found = [p for p in problems(layout, work) if p.field == f"--{axis.replace('_', '-')}"]
    assert found
    assert any(str(p.value) == value and mend in p.mend for p in found)
    assert not legal(LayoutBatch.of([layout]), work).any()


@pytest.mark.parametrize(
    ("name", "seq_len"), [("llama-4-scout", 8192), ("mistral-7b", 4096), ("llama-3.1-8b", 65536)]
)
def test_windows_and_chunks_of_whole_sequences_go_round_a_ring(name: str, seq_len: int) -> None:
    assert not problems(Layout(ring=8), job(name, seq_len=seq_len))


def test_every_rule_is_broken_by_one_of_these() -> None:
    """A rule added without a case here, or one that never fires, fails."""
    unbroken = [
        rule
        for rule in RULES
        if all(rule.holds(LayoutBatch.of([x]), work)[0] for _, x, work, *_ in BROKEN)
    ]
    assert [rule.axis for rule in unbroken] == []


def test_all_problems_come_at_once() -> None:
    layout = Layout(
        dp=3, tp=3, pp=5, ulysses=5, vp=2, micro_batch=7, tp_sp=True, dp_replicate=2, zero=0
    )
    fields = Counter(p.field for p in problems(layout, job()))
    expected = ("--dp", "--tp", "--ulysses", "--vp", "--stage-split", "--dp-replicate", "--tp-sp")
    assert set(expected) <= set(fields)
    assert "--micro-batch" in fields


@pytest.mark.parametrize(
    ("axis", "layout"),
    [
        ("dp", Layout(tp=65536, ulysses=65536)),
        ("dp", Layout(ulysses=32768, ring=32768)),
        ("dp", Layout(dp=10**7, tp=10**7, pp=10**7, ulysses=10**7, ring=10**7)),
        ("ep", Layout(dp=8, ep=65536, etp=65536)),
        ("pp", Layout(pp=65536, vp=65536)),
        ("pp", Layout(pp=2, recompute=Recompute.FULL, recompute_layers=2**30)),
        ("micro_batch", Layout(dp=65536, micro_batch=65536)),
    ],
)
def test_degrees_that_would_overflow_are_refused_without_a_warning(
    axis: str, layout: Layout
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = problems(layout, mixtral())
    assert found.field == f"--{axis.replace('_', '-')}"
    assert "lower these axes" in found.mend


def test_a_layout_without_problems_has_none() -> None:
    layout = Layout(dp=2, tp=2, ring=2, tp_sp=True, recompute=Recompute.FULL, recompute_layers=3)
    assert problems(layout, job()) == []


@pytest.mark.parametrize(
    ("ring", "order", "divisible"),
    [(8, SequenceOrder.ZIGZAG, 16), (8, SequenceOrder.CONTIGUOUS, 8)],
)
def test_zigzag_needs_twice_as_many_chunks(ring: int, order: SequenceOrder, divisible: int) -> None:
    layout = LayoutBatch.of([Layout(ring=ring, sequence_order=order)])
    for tokens in range(divisible * 64, divisible * 64 + divisible + 1):
        lawful = legal(layout, job(seq_len=tokens))[0]
        assert lawful == (tokens % divisible == 0), tokens


@pytest.mark.parametrize(
    ("name", "feasible"),
    [
        ("qwen2.5-7b", {1, 2, 4, 28}),  # 28 heads over 4
        ("llama-3.1-8b", {1, 2, 4, 8, 16, 32}),  # 32 over 8
        ("llama-3.1-70b", {1, 2, 4, 8, 16, 32, 64}),  # 64 over 8
        ("llama-2-13b", {1, 2, 4, 5, 8, 10, 20, 40}),  # 40 over 40
    ],
)
def test_ulysses_degrees_divide_the_heads_and_divide_or_replicate_the_keys(
    name: str, feasible: set[int]
) -> None:
    """P divides H, and Hk divides P or P divides Hk."""
    found = {
        degree
        for degree in range(1, 65)
        if mesh_legal(
            LayoutBatch.of([Layout(ulysses=degree)]), job(name, gpus=degree, seq_len=degree * 128)
        )[0]
    }
    assert found == feasible


@given(strategies.jobs_with_layouts(least=1, most=4), st.sampled_from([1, 2, 3]))
def test_sentences_and_masks_agree(drawn: Drawn, factor: int) -> None:
    """On legal layouts, and on those a changed degree makes illegal."""
    changed = [replace(x, pp=x.pp * factor, micro_batch=factor) for x in drawn.layouts]
    batch = LayoutBatch.of([*drawn.layouts, *changed])
    lawful = legal(batch, drawn.job)
    for i in range(len(batch)):
        assert lawful[i] == (problems(batch.layout(i), drawn.job) == [])
    both = mesh_legal(batch, drawn.job) & options_legal(batch, drawn.job)
    assert np.array_equal(lawful, both)
    assert lawful[: len(drawn.layouts)].all()


def test_refusals_are_counted_for_the_first_rule_that_turns_a_layout_away() -> None:
    refused: Counter[str] = Counter()
    layouts = [Layout(dp=3, dp_replicate=2), Layout(dp=8, dp_replicate=3), Layout(dp=8)]
    legal(LayoutBatch.of(layouts), job(), refused)
    assert {axis: n for axis, n in refused.items() if n} == {"dp": 1, "dp_replicate": 1}


# ------------------------------------------------------------------------------------- frameworks

LLAMA = load_architecture("llama-3.1-8b")
ULYSSES_16 = Layout(ulysses=16)
RING = Layout(ring=8)
HYBRID = Layout(ulysses=2, ring=4)
DOUBLE = Layout(ring=8, inner_ring=4)
FSDP = Layout(dp=8, zero=3, kernels=Kernels.EAGER)


def runs(framework: str, layout: Layout) -> bool:
    return bool(runnable(LayoutBatch.of([layout]), LLAMA, framework)[0])


@pytest.mark.parametrize(
    ("framework", "layout", "expected", "why"),
    [
        ("megatron", replace(ULYSSES_16, ulysses=8), True, "as many as key/value heads"),
        ("megatron", ULYSSES_16, False, "TransformerEngine asserts kv heads % cp == 0"),
        ("megatron", Layout(tp=2, ulysses=8), False, "tp leaves 4 key/value heads"),
        ("megatron", Layout(tp=2, ulysses=4), True, "and Ulysses 4 uses them all"),
        ("megatron", HYBRID, True, "a2a+p2p"),
        ("megatron", replace(HYBRID, cp_placement=1), False, "the all-to-all is the inner level"),
        ("megatron", replace(RING, kernels=Kernels.EAGER), False, "TransformerEngine's kernels"),
        ("megatron", replace(RING, sequence_order=0), False, "dual chunk swap only"),
        ("megatron", Layout(dp=8, zero=3), False, "the distributed optimizer is ZeRO-1"),
        ("megatron", Layout(pp=8, vp=2, schedule=Schedule.INTERLEAVED), True, "its own"),
        ("megatron", Layout(pp=8, schedule=Schedule.GPIPE), False, "no GPipe"),
        ("megatron", BY_MODULES, True, "core_attn and mlp"),
        ("megatron", replace(BY_MODULES, recompute_modules=2), False, "norms within products"),
        ("torchtitan", BY_MODULES, False, "eager kernels only"),
        ("megatron-fsdp", Layout(dp=8, zero=3), True, "optim_grads_params"),
        ("megatron-fsdp", Layout(dp=4, pp=2, zero=3), False, "no pipeline"),
        ("torchtitan", FSDP, True, "fully_shard"),
        ("torchtitan", replace(FSDP, dp=1, ring=8), False, "keys and values are gathered"),
        (
            "torchtitan",
            replace(FSDP, dp=1, ring=8, cp_method=CpMethod.ALL_GATHER),
            True,
            "context parallelism is all-gather",
        ),
        ("torchtitan", replace(FSDP, dp=1, ulysses=8), False, "no Ulysses"),
        ("torchtitan", replace(FSDP, zero=1), False, "shards everything or nothing"),
        ("torchtitan", replace(FSDP, dp_replicate=2), True, "HSDP"),
        ("torchtitan", replace(FSDP, recompute=2, recompute_layers=4), False, "all or none"),
        ("deepspeed", replace(FSDP, dp=1, ulysses=8), True, "ALST"),
        ("deepspeed", replace(FSDP, dp=1, ulysses=16), True, "replicates key/value heads"),
        ("deepspeed", replace(FSDP, dp=1, ulysses=4, tp=2), False, "Ulysses without tensor"),
        ("deepspeed", replace(FSDP, dp=4, tp=2), False, "no tensor parallelism"),
        ("deepspeed", replace(FSDP, dp=1, ring=8), False, "no ring"),
        ("deepspeed", replace(FSDP, dp=1, ring=8, sequence_order=0), False, "of any order"),
        (
            "deepspeed",
            replace(FSDP, dp=1, ulysses=2, ring=4, sequence_order=0),
            False,
            "and no hybrid",
        ),
        ("deepspeed", replace(FSDP, recompute=Recompute.SELECTIVE), False, "whole layers"),
        ("accelerate", FSDP, True, "FSDP2"),
        ("accelerate", replace(FSDP, dp=1, ulysses=8), False, "context or sequence parallel"),
        ("accelerate", replace(FSDP, dp=4, pp=2), False, "no pipeline"),
    ],
)
def test_frameworks_run_what_they_can(
    framework: str, layout: Layout, expected: bool, why: str
) -> None:
    assert runs(framework, layout) is expected, why


def test_deepspeed_runs_ulysses_whatever_order_the_tokens_would_have_in_a_ring() -> None:
    """An axis without effect is not asked about."""
    for order in SequenceOrder:
        assert runs("deepspeed", replace(FSDP, dp=1, ulysses=8, sequence_order=order))


def test_any_framework_is_the_union_and_unrestricted_is_everything() -> None:
    layouts = [ULYSSES_16, RING, HYBRID, FSDP, Layout(pp=8, schedule=Schedule.GPIPE), Layout()]
    batch = LayoutBatch.of(layouts)
    union = np.logical_or.reduce([runnable(batch, LLAMA, name) for name in frameworks()])
    assert np.array_equal(runnable(batch, LLAMA, ANY), union)
    assert runnable(batch, LLAMA, UNRESTRICTED).all()
    assert not union.all()
    names = runs_in(batch, LLAMA)
    assert [bool(found) for found in names] == union.tolist()
    assert "megatron" in names[1]


def test_an_unknown_framework_offers_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean megatron"):
        runnable(LayoutBatch.of([Layout()]), LLAMA, "megatrn")
    with pytest.raises(SpecError, match="did you mean megatron"):
        has_ability("ring", "megatrn")


def test_no_known_framework_runs_a_double_ring() -> None:
    assert not runnable(LayoutBatch.of([DOUBLE]), LLAMA, ANY).any()
    assert runnable(LayoutBatch.of([DOUBLE]), LLAMA, UNRESTRICTED).all()
    reasons = why_not(DOUBLE, LLAMA)
    assert set(reasons) == set(frameworks())
    assert all("no double ring" in words for words in reasons.values())


def test_abilities_are_those_of_the_frameworks_asked() -> None:
    assert has_ability("double_ring", UNRESTRICTED)
    assert not has_ability("double_ring", ANY)
    assert has_ability("hybrid", ANY)
    assert not has_ability("hybrid", "torchtitan")


def test_norms_are_repeated_alone_where_no_product_has_them_within() -> None:
    """Megatron's layers of experts and of latent attention."""
    for name, can in (("llama-3.1-8b", False), ("mixtral-8x7b", True), ("deepseek-v3", True)):
        found = recompute_modules("megatron", load_architecture(name))
        assert (RecomputeModules.LAYERNORM in found) is can
        assert RecomputeModules.LAYERNORM in recompute_modules(UNRESTRICTED, LLAMA)
        assert recompute_modules("torchtitan", LLAMA) == NOTHING


def test_what_no_framework_of_a_choice_has_for_any_layout_is_lacking() -> None:
    both = LayoutBatch.of([DOUBLE, replace(DOUBLE, dp=2)])
    found = lacking(both, LLAMA, ANY)
    assert set.intersection(*found.values()) == {"no double ring"}
    alone = {"no ring", "no kernels fused", "no sequence order zigzag"}
    assert found["deepspeed"] == alone | {"no double ring"}
    assert lacking(both, LLAMA, "deepspeed") == {"deepspeed": found["deepspeed"]}
    some = lacking(LayoutBatch.of([DOUBLE, RING]), LLAMA, ANY)
    assert (some["megatron"], some["deepspeed"]) == (set(), alone)


@pytest.mark.parametrize("name", framework_names()[2:])
def test_every_framework_names_its_sources_and_runs_one_gpu(name: str) -> None:
    entry: Any = frameworks()[name]
    assert "@" in entry.source or "github" in entry.source or "huggingface/" in entry.source
    kernels = [Layout(kernels=kernel, zero=zero) for kernel in Kernels for zero in (0, 1, 3)]
    assert runnable(LayoutBatch.of(kernels), LLAMA, name).any()


def test_megatron_cuts_heads_of_state_spaces_and_nobody_hands_states_on_along_a_ring() -> None:
    """Megatron replicates groups of state-space heads, not key/value heads."""
    mamba = load_architecture("mamba2-2.7b")
    for framework in frameworks().values():
        refused = framework.refusals(LayoutBatch.of([RING]), mamba, USUAL_STATES)
        assert refused["state_ring"].all()
        assert not framework.refusals(LayoutBatch.of([RING]), LLAMA, USUAL_STATES)[
            "state_ring"
        ].any()
    assert runnable(LayoutBatch.of([ULYSSES_16]), mamba, "megatron").all()
    assert not runnable(LayoutBatch.of([RING, HYBRID]), mamba, ANY).any()


@pytest.mark.parametrize(
    ("layout", "field", "words"),
    [
        (Layout(tp=3), "--tp", "the 8 groups of state-space heads"),
        (Layout(ulysses=256), "--ulysses", "the 32 attention heads"),
        (Layout(tp=16, ulysses=16), "--ulysses", "the 2 attention heads that tp 16 leaves"),
    ],
    ids=str,
)
def test_heads_of_all_mixers_of_a_hybrid_limit_what_cuts_them(
    layout: Layout, field: str, words: str
) -> None:
    found = problems(layout, job("nemotron-h-8b", gpus=layout.gpus, global_batch=48))
    assert any(each.field == field and words in str(each) for each in found), found


def test_zigzag_and_contiguous_rings_are_legal_for_state_spaces() -> None:
    layouts = LayoutBatch.of([Layout(ring=8, sequence_order=order) for order in SequenceOrder])
    assert legal(layouts, job("nemotron-h-8b")).all()
