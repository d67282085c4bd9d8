"""The analytical clock: published bubbles, bounds no step may cross, and what hides behind what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.catalogue import load_architecture
from models.compute import Device
from models.inventory import model_flop
from models.layout import Layout
from models.memory import memory_bill
from models.memory_bill import LINES
from models.named_axes import Kernels, Recompute, Schedule, StageSplit
from models.profile import load_profile
from models.rank_parts import RankParts
from models.rates import rates
from models.recompute_modules import RecomputeModules
from models.schedule import APART
from models.step_ends import StepEnds
from models.training import PARTS, StepClock, StepTime, step_time
from tests import strategies
from tests.models.cases import machine, prepared, toy, tuned
from tests.models.schedules import Row, rows
from topologies.catalogue import load_cluster
from topologies.fabric import Fabric

if TYPE_CHECKING:
    from models.prepared import Prepared
    from tests.strategies import Drawn

DEVICE, FABRIC = machine()
NODES = load_cluster("h100-dgx:8")
#: Layers so heavy beside embedding, head and hops that all stages are equal to a few 1e-4.
HEAVY: dict[str, Any] = {"vocab_size": 8, "intermediate_size": 1048576, "hidden_size": 1024}
#: Nothing but compute and bytes on wires.
IDEAL = {
    "steal_scale_up": 1e-12,
    "steal_scale_out": 1e-12,
    "steal_data_parallel": 1e-12,
    "collective_s": 1e-12,
}


def time_of(work: Prepared, device: Device = DEVICE, fabric: Fabric = FABRIC) -> StepTime:
    return step_time(work, device, fabric)


def busy(found: StepTime) -> Any:
    return found.compute + found.recompute + found.tp + found.cp + found.pp


# ----------------------------------------------------------------------------------- the pipeline


@pytest.mark.parametrize("row", [row for row in rows() if not APART[row.schedule]], ids=str)
def test_bubbles_are_those_of_the_published_schedules(row: Row) -> None:
    """Equal stages: bubble over busy time, whatever a pass takes."""
    layout = Layout(pp=row.pp, vp=row.vp, schedule=row.schedule)
    work = prepared(
        toy(**HEAVY, num_hidden_layers=64),
        layout,
        seq_len=16384,
        global_batch=row.micro_batches,
    )
    found = time_of(work, DEVICE, machine(f"h100-dgx:{max(row.pp // 8, 1)}")[1])
    measured = row.bubble / (row.makespan - row.bubble)
    # The hops that fill and drain the pipeline are left: 2% of the smallest bubble.
    assert found.bubble / busy(found) == pytest.approx(measured, rel=0.02)


def test_interleaving_divides_the_bubble_and_deeper_pipelines_multiply_it() -> None:
    def bubble(pp: int, vp: int) -> float:
        schedule = Schedule.INTERLEAVED if vp > 1 else Schedule.ONE_F_ONE_B
        layout = Layout(pp=pp, vp=vp, schedule=schedule)
        work = prepared(toy(**HEAVY, num_hidden_layers=32), layout, seq_len=16384)
        found = time_of(work)
        return float((found.bubble / busy(found))[0])

    assert bubble(8, 1) == pytest.approx(7 / 64, rel=0.01)
    assert bubble(4, 1) == pytest.approx(3 / 64, rel=0.01)
    assert bubble(8, 4) == pytest.approx(7 / 64 / 4, rel=0.01)
    assert bubble(1, 1) == 0


def test_the_parts_of_a_step_are_those_of_the_rank_that_sets_the_pace() -> None:
    """A head of 128,256 words on the second of two ranks: more than half of the work is there."""
    architecture = load_architecture("llama-3.2-1b")
    one, two = time_of(
        prepared(architecture, Layout(zero=0), Layout(pp=2, zero=0), seq_len=4096)
    ).compute
    assert two > 0.55 * one
    # Balanced stages move layers off that rank.
    (balanced,) = time_of(
        prepared(architecture, Layout(pp=2, zero=0, stage_split=StageSplit.BALANCED))
    ).compute
    assert 0.5 * one < balanced < two


# ------------------------------------------------------------------------------- parts and bounds


@given(strategies.jobs_with_layouts(least=1, most=4))
def test_parts_are_seconds_and_add_up_to_the_step(drawn: Drawn) -> None:
    found = time_of(drawn.prepared())
    parts = np.stack([getattr(found, part) for part in PARTS])
    assert np.isfinite(parts).all()
    assert (parts >= 0).all()
    assert found.total == pytest.approx(parts.sum(axis=0))
    assert ((found.low < found.total) & (found.total < found.high)).all()
    assert (found.exposed <= found.total).all()


@given(strategies.jobs_with_layouts())
def test_axes_of_one_rank_cost_nothing(drawn: Drawn) -> None:
    (layout,) = drawn.layouts
    found = time_of(drawn.prepared())
    assert layout.tp > 1 or found.tp == 0
    assert layout.cp > 1 or found.cp == 0
    # Waiting is what is left of the pipeline: a difference of sums.
    assert layout.pp > 1 or found.pp + found.bubble < 1e-12 * found.total
    # A head tied to the embedding is reduced between the ends of the pipeline.
    tied_ends = drawn.job.architecture.tied and layout.pp > 1
    assert layout.dp * layout.cp > 1 or tied_ends or found.dp == 0
    assert layout.recompute is not Recompute.NONE or found.recompute == 0


@given(strategies.jobs_with_layouts())
def test_no_step_beats_the_peak(drawn: Drawn) -> None:
    job, work = drawn.job, drawn.prepared()
    found = time_of(work)
    peak = 989e12 * job.gpus
    assert found.total > model_flop(job.architecture, job.workload) / peak
    rate = rates(work, found.total, DEVICE)
    assert 0 < rate.mfu[0] < 1


@given(drawn=strategies.jobs_with_layouts(), factor=st.sampled_from([0.1, 0.5, 2.0, 10.0]))
def test_a_slower_network_never_helps(drawn: Drawn, factor: float) -> None:
    usual = time_of(drawn.prepared(), DEVICE, Fabric(NODES)).total
    changed = time_of(drawn.prepared(), DEVICE, Fabric(NODES.scale_network(factor))).total
    if factor < 1:
        assert changed >= usual * (1 - 1e-9)
    else:
        assert changed <= usual * (1 + 1e-9)


@given(
    drawn=strategies.jobs_with_layouts(),
    parameter=st.sampled_from(["gemm_fraction", "attention_fraction", "hbm_fraction"]),
)
def test_faster_kernels_never_hurt_where_the_host_keeps_up(drawn: Drawn, parameter: str) -> None:
    profile = tuned(DEVICE.profile, host_launch_s=1e-15)
    value = getattr(profile, parameter).value
    usual, faster = (
        Device(DEVICE.accelerator, tuned(profile, **{parameter: value * factor}))
        for factor in (1.0, 1.25)
    )
    work = drawn.prepared()
    assert time_of(work, faster).total <= time_of(work, usual).total * (1 + 1e-9)


@given(strategies.jobs_with_layouts(recompute=Recompute.NONE, recompute_layers=0))
def test_recomputing_more_never_runs_faster(drawn: Drawn) -> None:
    """By the slowest rank's passes: which rank that is may change."""
    (layout,) = drawn.layouts
    modes = [Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL]
    found = time_of(drawn.prepared(*(replace(layout, recompute=mode) for mode in modes)))
    none, selective, full = busy(found)
    assert none <= selective * (1 + 1e-12)
    assert selective <= full * (1 + 1e-12)


def test_full_recomputation_repeats_the_forward_pass_of_the_layers() -> None:
    """Of nothing but products: one pass for three, which also have a loss and larger tiles."""
    architecture = toy(**HEAVY, num_hidden_layers=8)
    modes = [Layout(recompute=Recompute.FULL, recompute_layers=layers) for layers in (0, 8, 4, 2)]
    found = time_of(prepared(architecture, *modes, seq_len=4096))
    assert found.recompute[0] / found.compute[0] == pytest.approx(1 / 3, rel=0.06)
    assert found.recompute == pytest.approx(found.recompute[0] * np.array([1, 1, 0.5, 0.25]))


def test_selective_recomputation_of_fused_kernels_repeats_core_attention_only() -> None:
    """Megatron's ``core_attn``: as much of the forward pass as attention has of its time."""
    architecture = load_architecture("llama-3.1-8b")
    short, long = (
        time_of(prepared(architecture, Layout(recompute=Recompute.SELECTIVE), seq_len=tokens))
        for tokens in (2048, 262144)
    )
    assert short.recompute / short.compute < 0.03
    # At 256K tokens attention is 94% of the FLOP: one pass again for 3.5.
    assert long.recompute / long.compute == pytest.approx(0.24, abs=0.04)


def test_modules_repeat_their_share_of_the_forward_pass() -> None:
    """One table of several sets, whatever the batch: each as if it were alone, all as their sum."""
    architecture = load_architecture("llama-3.1-8b")
    sets = [*strategies.DENSE_SETS]
    layouts = [Layout(recompute=Recompute.SELECTIVE, recompute_modules=each) for each in sets]
    full, plain = Layout(recompute=Recompute.FULL), Layout()
    found = time_of(prepared(architecture, full, *layouts, plain, seq_len=16384)).recompute
    assert found[-1] == 0
    of = dict(zip(sets, found[1:-1], strict=True))
    for modules in sets:
        alone = Layout(recompute=Recompute.SELECTIVE, recompute_modules=modules)
        (lonely,) = time_of(prepared(architecture, alone, seq_len=16384)).recompute
        assert of[modules] == lonely
        assert 0 < lonely < found[0]
    core, norms, mlp = (
        of[RecomputeModules.from_label(name)] for name in ("core_attn", "layernorm", "mlp")
    )
    assert of[RecomputeModules.from_label("core_attn+layernorm")] == pytest.approx(core + norms)
    assert of[RecomputeModules.from_label("core_attn+mlp")] == pytest.approx(core + mlp)
    # The MLP repeats one of the two norms itself.
    both = of[RecomputeModules.from_label("layernorm+mlp")]
    assert both == pytest.approx(mlp + norms / 2)


def test_steps_are_proportional_to_the_batch_but_for_the_optimizer() -> None:
    architecture = toy()
    one, four = (time_of(prepared(architecture, Layout(), global_batch=batch)) for batch in (4, 16))
    assert four.compute == pytest.approx(4 * one.compute)
    assert four.optimizer == pytest.approx(one.optimizer)
    assert one.overhead == 4 * DEVICE.profile.micro_batch_s.value
    assert four.overhead == pytest.approx(4 * one.overhead)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_the_optimizer_streams_its_bytes_once(zero: int) -> None:
    """Read and write master and two moments (24), read the gradient (4), write bf16 (2)."""
    architecture = load_architecture("llama-3.1-8b")
    found = time_of(prepared(architecture, Layout(dp=8, zero=zero)))
    share = 1 if zero == 0 else 1 / 8
    rate = 3350e9 * DEVICE.profile.hbm_fraction.value
    assert found.optimizer[0] == pytest.approx(8_030_261_248 * share * 30 / rate)


def test_rates_are_tokens_and_flop_over_seconds_and_ranks() -> None:
    architecture = load_architecture("llama-3.1-8b")
    work = prepared(architecture, Layout(dp=8), seq_len=8192, global_batch=16)
    rate = rates(work, np.array([2.0]), DEVICE)
    assert rate.tokens_per_s_per_gpu == pytest.approx([16 * 8192 / 2 / 8])
    assert rate.tflops_per_gpu == pytest.approx([16 * 8192 * 51.5e9 / 2 / 8 / 1e12], rel=0.01)
    assert rate.mfu == pytest.approx(rate.tflops_per_gpu / 989)
    assert rate.mfu_full_attention > rate.mfu


# ------------------------------------------------------------------------ what hides, and what not


#: Share of the peak that attention reaches on a ring over nodes, whatever its shape.
ATTAINED = 0.79


def ring_over_nodes(seq_len: int, ranks: int, bandwidth: float) -> tuple[float, float]:
    """Return exposed seconds of a ring with one GPU per node, and its seconds on the wire.

    Llama-2-7B's heads (as many keys as queries), eager kernels, nothing but bytes and FLOP.
    """
    cluster = load_cluster(f"gh200:{ranks}")
    profile = tuned(
        load_profile("h100-sxm"),
        **IDEAL,
        attention_fraction=ATTAINED,
        attention_backward_ratio=1.0,
        attention_half_waves=1e-9,
        attention_half_tokens=1e-9,
        attention_half_width=1e-9,
        attention_backward_half_tokens=1e-9,
        attention_backward_half_width=1e-9,
        attention_mask_keys=0.0,
        host_launch_s=0.0,
    )
    device = Device(cluster.accelerator, profile)
    fabric = Fabric(cluster.scale_network(bandwidth / (50e9 * 0.747)))
    work = prepared(
        toy(hidden_size=4096, num_attention_heads=32, num_key_value_heads=32, num_hidden_layers=1),
        Layout(ring=ranks, kernels=Kernels.EAGER),
        seq_len=seq_len,
        global_batch=1,
    )
    found = step_time(work, device, fabric)
    kv = 2 * seq_len / ranks * 4096 * 2
    # Gradients in fp32 make a hop more, home, when there is nothing left to hide behind.
    wire, home = (ranks - 1) * 4 * kv / bandwidth, 2 * kv / bandwidth
    return float(found.cp[0]) - home, wire


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ring_hops_hide_far_above_the_threshold_and_show_far_below(ranks: int) -> None:
    """Causal zigzag hides a forward hop from S / P >= (Hk / H) e F / B tokens per rank on."""
    flops = 989e12 * ATTAINED
    bandwidth = 50e9
    threshold = 2 * flops / bandwidth  # 31,600 tokens
    above = 2 ** int(np.ceil(np.log2(4 * threshold)))
    below = 2 ** int(np.floor(np.log2(threshold / 16)))
    exposed, wire = ring_over_nodes(above * ranks, ranks, bandwidth)
    assert exposed < 0.01 * wire
    exposed, wire = ring_over_nodes(below * ranks, ranks, bandwidth)
    assert exposed > 0.8 * wire


def test_the_threshold_scales_with_the_network() -> None:
    """At a fixed length there is a bandwidth below which the ring shows, and it shows in full."""
    fast, wire_fast = ring_over_nodes(4 * 65536, 4, 400e9)
    slow, wire_slow = ring_over_nodes(4 * 65536, 4, 2e9)
    assert fast < 0.01 * wire_fast
    assert slow > 0.8 * wire_slow


@pytest.mark.parametrize(
    ("cluster", "own", "others"),
    [
        ("h100-dgx:1", {"cp": "steal_scale_up", "dp": "steal_scale_up", "pp": "steal_scale_up"}, 2),
        (
            "gh200:4",
            {"cp": "steal_scale_out", "dp": "steal_data_parallel", "pp": "steal_scale_out"},
            1,
        ),
    ],
)
def test_what_hides_steals_by_the_links_it_travels_on(
    cluster: str, own: dict[str, str], others: int
) -> None:
    """Hops hidden in full cost their share of the compute they hide behind and nothing more."""
    nodes = load_cluster(cluster)
    layouts = {
        "cp": Layout(ring=4),
        "dp": Layout(dp=4),
        "pp": Layout(pp=4, vp=2, schedule=Schedule.INTERLEAVED),
    }
    architecture = load_architecture("llama-3.1-8b")
    steals = {name for name in IDEAL if name.startswith("steal")}

    def spent(part: str, **steal: float) -> float:
        tenth = dict.fromkeys(steals, 0.1)
        profile = tuned(load_profile("h100-sxm"), **{**IDEAL, **tenth, **steal})
        device, fabric = Device(nodes.accelerator, profile), Fabric(nodes)
        work = prepared(architecture, layouts[part], seq_len=2**19, global_batch=8)
        return float(getattr(step_time(work, device, fabric), part)[0])

    assert len(steals - set(own.values())) == others
    for part, name in own.items():
        even = spent(part)
        assert all(spent(part, **{other: 0.2}) == even for other in steals - {name})
        assert spent(part, **{name: 0.2}) > even
    assert spent("cp", **{own["cp"]: 0.2}) == pytest.approx(2 * spent("cp"), rel=0.05)


def test_contiguous_rings_take_longer_than_zigzag_ones() -> None:
    architecture = load_architecture("llama-3.1-8b")
    orders = [Layout(ring=8, sequence_order=order) for order in (0, 1)]
    contiguous, zigzag = time_of(
        prepared(architecture, *orders, seq_len=1048576, global_batch=1)
    ).compute
    assert 1.6 < contiguous / zigzag < 1.875


def test_ulysses_over_the_network_costs_its_bytes() -> None:
    """All-to-all is not hidden: eight exchanges of known size over a known rate."""
    cluster = load_cluster("gh200:4")
    device = Device(
        cluster.accelerator,
        tuned(load_profile("h100-sxm"), **IDEAL),
    )
    architecture = toy(hidden_size=4096, num_attention_heads=32, num_key_value_heads=8)
    seq_len = 2**20
    work = prepared(architecture, Layout(ulysses=4), seq_len=seq_len, global_batch=1)
    found = step_time(work, device, Fabric(cluster))
    sent = 2 * 0.75 * seq_len / 4 * 128 * 2 * (2 * 32 + 2 * 8)
    assert found.cp[0] == pytest.approx(8 * sent / (50e9 * 0.97), rel=0.05)


def test_gradients_are_reduced_in_full_where_there_is_nothing_to_hide_behind() -> None:
    """Doubling the bytes of parameters a rank, at one token: all of it is exposed."""
    architecture = load_architecture("llama-3.1-8b")
    cluster = load_cluster("gh200:2")
    device = Device(cluster.accelerator, tuned(load_profile("h100-sxm"), **IDEAL))
    work = prepared(architecture, Layout(dp=2, zero=0), seq_len=1, global_batch=2)
    found = step_time(work, device, Fabric(cluster))
    wire = 2 * 0.5 * 4 * architecture.params / (50e9 * 0.97)
    assert found.dp[0] == pytest.approx(wire, rel=0.1)
    assert found.dp[0] < wire


@pytest.mark.parametrize("schedule", [Schedule.ZB_V, Schedule.DUALPIPE_V])
def test_what_is_reduced_apart_hides_behind_gradients_of_weights_only(schedule: Schedule) -> None:
    """The edge of a rank that holds little but the head is most of its pass, and never more."""
    model = toy(vocab_size=262144, num_hidden_layers=4)
    work = prepared(model, Layout(pp=2, vp=2, schedule=schedule, dp=2))
    clock = StepClock(work, DEVICE, FABRIC)
    _, backward = StepEnds(clock, np.ones(1)).beside_gradients(RankParts.of(work, 0), 0)
    assert (0.5 * backward.busy_s < backward.edge_s).all()
    assert (backward.edge_s < backward.busy_s).all()


def test_accumulating_more_micro_batches_spares_reductions_except_with_zero_2() -> None:
    architecture = load_architecture("llama-3.1-8b")

    def reduced(zero: int, batch: int) -> float:
        work = prepared(architecture, Layout(dp=8, zero=zero), seq_len=512, global_batch=batch)
        return float(time_of(work).dp[0])

    assert reduced(1, 64) == pytest.approx(reduced(1, 8))
    for zero in (2, 3):
        assert reduced(zero, 64) > 4 * reduced(zero, 8)


# ------------------------------------------------------------------------------ arrays of layouts


@given(strategies.jobs_with_layouts(least=2, most=8))
def test_a_batch_of_many_is_many_batches_of_one(drawn: Drawn) -> None:
    assume(len(set(drawn.layouts)) > 1)
    together = drawn.prepared()
    time, memory = time_of(together), memory_bill(together, DEVICE.profile)
    for i, layout in enumerate(drawn.layouts):
        alone = drawn.prepared(layout)
        time_alone, memory_alone = time_of(alone), memory_bill(alone, DEVICE.profile)
        rounding = 1e-12 * float(time_alone.total[0])  # the bubble is a difference of sums
        for part in (*PARTS, "low", "high"):
            assert getattr(time, part)[i] == pytest.approx(
                getattr(time_alone, part)[0], rel=1e-12, abs=rounding
            ), part
        for line in (*LINES, "stage"):
            assert getattr(memory, line)[i] == pytest.approx(
                getattr(memory_alone, line)[0], rel=1e-12
            ), line


@given(strategies.jobs_with_layouts(least=2, most=6))
def test_taking_some_layouts_is_having_asked_for_them_only(drawn: Drawn) -> None:
    all_of_them = drawn.prepared()
    index = np.array([len(drawn.layouts) - 1, 0])
    some = time_of(all_of_them.take(index)).total
    assert some == pytest.approx(time_of(all_of_them).total[index], rel=1e-12)
