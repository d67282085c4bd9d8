"""Sequences packed into one, which attend to themselves only."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.catalogue import load_architecture
from models.inventory import full_attention_flop, layer_work, model_flop
from models.layout import Layout
from models.mixers.core_attention import CoreAttention
from models.named_axes import CpMethod, SequenceOrder
from models.operation import Kind
from models.sequence_parallel.blocks import keys_along_the_mask
from models.simulation.dynamics import Dynamics, sample_steps
from models.simulation.packing import Packing
from models.simulation.step import StepSimulation
from models.training import step_time
from models.workload import Workload
from planner import estimate, sweep
from tests.models.cases import machine, prepared, shapes, unwindowed
from topologies.errors import SpecError

LLAMA = load_architecture("llama-3.1-8b")
GEMMA = load_architecture("gemma-3-27b")


def attention_flop(architecture, tokens, packed_len, **axes):
    """Return the forward FLOP of core attention in a layer without a window."""
    work = layer_work(
        unwindowed(architecture),
        architecture.hidden,
        replace(shapes(tokens, **axes), packed_len=packed_len),
    )
    return float(sum(op.flop[0] for op in work.forward_compute() if op.kind is Kind.ATTENTION))


@pytest.mark.parametrize("packed_len", [64, 128, 512])
def test_attention_of_packs_is_that_of_each_sequence_as_torch_counts_it(packed_len):
    """The counter takes causal attention as dense; half of it is masked."""
    heads, width, tokens = LLAMA.kinds[0].mixer.heads, LLAMA.kinds[0].mixer.head_dim, 512
    with torch.device("meta"):
        q, k, v = torch.empty(3, tokens // packed_len, heads, packed_len, width)
    counter = FlopCounterMode(display=False)
    with counter:
        functional.scaled_dot_product_attention(q, k, v)
    assert attention_flop(LLAMA, tokens, packed_len) == counter.get_total_flops() / 2


@pytest.mark.parametrize("packed_len", [4096, 8192])
def test_packs_of_one_sequence_are_that_sequence(packed_len):
    layout, workload = Layout(dp=4, ring=2), Workload(seq_len=4096, global_batch=8)
    device, fabric = machine("h100-dgx:1")
    one, other = (
        step_time(prepared(LLAMA, layout, packed_len=each), device, fabric).total
        for each in (None, packed_len)
    )
    assert one == other
    packed = replace(workload, packed_len=packed_len)
    assert model_flop(LLAMA, packed) == model_flop(LLAMA, workload)


@pytest.mark.parametrize("packed_len", [512, 4096])
def test_windows_and_packs_hide_what_either_hides(packed_len):
    """Gemma's layers with windows of 1,024 tokens and without, counted on the mask itself."""
    tokens = 8192
    query, key = np.ogrid[:tokens, :tokens]
    together = query // packed_len == key // packed_len
    for kind in GEMMA.kinds:
        seen = min(kind.mixer.window or tokens, tokens)
        mask = together & (key < query) & (key > query - seen)
        edges = together & ((key == query) | (key == query - seen))
        forward = CoreAttention(
            kind.mixer, replace(shapes(tokens), packed_len=packed_len)
        ).forward()
        (flop,) = [op.flop[0] for op in forward if getattr(op, "kind", None) is Kind.ATTENTION]
        pairs = mask.sum() + 0.5 * edges.sum()
        assert flop == 4 * kind.mixer.heads * kind.mixer.head_dim * pairs


def test_unmasked_flop_count_the_whole_sequence():
    """As Megatron-LM counts them, whatever is packed."""
    whole, packed = (
        full_attention_flop(LLAMA, Workload(seq_len=4096, global_batch=2, packed_len=each))
        for each in (None, 256)
    )
    assert packed == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("order", list(SequenceOrder))
@pytest.mark.parametrize("packed_len", [1000, 1024, 6000])
def test_ranks_of_a_ring_share_each_sequence_as_they_share_a_whole_one(packed_len, order):
    def shared(length):
        axes = {"ring": 4, "sequence_order": order}
        whole, parts = (attention_flop(LLAMA, 12000, length, **each) for each in ({}, axes))
        return parts / whole

    assert shared(packed_len) == pytest.approx(shared(None))
    contiguous = order is SequenceOrder.CONTIGUOUS
    assert shared(packed_len) == pytest.approx(1.75 / 4 if contiguous else 1 / 4)


def test_squares_along_the_mask_are_those_of_each_sequence():
    for ring, side in ((1, 1024), (4, 256)):
        shape = replace(shapes(8192, ring=ring), packed_len=1024)
        assert keys_along_the_mask(LLAMA.kinds[0].mixer, shape)[0] == side


@pytest.mark.parametrize("axes", [{"ring": 8}, {"ring": 8, "cp_method": CpMethod.ALL_GATHER},
                                  {"ulysses": 8}, {"ring": 4, "ulysses": 2}])  # fmt: skip
@pytest.mark.parametrize("order", list(SequenceOrder))
def test_one_token_less_makes_no_difference(order, axes):
    device, fabric = machine("h100-dgx:1")
    layout = Layout(sequence_order=order, **axes)
    steps = [
        float(step_time(prepared(LLAMA, layout, seq_len=2**17, global_batch=2, packed_len=each),
                        device, fabric).total[0])
        for each in (2**17 - 1, 2**17)
    ]  # fmt: skip
    assert steps[0] == pytest.approx(steps[1], rel=1e-4)


@pytest.mark.parametrize("packed_len", [1024, 2048, 4096])
def test_both_clocks_agree_and_so_do_packs_drawn_all_alike(packed_len):
    device, fabric = machine("h100-dgx:2")
    layout = Layout(tp=2, pp=2, dp=4)
    whole, packed = (
        prepared(LLAMA, layout, seq_len=8192, global_batch=64, packed_len=each)
        for each in (None, packed_len)
    )
    planned = float(step_time(packed, device, fabric).total[0])
    played = StepSimulation(packed, device, fabric).step().step_s
    assert played == pytest.approx(planned, rel=0.02)
    alike = Dynamics(packing=Packing(mean_tokens=packed_len, spread=0.0))
    drawn = sample_steps(StepSimulation(whole, device, fabric), alike)
    assert float(np.mean(drawn)) == pytest.approx(played, rel=0.02)
    assert played < StepSimulation(whole, device, fabric).step().step_s


def test_shorter_packs_take_less_time():
    device, fabric = machine("h100-dgx:1")
    steps = [
        float(step_time(prepared(LLAMA, Layout(dp=8), packed_len=each), device, fabric).total[0])
        for each in (64, 256, 1024, None)
    ]
    assert all(shorter < longer for shorter, longer in pairwise(steps))


@pytest.mark.parametrize(
    ("packed_len", "told", "mend"),
    [
        ("2.5", "2.5", "a whole number above zero"),
        (0, "0", "above zero"),
        ("16k", "16384", "no more than the 8192"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_a_mend(packed_len, told, mend):
    asked = {"global_batch": 8, "packed_len": packed_len}
    with pytest.raises(SpecError, match=f"--packed-len = {told}: .*{mend}"):
        estimate("llama-3.1-8b", "h100-dgx", seq_len="8k", **asked)


@pytest.mark.parametrize("seq_lens", [("8k", "32k"), ("32k", "8k")])
def test_sweeps_refuse_lengths_that_are_shorter_than_what_is_packed_into_them(seq_lens):
    with pytest.raises(SpecError, match=r"--packed-len = 16384: .*no more than the 8192"):
        sweep("llama-3.1-8b", "h100-dgx", seq_lens=seq_lens, global_batches=[32], packed_len="16k")


def test_counts_are_read_as_lengths_are():
    plans = [
        estimate("llama-3.1-8b", "h100-dgx", seq_len="8k", global_batch=8, packed_len=each)
        for each in ("1k", 1024)
    ]
    assert plans[0] == plans[1]
    assert plans[0].packed_len == 1024


def test_lengths_that_cannot_be_are_refused():
    with pytest.raises(SpecError, match="--packed-len = 0: at least 1 token"):
        Workload(seq_len=4096, global_batch=1, packed_len=0).check()
