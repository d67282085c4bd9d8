"""Kernels on groups of up to 128 processes: what one rank computes and sends at a million tokens.

On a fake process group and fake tensors; bytes are those of the collectives that torch issues, FLOP
those of torch's counter.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.operation import Axis as MeshAxis
from models.operation import Kind
from tests.models.cases import sent_bytes, shapes
from tests.oracles.hf_reference import flop_counter
from tests.oracles.traffic import Traffic, TrafficCounter, fake_group
from validate import exactness
from validate.kernels.attention import attention
from validate.kernels.ring import Ring

#: Query heads of models that have 8 of keys and values, 128 wide.
HEADS = {"llama-3.1-70b": 64, "llama-3.1-8b": 32, "mistral-7b": 32}
KV_HEADS, WIDTH = 8, 128
SEQ_LEN = 2**20


class Pass(NamedTuple):
    """What one rank does in one pass."""

    flop: int
    traffic: Traffic


def run(name, ulysses, ring, how, rank=0):
    """Return the forward and the backward pass of one rank of a job."""
    tokens = SEQ_LEN // (ulysses * ring)
    with fake_group(ulysses * ring, rank):
        mesh = exactness.mesh_of_job(ulysses, ring)
        with FakeTensorMode(allow_non_fake_inputs=True):
            q, k, v = (
                torch.empty(1, heads, tokens, WIDTH, dtype=torch.bfloat16, requires_grad=True)
                for heads in (HEADS[name], KV_HEADS, KV_HEADS)
            )
            with flop_counter(masked=True) as forward, TrafficCounter() as sent_forward:
                out = attention(q, k, v, mesh, how)
            with flop_counter(masked=True) as backward, TrafficCounter() as sent_backward:
                out.backward(torch.empty_like(out))
    return (
        Pass(forward.get_total_flops(), sent_forward.traffic),
        Pass(backward.get_total_flops(), sent_backward.traffic),
    )


def said(name, ulysses, ring, how):
    """Return FLOP and bytes that the inventory has for attention, forward and backward."""
    architecture = load_architecture(name)
    layout = shapes(
        SEQ_LEN,
        ulysses=ulysses,
        ring=ring,
        cp_method=CpMethod.ALL_GATHER if how.gathers else CpMethod.P2P,
        kernels=Kernels.EAGER,
        sequence_order=how.order,
    )
    work = layer_work(architecture.kinds[0], architecture.hidden, layout)
    return [
        (
            sum(float(op.flop[0]) for op in computed if op.kind is kind),
            sent_bytes(sent, MeshAxis.ULYSSES, ulysses) + sent_bytes(sent, MeshAxis.RING, ring),
        )
        for computed, sent, kind in (
            (work.forward_compute(), work.forward_communication(), Kind.ATTENTION),
            (work.backward_compute(), work.backward_communication(), Kind.ATTENTION_BACKWARD),
        )
    ]


MESHES = [(1, 8), (4, 2), (1, 64), (8, 8), (16, 8), (32, 4)]


@pytest.mark.parametrize(
    ("ulysses", "ring", "gathers"),
    [(8, 1, False), (16, 1, False), *((*mesh, how) for mesh in MESHES for how in (False, True))],
)
def test_a_rank_computes_and_sends_what_the_inventory_says(ulysses, ring, gathers):
    """Of zigzag all ranks do alike; with more Ulysses ranks than key heads these are repeated."""
    how = Ring(order=SequenceOrder.ZIGZAG, gathers=gathers)
    passes = run("llama-3.1-70b", ulysses, ring, how)
    expected = said("llama-3.1-70b", ulysses, ring, how)
    for measured, (flop, sent) in zip(passes, expected, strict=True):
        assert measured.flop == flop
        assert measured.traffic.total_bytes == sent
        assert {call.ranks for call in measured.traffic.made} == {ulysses, ring} - {1}


@pytest.mark.parametrize("rank", [0, 21, 127])
def test_every_rank_of_a_hybrid_sends_and_computes_as_much(rank):
    how = Ring(order=SequenceOrder.ZIGZAG)
    expected = said("llama-3.1-8b", 8, 16, how)
    for measured, (flop, sent) in zip(run("llama-3.1-8b", 8, 16, how, rank), expected, strict=True):
        assert measured.flop == flop
        assert measured.traffic.total_bytes == sent


@pytest.mark.parametrize("gathers", [False, True])
def test_the_last_rank_of_a_contiguous_ring_is_the_busiest(gathers):
    """All ranks send as much; the inventory's FLOP are the last one's, the first has one block."""
    how = Ring(order=SequenceOrder.CONTIGUOUS, gathers=gathers)
    expected = said("llama-3.1-8b", 2, 16, how)
    first, last = (run("llama-3.1-8b", 2, 16, how, rank) for rank in (0, 31))
    for few, many, (flop, sent) in zip(first, last, expected, strict=True):
        assert few.traffic.total_bytes == many.traffic.total_bytes == sent
        assert many.flop == flop
        assert few.flop * 31 == flop


@pytest.mark.parametrize(
    ("ring", "order"),
    [(8, SequenceOrder.CONTIGUOUS), (8, SequenceOrder.ZIGZAG), (128, SequenceOrder.ZIGZAG)],
)
def test_windows_over_gathered_keys_send_all_and_compute_few(ring, order):
    """The last rank most; but for one key, which blocks read backwards are shorter by."""
    window = load_architecture("mistral-7b").kinds[0].mixer.window
    how = Ring(order=order, gathers=True, window=window)
    passes = run("mistral-7b", 1, ring, how, ring - 1)
    expected = said("mistral-7b", 1, ring, how)
    for measured, (flop, sent) in zip(passes, expected, strict=True):
        assert measured.traffic.total_bytes == sent
        assert measured.flop == pytest.approx(flop, rel=1 / window)
