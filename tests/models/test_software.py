"""Software of another time: attention through memory, and gradients that nothing hides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.layout import Layout
from models.named_axes import Recompute, Schedule
from models.sequence_parallel.sent import CORE_ATTENTION
from models.simulation.record import record
from models.simulation.step import StepSimulation
from models.software import load_software
from models.training import step_time
from planner.scenario import Scenario
from tests.models.cases import machine, prepared, shapes
from topologies.errors import SpecError

OLD = "megatron-2021"
GPT = load_architecture("gpt3-175b")
DEVICE, FABRIC = machine("a100-dgx:8")
LAYOUTS = [
    Layout(dp=8, zero=0),
    Layout(dp=8, zero=1, tp=8),
    Layout(dp=4, pp=4, tp=2, zero=0),
    Layout(dp=4, pp=4, vp=2, tp=2, zero=1, schedule=Schedule.INTERLEAVED),
    Layout(dp=4, tp=8, zero=1, dp_replicate=2, recompute=Recompute.FULL),
]


def attended(tokens, heads, width):
    """Return the FLOP of attention with its scores in memory, and the bytes autograd keeps."""
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
        scores = functional.softmax(torch.bmm(q, k.transpose(1, 2)), dim=-1)
        torch.bmm(torch.native_dropout(scores, 0.1, train=True)[0], v).sum().backward()
    return counter.get_total_flops(), sum(kept.values())


def test_attention_through_memory_is_what_torch_computes_and_keeps():
    tokens, one = 256, load_architecture("gpt2-xl")
    mixer = one.layers[0].mixer
    flop, nbytes = attended(tokens, mixer.heads, mixer.head_dim)
    work = layer_work(one.layers[0], one.hidden, with_software(shapes(tokens)))
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


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_both_clocks_agree_where_nothing_is_hidden(layout):
    work = prepared(GPT, layout, seq_len=2048, global_batch=64, software=OLD)
    closed = float(step_time(work, DEVICE, FABRIC).total[0])
    played = StepSimulation(work, DEVICE, FABRIC, contention=False)
    assert played.step().step_s == pytest.approx(closed, rel=0.01)
    assert record(played).step_s == pytest.approx(played.step().step_s)


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


def test_a_ring_needs_attention_that_goes_block_by_block():
    scenario = Scenario.load("gpt3-175b", "a100-dgx:8", seq_len=2048, global_batch=64, software=OLD)
    with pytest.raises(SpecError, match="computes attention with all keys at hand"):
        scenario.check(Layout(ring=8, dp=8))


def test_unknown_software_is_named():
    with pytest.raises(SpecError, match=r"--software = megatron-1999.*usual, megatron-2021"):
        Scenario.load(
            "gpt3-175b", "a100-dgx:8", seq_len=2048, global_batch=64, software="megatron-1999"
        )
