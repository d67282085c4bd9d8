"""Kernels on ranks that one process plays: exact, and unlike ones with a slip in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.operation import Axis as MeshAxis
from models.sequence_parallel.schedule import Part
from tests.models.cases import sent_bytes, work_of
from tests.validate.slips import wrong
from topologies.errors import SpecError
from validate import exactness
from validate.cases import DTYPES, cases
from validate.kernels import attention as kernels
from validate.kernels import (
    block,
    kv_gradients,
    merge,
    ring,
    shards,
    state_pass,
)
from validate.kernels.attention import ContextMesh, attention
from validate.kernels.axis import Moving, VirtualAxis
from validate.kernels.ring import Ring
from validate.kernels.state_pass import StateSpace
from validate.kernels.ulysses import check_heads
from validate.references import inputs


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_every_method_gives_what_one_device_gives(ranks, dtype):
    for checked in exactness.check_virtually(cases(ranks, [dtype])):
        assert checked.exact, checked


def forgets_the_sum(self, added, queries):
    """Merge without the new log-sum-exp."""
    before = self.lse.clone()
    MERGE(self, added, queries)
    self.lse.copy_(before)


def averages(self, added, queries):
    out = merge.rows(self.out, queries)
    out.lerp_(added.out.to(out.dtype), 0.5)
    torch.logaddexp(merge.rows(self.lse, queries), added.lse, out=merge.rows(self.lse, queries))


def swaps_weights(self, added, queries):
    out, lse = merge.rows(self.out, queries), merge.rows(self.lse, queries)
    weight = torch.sigmoid(lse - added.lse).unsqueeze(-1).to(out.dtype)
    out.lerp_(added.out.to(out.dtype), weight)
    torch.logaddexp(lse, added.lse, out=lse)


def other_half(tensor, part, dim=2):
    other = {Part.FIRST: Part.SECOND, Part.SECOND: Part.FIRST, Part.WHOLE: Part.WHOLE}
    return ROWS(tensor, other[part], dim)


MERGE, ROWS = merge.Merged.add, merge.rows


@pytest.mark.parametrize("slip", [averages, swaps_weights, forgets_the_sum])
def test_a_slip_in_the_merge_is_seen_on_four_ranks(monkeypatch, slip):
    monkeypatch.setattr(merge.Merged, "add", slip)
    assert "ring contiguous" in wrong(4)
    assert "ring zigzag" in wrong(4)


def test_two_ranks_do_not_see_in_the_output_that_the_sum_is_forgotten(monkeypatch):
    """Why the checks run on four: with two there is no second merge to go wrong."""
    monkeypatch.setattr(merge.Merged, "add", forgets_the_sum)
    (case,) = [
        case for case in cases(2, ["f64"]) if case.method == "ring contiguous" and not case.causal
    ]
    (two,) = exactness.check_virtually([case])
    (four,) = exactness.check_virtually([replace(case, ring=4)])
    assert two.errors[0] < 1e-15 < 1e-3 < four.errors[0]


def test_the_wrong_half_of_a_block_is_seen_only_in_zigzag(monkeypatch):
    monkeypatch.setattr(ring, "rows", other_half)
    assert {method.removesuffix(", packed") for method in wrong(4)} == {
        "ring zigzag",
        "all-gather zigzag",
        "hybrid zigzag",
    }


def test_gradients_that_stop_one_hop_from_home_are_seen(monkeypatch):
    once = kv_gradients.Following.add

    def stays(self, found):
        before = self.axis
        steps = self.__dict__.setdefault("steps", 0)
        self.steps += 1
        self.axis = VirtualAxis([[0]]) if steps == before.size - 1 else before
        once(self, found)
        self.axis = before

    monkeypatch.setattr(kv_gradients.Following, "add", stays)
    assert {"ring contiguous", "ring zigzag", "hybrid zigzag"} <= set(wrong(4))


def test_gradients_by_a_blocks_own_sum_are_seen(monkeypatch):
    once = block.backward

    def own_sum(gradient, q, k, v, whole, *, causal, scale):
        alone = block.forward(q, k, v, causal=causal, scale=scale)
        return once(gradient, q, k, v, alone, causal=causal, scale=scale)

    monkeypatch.setattr(block, "backward", own_sum)
    assert "ring contiguous" in wrong(4)


def test_heads_that_are_shared_are_repeated_and_their_gradients_summed(monkeypatch):
    case = next(c for c in cases(8, ["f64"]) if c.method == "ulysses")
    (checked,) = exactness.check_virtually([case])
    assert case.kv_heads < case.ulysses
    assert checked.exact


def test_gradients_of_keys_may_travel_in_the_dtype_of_the_keys():
    case = next(c for c in cases(4, ["bf16"]) if c.method == "ring zigzag")
    how = replace(case.how, gradient_dtype=torch.bfloat16)
    coarse = run(case, how)
    fine = run(case, case.how)
    assert coarse.outs[0].equal(fine.outs[0])
    assert coarse.gradients[0].queries.equal(fine.gradients[0].queries)
    assert not coarse.gradients[0].keys.equal(fine.gradients[0].keys)
    error = (coarse.gradients[0].keys - fine.gradients[0].keys).norm()
    assert error < 0.01 * fine.gradients[0].keys.norm()


def test_documents_that_see_each_other_are_seen(monkeypatch):
    monkeypatch.setattr(Ring, "lengths", lambda self, axis, tokens: [tokens])
    assert {"ring zigzag, packed", "all-gather zigzag, packed"} <= set(wrong(4))


def test_what_a_ring_cannot_do_is_refused():
    ring_of_two = VirtualAxis([[0, 1]])
    how = Ring(order=SequenceOrder.ZIGZAG, window=8, documents=(8, 10))
    with pytest.raises(SpecError) as caught:
        how.check(ring_of_two)
    window_of, document = caught.value.problems
    assert (window_of.field, window_of.value) == ("--window", 8)
    assert (document.field, document.value) == ("documents", 10)
    assert "a multiple of 4" in document.mend


def test_heads_and_tokens_that_cannot_be_divided_are_refused():
    with pytest.raises(SpecError) as caught:
        check_heads(3, 8, 2)
    assert "a divisor of the 8 query heads" in caught.value.problems[0].mend
    assert "a divisor or a multiple of the 2 key/value heads" in caught.value.problems[1].mend
    with pytest.raises(SpecError) as caught:
        shards.tokens_of((16, 12), 3, 2, SequenceOrder.ZIGZAG, (0, 0))
    (total,) = caught.value.problems
    assert (total.value, total.mend) == (28, "a multiple of 6: every rank holds as many")
    with pytest.raises(SpecError, match="tokens = 10: a multiple of 4"):
        shards.tokens_of(10, 1, 2, SequenceOrder.ZIGZAG, (0, 0))


class Run:
    def __init__(self, outs, gradients):
        self.outs, self.gradients = outs, gradients


def run(case, how, mesh=None):
    """Run a case in this process, forward and backward."""
    dtype = DTYPES[case.dtype]
    mesh = mesh or exactness.virtual_mesh(case.ulysses, case.ring)
    places = shards.places(case.ulysses, case.ring)
    numbers = [
        shards.tokens_of(case.tokens, case.ulysses, case.ring, case.order, place)
        for place in places
    ]
    whole = inputs(case, "cpu")
    q, k, v, gradient = (shards.cut(each.to(dtype), 2, numbers) for each in whole)
    outs, held = kernels.forward(mesh, how, q, k, v)
    heads = {"heads": case.heads, "kv_heads": case.kv_heads}
    return Run(outs, kernels.backward(mesh, how, held, gradient, **heads))


def test_autograd_differentiates_what_is_computed():
    mesh = ContextMesh(ulysses=VirtualAxis([[0]]), ring=VirtualAxis([[0]]))
    how = Ring(order=SequenceOrder.CONTIGUOUS)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, heads, 6, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    )
    assert torch.autograd.gradcheck(lambda *x: attention(*x, mesh, how), (q, k, v))


class Counted(VirtualAxis):
    """Counts the bytes that rank 0 sends."""

    sent = 0.0

    def shift(self, tensors):
        self.sent += tensors[0].nbytes * (self.size > 1)
        return Moving(super().shift(tensors).arriving)

    def exchange(self, tensors):
        self.sent += tensors[0].nbytes * (self.size - 1) / self.size
        return super().exchange(tensors)

    def gather(self, tensors):
        self.sent += tensors[0].nbytes * (self.size - 1)
        return super().gather(tensors)

    def scatter_sum(self, tensors):
        self.sent += tensors[0].nbytes * (self.size - 1) / self.size
        return super().scatter_sum(tensors)


@pytest.mark.parametrize("gathers", [False, True])
@pytest.mark.parametrize(("ulysses", "ring_size"), [(1, 8), (8, 1), (4, 2), (16, 2), (2, 8)])
def test_kernels_send_what_the_inventory_says(ulysses, ring_size, gathers):
    """Of a layer of Llama 3.1 70B, where nothing is computed nor kept; eager kernels send fp32."""
    seq_len, heads, kv_heads, width = 2**20, 64, 8, 128
    virtual = exactness.virtual_mesh(ulysses, ring_size)
    mesh = ContextMesh(ulysses=Counted(virtual.ulysses.groups), ring=Counted(virtual.ring.groups))
    how = Ring(order=SequenceOrder.ZIGZAG, gathers=gathers)
    tokens = seq_len // (ulysses * ring_size)

    def every(number):
        shape = 1, number, tokens, width
        return [torch.empty(shape, dtype=torch.bfloat16) for _ in range(ulysses * ring_size)]

    with FakeTensorMode():
        q, k, v = every(heads), every(kv_heads), every(kv_heads)
        outs, held = kernels.forward(mesh, how, q, k, v)
        forward = mesh.ulysses.sent + mesh.ring.sent
        kernels.backward(mesh, how, held, outs, heads=heads, kv_heads=kv_heads)
        backward = mesh.ulysses.sent + mesh.ring.sent - forward
    axes = {
        "ulysses": ulysses,
        "ring": ring_size,
        "cp_method": CpMethod.ALL_GATHER if gathers else CpMethod.P2P,
        "kernels": Kernels.EAGER,
        "sequence_order": SequenceOrder.ZIGZAG,
    }
    work = work_of("llama-3.1-70b", seq_len, **axes)
    said = [
        sent_bytes(ops, MeshAxis.ULYSSES, ulysses) + sent_bytes(ops, MeshAxis.RING, ring_size)
        for ops in (work.forward_communication(), work.backward_communication())
    ]
    assert [forward, backward] == pytest.approx(said, rel=1e-12)


def test_states_that_are_not_handed_on_are_seen(monkeypatch):
    monkeypatch.setattr(state_pass, "_packed", lambda scanned: 0.0 * PACKED(scanned))
    assert wrong(4) == ["state pass"]


def test_states_handed_on_without_their_decay_are_seen_on_three_ranks(monkeypatch):
    """Of two ranks the first has nothing before it that could decay on its way."""

    def packed(scanned):
        return PACKED(scanned._replace(log_decay=torch.zeros_like(scanned.log_decay)))

    monkeypatch.setattr(state_pass, "_packed", packed)
    assert "state pass" not in wrong(2)
    assert wrong(4) == ["state pass"]


def test_decays_have_gradients_too():
    generator = torch.Generator().manual_seed(0)
    ranks, tokens = 3, 5
    axis = VirtualAxis([[0, 1, 2]])

    def drawn(*shape):
        return torch.randn(1, 2, ranks * tokens, *shape, generator=generator, dtype=torch.float64)

    c, b, x, decay = drawn(4), drawn(4), drawn(3), -drawn().abs() / 4

    def run(*whole):
        parts = zip(*(each.split(tokens, 2) for each in whole), strict=True)
        return torch.cat(state_pass.forward(axis, [StateSpace(*one) for one in parts]), 2)

    leaves = [each.requires_grad_() for each in (c, b, x, decay)]
    assert torch.autograd.gradcheck(run, leaves)


PACKED = state_pass._packed
