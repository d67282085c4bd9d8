"""Software of another time: attention through memory, and gradients that nothing hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.layout import Layout
from models.memory import memory_bill
from models.model_states import ModelStates
from models.named_axes import Recompute, Schedule
from models.part_times import PartClock
from models.sequence_parallel.sent import CORE_ATTENTION
from models.sharing import Sharing
from models.simulation.gradients import Gradients
from models.simulation.record import record
from models.simulation.step import StepSimulation
from models.software import load_software
from models.stage_sends import StageSends
from models.training import step_time
from planner.scenario import Scenario
from tests.models.cases import machine, prepared, shapes
from topologies.collective import Collective
from topologies.errors import SpecError

OLD = "megatron-2021"
#: Its host waits for each kernel.
WAITING = "megatron-deepspeed-2022"
#: It gathers parameters by a broadcast from each rank after the other.
IN_TURN = "internevo"
GPT = load_architecture("gpt3-175b")
DEVICE, FABRIC = machine("a100-dgx:8")
LAYOUTS = [
    Layout(dp=8, zero=0),
    Layout(dp=8, zero=1, tp=8),
    Layout(dp=4, pp=4, tp=2, zero=0),
    Layout(dp=4, pp=4, vp=2, tp=2, zero=1, schedule=Schedule.INTERLEAVED),
    Layout(dp=4, tp=8, zero=1, dp_replicate=2, recompute=Recompute.FULL),
    Layout(dp=8, tp=8, zero=2),
    Layout(dp=4, pp=4, tp=4, zero=3),
    Layout(dp=8, tp=8, zero=3),
]


def attended(tokens, heads, width, dtype=torch.bfloat16):
    """Return the FLOP of attention with its scores in memory, and the bytes autograd keeps.

    The softmax runs in the dtype given.
    """
    kept = {}

    def keep(tensor):
        if tensor.shape[-2:] == (tokens, tokens):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    q, k, v = (
        torch.randn(heads, tokens, width, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = functional.softmax(torch.bmm(q, k.transpose(1, 2)).to(dtype), dim=-1)
        dropped = torch.native_dropout(scores.to(v.dtype), 0.1, train=True)[0]
        torch.bmm(dropped, v).sum().backward()
    return counter.get_total_flops(), sum(kept.values())


@pytest.mark.parametrize(("sequences", "dtype"), [(4, torch.bfloat16), (1, torch.float32)])
def test_attention_through_memory_is_what_torch_computes_and_keeps(sequences, dtype):
    """GPT-2 XL's 25 heads: of four sequences one kernel takes the softmax, of one torch's do."""
    tokens, one = 256, load_architecture("gpt2-xl")
    mixer = one.layers[0].mixer
    flop, nbytes = attended(tokens, sequences * mixer.heads, mixer.head_dim, dtype)
    taken = with_software(shapes(tokens, micro_batch=sequences))
    work = layer_work(one.layers[0], one.hidden, taken)
    core = (*work.forward_compute(), *work.backward_compute())
    counted = sum(float(op.flop[0]) for op in core if op.name == CORE_ATTENTION)
    assert counted == flop
    (scores,) = (item for item in work.saved if item.name == "scores")
    assert float(scores.nbytes[0]) == nbytes


def with_software(taken):
    return replace(taken, software=load_software(OLD))


def test_all_pairs_move_through_memory_whatever_tensor_parallelism_leaves_of_the_heads():
    def moved(**axes):
        work = layer_work(GPT.layers[0], GPT.hidden, with_software(shapes(2048, **axes)))
        return sum(
            float(op.nbytes[0])
            for op in (*work.forward_compute(), *work.backward_compute())
            if op.name == CORE_ATTENTION
        )

    pairs = 96 * 2048**2
    # Twelve passes over scores in 16 bits by six products, dropout and softmax, and two masks.
    assert moved() > pairs * (12 * 2 + 2)
    assert moved(tp=8) == pytest.approx(moved() / 8)


@pytest.mark.parametrize("software", [OLD, WAITING, IN_TURN])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_both_clocks_agree_where_nothing_is_hidden(layout, software):
    work = prepared(GPT, layout, seq_len=2048, global_batch=64, software=software)
    closed = float(step_time(work, DEVICE, FABRIC).total[0])
    played = StepSimulation(work, DEVICE, FABRIC, contention=False)
    assert played.step().step_s == pytest.approx(closed, rel=0.01)
    assert record(played).step_s == pytest.approx(played.step().step_s)


def test_ranks_that_share_a_send_gather_it_where_it_arrives():
    """Narayanan et al., section 4.1: an eighth crosses the cards, and NVLink puts it together."""
    work = prepared(GPT, Layout(pp=4, tp=8), seq_len=2048, global_batch=64, software=OLD)
    whole = replace(work, workload=replace(work.workload, software="usual"))
    seconds, nbytes = [], []
    for each in (work, whole):
        sends = StageSends(each, DEVICE.profile, FABRIC)
        seconds.append(float(sends.seconds(each.shape_index, each.mesh_index)[0]))
        nbytes.append(float(each.sent_bytes()[0]))
    assert nbytes[1] == 2048 * GPT.hidden * 2 == 8 * nbytes[0]
    card_s, nvlink_s = nbytes[1] / 25e9, nbytes[1] * 7 / 8 / 300e9
    assert card_s / 8 + nvlink_s < seconds[0] < 0.5 * seconds[1]
    alone = prepared(GPT, Layout(pp=4), seq_len=2048, global_batch=64, software=OLD)
    sends = StageSends(alone, DEVICE.profile, FABRIC)
    assert float(sends.seconds(alone.shape_index, alone.mesh_index)[0]) == pytest.approx(
        float(sends.cost.seconds(alone.sent_bytes())[0])
    )


def test_gradients_that_nothing_hides_take_all_their_time():
    layout = Layout(dp=8, tp=8, zero=1)
    hidden, apart = (
        step_time(
            prepared(GPT, layout, seq_len=2048, global_batch=64, software=name), DEVICE, FABRIC
        )
        for name in ("usual", OLD)
    )
    params = 175e9 / 8
    # A ring over eight nodes: each gradient crosses once in fp32 and each parameter once in bf16.
    least = params * (4 + 2) * 7 / 8 / 25e9
    assert hidden.dp[0] < least < apart.dp[0] < 2 * least


# ------------------------------------------------------------------------- the pace of the host


def forward_s(software, tokens, host_s):
    """Return a forward pass' seconds through a layer of GPT-2 XL whose host takes a time."""
    return pass_s(software, tokens, host_s, "forward")


def pass_s(software, tokens, host_s, which):
    one = load_architecture("gpt2-xl")
    taken = replace(shapes(tokens), software=software)
    device, fabric = machine("a100-dgx:1", host_launch_s=host_s)
    work = layer_work(one.layers[0], one.hidden, taken)
    started = sum(float(op.launches[0]) for op in getattr(work, f"{which}_compute")())
    times = PartClock(device, fabric, taken).times(work)
    return float(getattr(times, which).compute[0]), started


@pytest.mark.parametrize("tokens", [128, 16384])
def test_a_host_that_waits_for_each_kernel_adds_up(tokens):
    software, host_s = load_software(WAITING), 6e-6
    alone, _ = forward_s(software, tokens, 0.0)
    both, started = forward_s(software, tokens, host_s)
    assert both == pytest.approx(alone + started * software.host_ratio.value * host_s)


@pytest.mark.parametrize("ratio", [1.0, 20.0])
def test_a_host_that_runs_ahead_paces_small_passes_only(ratio):
    software = load_software(OLD)
    software = replace(software, host_ratio=replace(software.host_ratio, value=ratio))
    small, started = forward_s(software, 128, 20e-6)
    assert small == pytest.approx(started * ratio * 20e-6)
    assert forward_s(software, 16384, 20e-6) == forward_s(software, 16384, 0.0)


def test_the_host_takes_its_own_time_for_a_kernel_of_a_backward_pass():
    software = load_software(OLD)
    rate = software.host_ratio.value * 20e-6
    for which, ratio in (("forward", 1.0), ("backward", software.host_backward_ratio.value)):
        took, started = pass_s(software, 128, 20e-6, which)
        assert took == pytest.approx(started * rate * ratio)
    assert software.host_backward_ratio.value < 0.6  # or the test says nothing


def test_no_host_holds_up_a_step_replayed_as_graphs():
    graphs = load_software("cuda-graphs")
    for which in ("forward", "backward"):
        held, alone = (pass_s(graphs, 128, host_s, which) for host_s in (20e-6, 0.0))
        assert held == alone


def test_the_host_works_on_each_micro_batch_in_both_clocks():
    work = prepared(GPT, Layout(dp=8, tp=8, zero=1), seq_len=2048, global_batch=64, software=OLD)
    own = step_time(work, DEVICE, FABRIC).overhead[0]
    assert own == 8 * DEVICE.profile.micro_batch_s.value
    assert StepSimulation(work, DEVICE, FABRIC).step().overhead_s == own


def test_a_step_of_small_passes_takes_what_both_clocks_say_of_its_host():
    layout, device = Layout(dp=8, tp=8, zero=1), machine("a100-dgx:8", host_launch_s=50e-6)[0]
    for name in (OLD, WAITING):
        small = prepared(
            load_architecture("gpt2-xl"), layout, seq_len=256, global_batch=64, software=name
        )
        closed = float(step_time(small, device, FABRIC).total[0])
        assert closed > 1.5 * float(step_time(small, DEVICE, FABRIC).total[0])
        played = StepSimulation(small, device, FABRIC, contention=False).step().step_s
        assert played == pytest.approx(closed, rel=0.01)


# ----------------------------------------------------------------------- parameters, rank by rank


def test_each_rank_in_turn_starts_a_broadcast_of_its_own():
    """Over one GPU of each node, where bytes take as long from wherever they come."""
    added = []
    for ranks in (8, 64, 512):
        _, fabric = machine(f"a100-dgx:{ranks}")
        work, together = (
            prepared(GPT, Layout(dp=ranks, tp=8, zero=1), global_batch=512, software=name)
            for name in (IN_TURN, OLD)
        )
        in_turn, at_once = (
            Sharing.by_all(each, fabric, DEVICE.profile, params, np.ones_like(params), params)
            for each in (work, together)
            for params in [each.parameters.embedding]
        )
        start_s = float(in_turn.shards.start_s[0]) + DEVICE.profile.collective_s.value
        added.append(float((in_turn.gather_s() - at_once.gather_s())[0]))
        assert added[-1] > (ranks - 1) * start_s * 0.9
    assert added == sorted(added)


def test_the_trace_shows_broadcasts_where_ranks_gather_in_turn():
    layout = Layout(dp=8, tp=8, zero=1)
    shown = []
    for name in (IN_TURN, OLD):
        work = prepared(GPT, layout, seq_len=2048, global_batch=64, software=name)
        stages = StepSimulation(work, DEVICE, FABRIC).stages
        (left,) = (
            task
            for task in Gradients(work, DEVICE, FABRIC, stages).apart()
            if task.call.name == "gather parameters"
        )
        shown.append(left.call.collective)
    assert shown == [Collective.BROADCAST, Collective.ALL_GATHER]


# -------------------------------------------------------------------------- kernels of attention


@pytest.mark.parametrize(
    ("attention", "accelerator", "kernel"),
    [
        (("fa4", "fa3", "fa2"), "b200-sxm", "fa4"),
        (("fa4", "fa3", "fa2"), "h200-sxm", "fa3"),
        (("fa4", "fa3", "fa2"), "a100-sxm-80gb", "fa2"),
        (("fa2", "fa3"), "h100-sxm", "fa2"),
        (("fa3",), "a100-sxm-80gb", None),
        (("fa4", "fa3", "fa2"), "mi300x", None),
        (("unfused",), "h100-sxm", None),
        ((), "h100-sxm", None),
    ],
)
def test_the_preferred_kernel_that_a_device_runs_is_taken(attention, accelerator, kernel):
    found = replace(load_software("usual"), attention=attention).attention_on(accelerator)
    assert (found and found.name) == kernel


@pytest.mark.parametrize(
    ("cluster", "least", "most"), [("h100-dgx:1", 1.5, 2.3), ("a100-dgx:1", 1.0, 1.0)]
)
def test_steps_of_long_sequences_take_the_pace_of_their_kernels(cluster, least, most):
    """FlashAttention 2 takes up to 2.3 times as long as 3 on Hopper, and is Ampere's newest."""
    layout = Layout(ulysses=8, zero=3)
    seconds = []
    for name in ("hugging-face", "usual"):
        scenario = Scenario.load(
            "llama-3.1-8b", cluster, seq_len=2**20, global_batch=1, software=name
        )
        work = prepared(scenario.architecture, layout, seq_len=2**20, global_batch=1, software=name)
        seconds.append(float(step_time(work, scenario.device, scenario.fabric).compute[0]))
    assert least <= seconds[0] / seconds[1] <= most


def test_a_ring_needs_attention_that_goes_block_by_block():
    scenario = Scenario.load("gpt3-175b", "a100-dgx:8", seq_len=2048, global_batch=64, software=OLD)
    with pytest.raises(SpecError, match="computes attention with all keys at hand"):
        scenario.check(Layout(ring=8, dp=8))


def test_unknown_software_is_named():
    with pytest.raises(SpecError, match=r"--software = megatron-1999.*usual, megatron-2021"):
        Scenario.load(
            "gpt3-175b", "a100-dgx:8", seq_len=2048, global_batch=64, software="megatron-1999"
        )


@pytest.mark.parametrize("software", ["torch-fsdp", "llm-foundry-2024", "jax"])
@pytest.mark.parametrize("pp", [1, 2])
def test_shards_of_master_weights_alone_have_no_copies_in_16_bits(software, pp):
    """Two of the 14 bytes of a parameter; stages of a pipeline hold what is gathered as before."""
    bills = [
        memory_bill(
            prepared(GPT, Layout(dp=8, pp=pp, zero=3), global_batch=64, software=each),
            DEVICE.profile,
        )
        for each in ("usual", software)
    ]
    usual, found = bills
    assert usual.optimizer[0] == found.optimizer[0]
    copies = usual.parameters[0] - found.parameters[0]
    assert copies == pytest.approx(found.optimizer[0] * 2 / 12)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-pure-bf16"])
def test_without_master_weights_the_shards_are_the_parameters(optimizer):
    states = ModelStates(optimizer, gradients="bf16", reduce="bf16")
    work = prepared(GPT, Layout(dp=8, zero=3), seq_len=2048, global_batch=64, software="torch-fsdp")
    work = replace(work, workload=replace(work.workload, states=states))
    bill = memory_bill(work, DEVICE.profile)
    assert (bill.parameters[0] > 0) == (optimizer == "adamw-pure-bf16")
