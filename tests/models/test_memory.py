"""The memory bill, against published bytes per parameter, hand sums and brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch
from models.legality import legal
from models.memory import capacity_bytes, fewest_repeated_layers, memory_bill
from models.memory_bill import LINES, MemoryBill
from models.model_states import ModelStates
from models.named_axes import CpMethod, Kernels, Recompute, RecomputeMethod, Schedule, StageSplit
from models.prepared import Prepared
from models.rules.rule import Job
from models.schedule import SEVERAL_CHUNKS
from models.sequence_parallel.sent import backward_buffer_bytes, forward_buffer_bytes
from models.training import step_time
from models.workload import Workload
from tests import strategies
from tests.models.cases import machine, prepared, shapes, toy, tuned, work_of
from tests.models.schedules import Row, rows
from topologies.catalogue import load_accelerator

if TYPE_CHECKING:
    from tests.strategies import Drawn

DEVICE, _ = machine()
#: No context, no allocator: what remains is what the model asks for.
BARE = tuned(
    DEVICE.profile,
    context_bytes=0.0,
    workspace_bytes=0.0,
    group_bytes=0.0,
    fragmentation=0.0,
    fragmentation_least=0.0,
)
#: A capacity so short that the allocator has given back all that it can.
NO_ROOM = 0.0
STATES = ("parameters", "gradients", "optimizer")
GIB = 2.0**30


def bill(name: str, *layouts: Layout, **workload: int) -> MemoryBill:
    return memory_bill(prepared(load_architecture(name), *layouts, **workload), BARE)


def states(found: MemoryBill) -> Any:
    return sum(getattr(found, line) for line in STATES)


# ----------------------------------------------------------------------------------- model states


@pytest.mark.parametrize("ranks", [1, 2, 8, 64])
@pytest.mark.parametrize(
    ("zero", "bytes_per_parameter"),
    [
        (0, lambda _: 18),  # Megatron without its distributed optimizer
        (1, lambda d: 6 + 12 / d),  # and with it: docs/source/api-guide/dist_optimizer.md
        (2, lambda d: 2 + 16 / d),
        (3, lambda d: 18 / d),
    ],
)
def test_states_are_the_bytes_per_parameter_of_zero_and_megatron(
    zero: int, bytes_per_parameter: Any, ranks: int
) -> None:
    """The ZeRO paper's 2 + 2 + 12 (arXiv:1910.02054 section 3) with gradients in fp32."""
    found = bill("llama-3.1-8b", Layout(dp=ranks, zero=zero))
    assert states(found)[0] == pytest.approx(8_030_261_248 * bytes_per_parameter(ranks))


@pytest.mark.parametrize("axes", [{"dp": 8}, {"ring": 8}, {"ulysses": 8}, {"dp": 2, "ring": 4}])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_states_are_sharded_over_data_and_context_ranks_alike(
    zero: int, axes: dict[str, int]
) -> None:
    """They hold the same weights: DeepSpeed shards over data x sequence parallel."""
    one, both = (bill("llama-3.1-8b", Layout(zero=zero, **a)) for a in ({"dp": 8}, axes))
    assert states(both) == pytest.approx(states(one))


def test_replicas_of_shards_are_not_sharded_over() -> None:
    plain, replicated = (
        bill("llama-3.1-8b", Layout(dp=dp, dp_replicate=many, zero=3))
        for dp, many in ((4, 1), (32, 8))
    )
    assert states(replicated) == pytest.approx(states(plain))


@pytest.mark.parametrize(
    ("tp", "kv_heads"),
    [(1, 8), (8, 1), (16, 1), (64, 1)],  # beyond 8 every rank holds a whole key/value head
)
def test_parameters_of_a_tensor_parallel_rank_by_hand(tp: int, kv_heads: int) -> None:
    hidden, ffn, width, layers, vocab = 8192, 28672, 128, 80, 128256
    layer = hidden * (2 * 8192 / tp + 2 * kv_heads * width) + 3 * hidden * ffn / tp + 2 * hidden
    whole = layers * layer + 2 * vocab * hidden / tp + hidden
    found = bill("llama-3.1-70b", Layout(tp=tp, zero=0))
    assert found.parameters[0] == pytest.approx(2 * whole)


def test_a_tied_head_is_a_second_copy_once_the_last_rank_is_not_the_first() -> None:
    """gemma-3-27b's embedding is 2.6 GiB in bf16: both end ranks hold it."""
    gemma = load_architecture("gemma-3-27b")
    table = gemma.vocab * gemma.hidden
    whole = bill("gemma-3-27b", Layout(zero=0)).parameters[0] / 2
    assert whole == pytest.approx(gemma.params)
    cut = prepared(gemma, Layout(pp=2, zero=0))
    ends = [
        cut.stages.look_up(cut.stages.layers, cut.stage_index, rank)[0]
        * gemma.layers[0].params(gemma.hidden)
        + table
        for rank in (0, 1)
    ]
    assert memory_bill(cut, BARE).parameters[0] / 2 == pytest.approx(max(ends), rel=1e-4)


def test_vocabularies_are_padded_to_the_tensor_parallel_degree() -> None:
    """GPT-2's 50,257 words over 4 ranks are 12,565 each."""
    gpt = load_architecture("gpt2-xl")
    found = [bill("gpt2-xl", Layout(tp=tp, zero=0)).parameters[0] / 2 for tp in (1, 5)]
    assert found[0] == gpt.params
    rows_kept = -(-50257 // 5) * 1600
    rest = found[1] - rows_kept - 1024 * 1600
    layer = gpt.layers[0]
    matrices = layer.mixer.matrix_params(1600) + layer.mlp.matrix_params(1600)
    assert rest == pytest.approx(
        48 * (matrices / 5 + layer.params(1600) - matrices) + gpt.final_norm_params
    )


# ------------------------------------------------------------------------------------ activations


@pytest.mark.parametrize("row", rows(), ids=str)
def test_micro_batches_in_flight_are_those_of_the_published_schedule(row: Row) -> None:
    """On the rank that holds the most; interleaving counts chunks.

    The published generator of ZB-H2 holds on to weights for one micro-batch more than the paper.
    """
    held = 2 * row.pp - 1 if row.schedule is Schedule.ZB_H2 else row.in_flight
    layout = Layout(pp=row.pp, vp=row.vp, schedule=row.schedule)
    work = prepared(toy(num_hidden_layers=64), layout, global_batch=row.micro_batches)
    assert max(work.warm_up().in_flight(np.array([float(r)]))[0] for r in range(row.pp)) == held
    assert work.warm_up().in_flight(np.array([0.0])) == [held]


@pytest.mark.parametrize(
    ("pp", "vp", "held"), [(4, 2, 5.5), (4, 4, 4.75), (8, 2, 11.5), (8, 4, 9.75)]
)
def test_interleaving_holds_more_than_one_micro_batch_per_rank_behind(
    pp: int, vp: int, held: float
) -> None:
    layout = Layout(pp=pp, vp=vp, schedule=Schedule.INTERLEAVED)
    work = prepared(toy(num_hidden_layers=32), layout)
    assert work.warm_up().in_flight(np.array([0.0])) == [held]


@pytest.mark.parametrize("schedule", list(Schedule))
def test_never_more_in_flight_than_there_are_micro_batches(schedule: Schedule) -> None:
    layout = Layout(pp=8, vp=2 if SEVERAL_CHUNKS[schedule] else 1, schedule=schedule)
    work = prepared(toy(num_hidden_layers=32), layout, global_batch=2)
    assert work.warm_up().in_flight(np.array([0.0])) == [2.0]


@pytest.mark.parametrize(
    ("schedule", "vp", "held"),
    [(Schedule.ONE_F_ONE_B, 1, 8), (Schedule.INTERLEAVED, 2, 11.5)],
)
def test_activations_of_the_first_rank_by_hand(schedule: Schedule, vp: int, held: float) -> None:
    """48 layers on 8 ranks: 6 layers' tensors in flight, and the token numbers of all 16."""
    layout = Layout(pp=8, vp=vp, schedule=schedule)
    found = bill("megatron-22b", layout, seq_len=2048, global_batch=16)
    layer = float(work_of("megatron-22b", 2048).saved_bytes()[0])
    assert found.stage == [0]
    assert found.activations[0] == pytest.approx(held * 6 * layer + 16 * 8 * 2048)


def test_gpipe_fills_every_rank_alike_so_the_head_makes_the_last_one_fullest() -> None:
    found = bill(
        "megatron-22b", Layout(pp=8, schedule=Schedule.GPIPE), seq_len=2048, global_batch=16
    )
    layer = float(work_of("megatron-22b", 2048).saved_bytes()[0])
    head = 2048 * (2 * 2 * 6144 + 8) + 4 * 2048 * 51200
    assert found.stage == [7]
    assert found.activations[0] == pytest.approx(16 * (6 * layer + head))


def test_the_last_rank_is_fullest_where_its_logits_outweigh_what_is_in_flight() -> None:
    """128K words at 32K tokens against input-only activations of small layers."""
    layout = Layout(pp=2, recompute=Recompute.FULL, stage_split=StageSplit.EVEN)
    found = bill("llama-3.2-1b", layout, seq_len=32768, global_batch=8)
    assert found.stage == [1]
    assert found.logits > 0


@pytest.mark.parametrize(("kernels", "per_logit"), [(Kernels.EAGER, 12), (Kernels.FUSED, 6)])
def test_the_peak_grows_by_twelve_bytes_per_logit_or_by_six(
    kernels: Kernels, per_logit: int
) -> None:
    """What grows with the vocabulary, beyond its parameters, over tokens and words."""
    found = [
        memory_bill(prepared(toy(vocab_size=vocab), Layout(kernels=kernels)), BARE)
        for vocab in (200_000, 400_000)
    ]
    asked = [float((b.activations + b.logits + b.working)[0]) for b in found]
    assert (asked[1] - asked[0]) / (200_000 * 4096) == pytest.approx(per_logit)


@settings(max_examples=40)
@given(
    strategies.jobs_with_layouts(
        recompute=Recompute.SELECTIVE, recompute_layers=0, kernels=Kernels.FUSED
    )
)
def test_repeating_more_modules_never_needs_more(drawn: Drawn) -> None:
    (layout,) = drawn.layouts
    sets = strategies.DENSE_SETS
    work = drawn.prepared(*(replace(layout, recompute_modules=modules) for modules in sets))
    needed = memory_bill(work, DEVICE.profile).total
    for smaller, larger in product(range(len(sets)), repeat=2):
        if sets[smaller] in sets[larger]:
            assert needed[larger] <= needed[smaller] * (1 + 1e-12)
    (alone,) = memory_bill(drawn.prepared(), DEVICE.profile).total
    assert alone == needed[sets.index(layout.recompute_modules)]


@given(strategies.jobs_with_layouts(recompute=Recompute.NONE, recompute_layers=0))
def test_recomputing_more_never_needs_more(drawn: Drawn) -> None:
    (layout,) = drawn.layouts
    modes = [Recompute.FULL, Recompute.SELECTIVE, Recompute.NONE]
    work = drawn.prepared(*(replace(layout, recompute=mode) for mode in modes))
    found = memory_bill(work, DEVICE.profile)
    full, selective, none = found.total
    assert full <= selective * (1 + 1e-12)
    assert selective <= none * (1 + 1e-12)


@given(strategies.jobs_with_layouts(stage_split=StageSplit.EVEN))
def test_longer_sequences_never_need_less(drawn: Drawn) -> None:
    job = drawn.job
    short, long = (
        memory_bill(
            Prepared.of(job.architecture, replace(job.workload, seq_len=tokens), drawn.batch),
            DEVICE.profile,
        )
        for tokens in (job.workload.seq_len, 2 * job.workload.seq_len)
    )
    assert (long.total >= short.total).all()


@given(
    drawn=strategies.jobs_with_layouts(pp=1, dp_replicate=1),
    axis=st.sampled_from(["tp", "ulysses", "ring", "dp"]),
)
def test_more_shards_never_hold_more(drawn: Drawn, axis: str) -> None:
    """Twice the ranks on one axis, the same micro-batch: states and activations do not grow."""
    job, (layout,) = drawn.job, drawn.layouts
    wider = replace(layout, **{axis: 2 * getattr(layout, axis)})
    larger = Job(
        architecture=job.architecture,
        workload=replace(job.workload, global_batch=2 * job.workload.global_batch),
        gpus=2 * job.gpus,
    )
    assume(bool(legal(LayoutBatch.of([wider]), larger)[0]))
    batch = LayoutBatch.of([layout, wider])
    found = memory_bill(Prepared.of(job.architecture, larger.workload, batch), BARE)
    for line in (*STATES, "activations", "logits"):
        narrow, wide = getattr(found, line)
        assert wide <= narrow * (1 + 1e-12), line


@given(strategies.jobs_with_layouts(least=1, most=4))
def test_every_line_is_a_number_of_bytes_and_they_add_up(drawn: Drawn) -> None:
    found = memory_bill(drawn.prepared(), DEVICE.profile)
    lines = np.stack([getattr(found, line) for line in LINES])
    assert np.isfinite(lines).all()
    assert (lines >= 0).all()
    assert found.total == pytest.approx(lines.sum(axis=0))
    assert all(
        0 <= stage < layout.pp for stage, layout in zip(found.stage, drawn.layouts, strict=True)
    )


def test_what_is_beside_tensors_is_the_profiles() -> None:
    layout = Layout(dp=2, tp=2, ring=2)
    work = prepared(toy(), layout)
    profile = tuned(
        BARE, context_bytes=1e9, workspace_bytes=2e9, group_bytes=1e8, fragmentation=0.25
    )
    bare, found = memory_bill(work, BARE), memory_bill(work, profile)
    asked = bare.activations + bare.logits + bare.working + bare.buffers
    assert bare.context == bare.fragmentation == 0
    assert (found.context, found.workspaces, found.communicators) == (
        1e9,
        2e9,
        4 * 1e8,
    )  # of three axes, and of all
    assert found.fragmentation == pytest.approx(0.25 * asked)
    assert found.allocated == bare.total
    assert found.reserved - found.allocated == pytest.approx(found.fragmentation)
    assert found.device - found.reserved == pytest.approx(1e9 + 2e9 + 4 * 1e8)


def test_an_allocator_short_of_memory_gives_back_what_it_caches() -> None:
    """Between ample and no capacity the device is filled, to whole segments, and never beyond."""
    work = prepared(toy(), Layout())
    profile = tuned(BARE, fragmentation=0.5, fragmentation_least=0.25)
    ample, least = memory_bill(work, profile), memory_bill(work, profile, NO_ROOM)
    assert ample.fragmentation == pytest.approx(2 * least.fragmentation)
    assert ample.allocated == least.allocated
    between = float(ample.total[0] + least.total[0]) / 2
    (filled,) = memory_bill(work, profile, between).total
    assert between - 2 * 2**20 < filled <= between
    assert memory_bill(work, profile, 2 * float(ample.total[0])).total == ample.total


#: Sizes that torch's allocator asks the device for and rounds to, from its documentation and the
#: constants of c10/cuda/CUDACachingAllocator.cpp.
BLOCK, SMALL, SMALL_SEGMENT, LARGE, LARGE_SEGMENT = 512, 2**20, 2 * 2**20, 10 * 2**20, 20 * 2**20


def reserved_for(sizes: list[float]) -> float:
    """Return what an empty caching allocator reserves for some tensors that all stay."""
    pools = {SMALL_SEGMENT: 0.0, LARGE_SEGMENT: 0.0}
    whole = 0.0
    for size in sizes:
        rounded = np.ceil(size / BLOCK) * BLOCK
        if rounded >= LARGE:
            whole += np.ceil(rounded / SMALL_SEGMENT) * SMALL_SEGMENT
        else:
            pools[SMALL_SEGMENT if rounded <= SMALL else LARGE_SEGMENT] += rounded
    return float(whole + sum(np.ceil(held / size) * size for size, held in pools.items()))


@pytest.mark.parametrize(("name", "tokens"), [("llama-3.1-8b", 8192), ("gpt3-175b", 2048)])
def test_rounding_to_blocks_alone_is_less_than_the_least_reserve(name: str, tokens: int) -> None:
    """Rounding is what even a fresh allocator holds; cached blocks come on top."""
    sizes = [float(each.nbytes[0]) for each in work_of(name, tokens).saved]
    sizes *= len(load_architecture(name).layers)
    beyond = reserved_for(sizes) / sum(sizes) - 1.0
    assert 0.0 <= beyond < DEVICE.profile.fragmentation_least.value


def test_stages_that_keep_what_they_sent_hold_an_output_of_each_micro_batch() -> None:
    """Of bf16: 2,048 tokens times the width, for the eight that wait for the first stage."""
    architecture = load_architecture("gpt3-175b")
    kept, gone = (
        memory_bill(
            Prepared.of(
                architecture,
                Workload(seq_len=2048, global_batch=64, software=software),
                LayoutBatch.of([Layout(pp=8, recompute=Recompute.FULL, kernels=Kernels.FUSED)]),
            ),
            BARE,
        )
        for software in ("megatron-2021", "usual")
    )
    assert kept.stage == gone.stage == 0
    assert kept.activations - gone.activations == pytest.approx(8 * 2048 * 12288 * 2)


def test_a_step_that_copies_gradients_is_the_peak_where_passes_need_little() -> None:
    """InternEvo: a gradient in fp32 and two temporaries, beside 16 bytes of states."""
    architecture = load_architecture("llama-3.1-8b")
    bf16 = ModelStates(gradients="bf16")
    workload = Workload(seq_len=64, global_batch=1, states=bf16, software="internevo")
    work = Prepared.of(architecture, workload, LayoutBatch.of([Layout(recompute=Recompute.FULL)]))
    found = memory_bill(work, BARE)
    asked = found.activations + found.logits + found.working + found.buffers
    assert found.allocated == pytest.approx(architecture.params * (16 + 12))
    assert found.step == pytest.approx(architecture.params * 12 - asked)
    # The allocator holds what passes asked for as well: no block of theirs is as large.
    assert found.reserved == pytest.approx(architecture.params * 28 + asked)


@pytest.mark.parametrize(
    ("layout", "groups"),
    [
        (Layout(), 0),
        (Layout(dp=2), 2),
        (Layout(tp=2, dp=2), 3),
        (Layout(tp=2, pp=2), 4),
        (Layout(tp=2, pp=2, dp=2, ring=2), 6),
    ],
)
def test_every_group_of_ranks_has_a_communicator(layout: Layout, groups: int) -> None:
    """One for each axis, one for all ranks, one for the ranks that hold a model together."""
    found = memory_bill(prepared(toy(), layout), tuned(BARE, group_bytes=1.0))
    assert found.communicators == groups


def test_an_h100_offers_eighty_gibibytes_less_the_drivers_share() -> None:
    h100 = load_accelerator("h100-sxm")
    assert capacity_bytes(h100, tuned(DEVICE.profile, driver_bytes=0.5 * GIB)) == 79.5 * GIB


# ---------------------------------------------------------------------------------------- buffers


def buffers(seq_len: int, *, forward: bool = False, **axes: int) -> float:
    mixer = load_architecture("llama-3.1-70b").layers[0].mixer
    found = forward_buffer_bytes if forward else backward_buffer_bytes
    return float(found(mixer, shapes(seq_len, **axes))[0])


def test_ring_buffers_of_ring_flash_attention_shrink_with_the_ring() -> None:
    """Backward: two keys and values, their fp32 gradients twice, and fp32 dq, all of one rank."""
    for ranks in (2, 8, 32):
        tokens = 262144 / ranks
        kv, queries = 2 * tokens * 8 * 128, tokens * 64 * 128
        by_hand = 2 * kv * (2 + 4) + 4 * queries
        assert buffers(262144, ring=ranks, kernels=Kernels.EAGER) == by_hand


def test_ring_buffers_of_transformer_engine_do_not() -> None:
    """Its forward pass keeps every received block and partial output until it returns."""
    whole_kv, whole_out = (2 * 262144 * heads * 128 for heads in (2 * 8, 64))
    for ranks in (4, 8, 32):
        assert buffers(262144, forward=True, ring=ranks) == whole_kv + whole_out


@pytest.mark.parametrize(("kernels", "gradient"), [(Kernels.EAGER, 4), (Kernels.FUSED, 2)])
def test_gathered_keys_and_values_are_whole_on_every_rank(kernels: Kernels, gradient: int) -> None:
    """Their gradients too; eager kernels sum dq of a rank in fp32 beside them."""
    elements = 2 * 262144 * 8 * 128
    for ranks in (2, 16):
        summed = 4 * 262144 / ranks * 64 * 128 if kernels is Kernels.EAGER else 0
        found = buffers(262144, ring=ranks, kernels=kernels, cp_method=CpMethod.ALL_GATHER)
        assert found == elements * (2 + gradient) + summed


def test_ulysses_stages_both_layouts_of_q_k_v_and_o() -> None:
    tokens = 262144 / 8
    for forward in (False, True):
        found = buffers(262144, forward=forward, ulysses=8)
        assert found == 2 * tokens * 128 * (2 * 64 + 2 * 8)


# ------------------------------------------------------------------- the fewest recomputed layers


@given(
    drawn=strategies.jobs_with_layouts(recompute=Recompute.FULL, recompute_layers=0),
    fullness=st.floats(0.0, 1.0),
)
def test_the_fewest_recomputed_layers_are_the_fewest(drawn: Drawn, fullness: float) -> None:
    """Against every number of layers in turn; 0 layers means all of them, so 1 is the least."""
    (layout,) = drawn.layouts
    most = len(drawn.job.architecture.layers)
    every = drawn.prepared(*(replace(layout, recompute_layers=n) for n in range(1, most + 1)))
    totals = memory_bill(every, DEVICE.profile, NO_ROOM).total
    assert (np.diff(totals) <= totals[:-1] * 1e-12).all()
    capacity = float(totals[-1] + fullness * (totals[0] - totals[-1]) * 1.05)
    (fewest,) = fewest_repeated_layers(drawn.prepared(), DEVICE.profile, capacity * (1 + 1e-12))
    fitting = np.flatnonzero(totals <= capacity * (1 + 1e-9))
    assert max(fewest, 1) == fitting[0] + 1


def test_no_number_of_recomputed_layers_fits_an_impossible_capacity() -> None:
    work = prepared(load_architecture("llama-3.1-8b"), Layout(recompute=Recompute.FULL))
    total = float(memory_bill(work, DEVICE.profile, NO_ROOM).total[0])
    assert fewest_repeated_layers(work, DEVICE.profile, total * 0.999) == [np.inf]
    assert np.isfinite(fewest_repeated_layers(work, DEVICE.profile, total))


# ------------------------------------------------------------------------------ published figures


def test_70b_at_256k_on_256_gpus_needs_recomputation_even_so() -> None:
    """The worked claim: dp8 x tp4 x pp2 x ring4 fits 80 GB with full recomputation only."""
    layout = Layout(dp=8, tp=4, pp=2, ring=4, tp_sp=True, zero=1)
    modes = [replace(layout, recompute=mode) for mode in (Recompute.NONE, Recompute.FULL)]
    none, full = bill("llama-3.1-70b", *modes, seq_len=262144, global_batch=16).total
    assert none > 300 * GIB
    assert 55e9 < full < 100e9


def test_65536_tokens_of_layer_inputs_by_hand() -> None:
    """One bf16 vector of width 8,192 per token: 1 GiB a layer, 80 layers."""
    found = bill("llama-3.1-70b", Layout(recompute=Recompute.FULL), seq_len=65536, global_batch=1)
    head = 65536 * (2 * 2 * 8192 + 4) + 4 * 65536 * 128256
    assert found.activations[0] == pytest.approx(80 * GIB + 8 * 65536 + head)


def test_workloads_only_enter_through_tokens_of_a_micro_batch() -> None:
    """Twice the sequence or twice the micro-batch: the same tokens, the same memory."""
    architecture = toy()
    long = Prepared.of(
        architecture, Workload(seq_len=8192, global_batch=8), LayoutBatch.of([Layout()])
    )
    wide = Prepared.of(
        architecture,
        Workload(seq_len=4096, global_batch=16),
        LayoutBatch.of([Layout(micro_batch=2)]),
    )
    assert memory_bill(long, BARE).total == pytest.approx(memory_bill(wide, BARE).total)


def test_one_input_of_several_layers_saves_inputs_and_costs_a_group_at_the_peak() -> None:
    """Of 32 layers: inputs of 32, 16, 8 layers, and 1, 2, 4 layers while one runs.

    A loss over few words needs less than either.
    """
    architecture = replace(load_architecture("llama-3.1-8b"), vocab=1024)
    layouts = [
        Layout(dp=16, recompute=Recompute.FULL, recompute_layers=many, recompute_method=method)
        for many, method in zip((0, 2, 4), [RecomputeMethod(at) for at in (0, 1, 1)], strict=True)
    ]
    work = Prepared.of(
        architecture, Workload(seq_len=8192, global_batch=64), LayoutBatch.of(layouts)
    )
    bill = memory_bill(work, BARE)
    (layer,) = work.layers
    stream, saved = (float(each[0]) for each in (layer.input_bytes, layer.saved_bytes()))
    ends = bill.activations[0] - 32 * stream
    for at, many in enumerate((1, 2, 4)):
        assert bill.activations[at] == pytest.approx(32 * stream / many + ends)
    fullest = bill.working + bill.logits
    assert fullest[2] - fullest[1] == pytest.approx(2 * saved)
    device, fabric = machine("h100-dgx:2")
    assert len(set(step_time(work, device, fabric).total.tolist())) == 1
