"""Which moments of a step need most: the loss, the first layer that goes back, the last."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.catalogue import load_architecture
from models.layout import Layout
from models.memory import fewest_repeated_layers, memory_bill, transit_bytes
from models.memory_bill import LINES
from models.named_axes import Recompute, RecomputeMethod, Schedule, StageSplit
from models.rank_memory import RankMemory
from models.rank_parts import RankParts
from models.simulation.record import record
from models.simulation.step import StepSimulation
from models.software import load_software
from tests.models.cases import machine, prepared, tuned

if TYPE_CHECKING:
    from models.memory_bill import MemoryBill
    from models.prepared import Prepared

LLAMA = load_architecture("llama-3.1-8b")
#: The same with so few words that its loss needs next to nothing.
FEW_WORDS = replace(LLAMA, vocab=1024)
DEVICE, FABRIC = machine("h100-dgx:4")
BARE = tuned(DEVICE.profile, fragmentation=0.0, fragmentation_least=0.0)
#: Gradients in buffers from the start, and those that come with the backward pass.
EARLY, LATE = "transformer-engine", "jax"
IN_BUCKETS = "hugging-face"
#: A capacity so short that the allocator has given back all that it can.
NO_ROOM = 0.0
WHOLE = Layout(dp=8, zero=3, recompute=Recompute.FULL)


class Held:
    """What autograd keeps a tensor in."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_a_loss_has_let_go_of_all_it_kept_before_a_layer_goes_back() -> None:
    """In torch: nothing of the head and the loss is alive once the layer's gradient comes."""
    kept: list[weakref.ref[Held]] = []

    def pack(tensor: torch.Tensor) -> Held:
        held = Held(tensor)
        kept.append(weakref.ref(held))
        return held

    layer, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 32)
    stream = layer(torch.randn(4, 8)).relu()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        loss = functional.cross_entropy(head(stream), torch.arange(4))
    before = sum(each() is not None for each in kept)
    alive: list[int] = []
    stream.register_hook(lambda _: alive.append(sum(each() is not None for each in kept)))
    loss.backward()
    assert before >= 3
    assert alive == [0]


def asked(model, software, layout=WHOLE, *, seq_len=32_768, micro_batches=1) -> MemoryBill:
    work = prepared(
        model,
        layout,
        seq_len=seq_len,
        global_batch=layout.dp * micro_batches,
        software=software,
    )
    return memory_bill(work, BARE)


def passing(bill: MemoryBill) -> float:
    return float((bill.activations + bill.logits + bill.working)[0])


def test_a_loss_and_a_layer_going_back_are_not_there_together() -> None:
    """With twice the words a loss that needs more than a layer grows, one that needs less not."""
    bytes_of = {
        words: passing(asked(replace(LLAMA, vocab=words), EARLY)) for words in (1_024, 2_048)
    }
    assert bytes_of[1_024] == bytes_of[2_048]
    (loss,) = asked(LLAMA, EARLY).working
    assert loss == 0.0
    many = passing(asked(replace(LLAMA, vocab=2 * LLAMA.vocab), EARLY))
    assert many - passing(asked(LLAMA, EARLY)) == pytest.approx(32_768 * LLAMA.vocab * 6.0)


def test_gradients_that_come_late_are_not_there_while_a_loss_is_taken() -> None:
    early, late = (asked(LLAMA, software) for software in (EARLY, LATE))
    assert late.gradients == [0.0]
    assert early.gradients > 4e9  # in fp32 over eight
    for line in set(LINES) - {"gradients", "parameters"}:
        assert getattr(early, line) == getattr(late, line), line


def test_the_heads_gradients_are_there_once_a_layer_goes_back() -> None:
    """Where that needs more than the loss before it."""
    late = asked(FEW_WORDS, LATE)
    assert late.working > 0
    head = (1_024 + 1) * LLAMA.hidden  # with the last norm
    assert late.gradients == pytest.approx(head * 4.0 / 8)


def test_gradients_of_several_micro_batches_wait_for_the_last() -> None:
    early, late = (asked(LLAMA, software, micro_batches=2) for software in (EARLY, LATE))
    assert early.gradients == late.gradients
    # Shards in 16 bits are beside the master weights of one only.
    assert early.total - late.total == pytest.approx(early.parameters - late.parameters)


def test_short_sequences_need_most_when_all_gradients_are_there() -> None:
    """As much as with gradients from the start, but for what other layers and the loss keep."""
    early, late = (asked(FEW_WORDS, software, seq_len=1_024) for software in (EARLY, LATE))
    assert late.gradients == early.gradients
    stream, logits = 1_024 * LLAMA.hidden * 2.0, 1_024 * 1_024 * 4.0
    ends = 2 * stream + logits  # the last norm's input, the head's, and what the loss keeps
    assert early.activations - late.activations == pytest.approx(31 * stream + ends, rel=1e-3)
    assert late.activations == [stream + 8 * 1_024]  # and the token numbers
    assert late.working == pytest.approx(early.working + early.logits + ends, rel=1e-3)


@pytest.mark.parametrize("seq_len", [1_024, 4_096, 32_768])
def test_late_gradients_never_need_more(seq_len: int) -> None:
    for layout in (WHOLE, Layout(dp=8, zero=1), Layout(dp=4, tp=2, zero=0)):
        early, late = (
            float(asked(LLAMA, software, layout, seq_len=seq_len).total[0])
            for software in (EARLY, LATE)
        )
        assert late <= early


@pytest.mark.parametrize("name", ["jamba-v0.1", "nemotron-h-8b"])
def test_nor_does_any_rank_of_a_model_of_several_kinds_of_layers(name: str) -> None:
    model = load_architecture(name)
    layout = Layout(pp=len(model.layers), zero=0)
    early, late = (
        RankMemory(prepared(model, layout, seq_len=32_768, global_batch=1, software=each), BARE)
        for each in (EARLY, LATE)
    )
    for rank in range(early.prepared.stages.width):
        assert late.total(rank) <= early.total(rank) * (1 + 1e-12)


@pytest.mark.parametrize("seq_len", range(4_096, 9_000, 512))
def test_the_reserve_counts_where_moments_are_compared(seq_len: int) -> None:
    """No less than with gradients from the start and those taken off."""
    bills = [
        memory_bill(
            prepared(
                LLAMA, Layout(dp=8, zero=0), seq_len=seq_len, global_batch=8, software=software
            ),
            DEVICE.profile,
            NO_ROOM,
        )
        for software in (EARLY, LATE)
    ]
    early, late = bills
    assert late.total >= early.total - early.gradients


@pytest.mark.parametrize("seq_len", [4_096, 8_192, 16_384])
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_the_fewest_recomputed_layers_are_the_fewest(seq_len: int, zero: int) -> None:
    """Against every number of layers in turn, where late gradients may bind."""

    def work(*counts: int) -> Prepared:
        layouts = [replace(WHOLE, zero=zero, recompute_layers=count) for count in counts]
        return prepared(LLAMA, *layouts, seq_len=seq_len, global_batch=8, software=LATE)

    totals = memory_bill(work(*range(1, 33)), DEVICE.profile, NO_ROOM).total
    for capacity in np.linspace(totals[-1], totals[0], 9):
        (fewest,) = fewest_repeated_layers(work(0), DEVICE.profile, capacity * (1 + 1e-12))
        fitting = np.flatnonzero(totals <= capacity * (1 + 1e-9))
        assert max(fewest, 1) == fitting[0] + 1


@pytest.mark.parametrize("together", [2, 4])
def test_at_last_the_whole_input_of_a_group_is_there(together: int) -> None:
    layouts = [
        replace(WHOLE, recompute_layers=many, recompute_method=RecomputeMethod.UNIFORM)
        for many in (1, together)
    ]
    one, group = (asked(FEW_WORDS, LATE, layout, seq_len=1_024) for layout in layouts)
    assert one.gradients == group.gradients > 0
    assert one.activations == group.activations


@pytest.mark.parametrize(
    ("schedule", "frees"), [(Schedule.ONE_F_ONE_B, True), (Schedule.ZB_H1, False)]
)
def test_losses_that_wait_for_gradients_of_weights_free_nothing(
    schedule: Schedule, frees: bool
) -> None:
    layout = Layout(pp=4, schedule=schedule, recompute=Recompute.FULL)
    work = prepared(
        replace(LLAMA, vocab=32_000), layout, seq_len=16_384, global_batch=16, software=EARLY
    )
    (layer,) = work.layers
    peak = float((layer.working_bytes + layer.saved_bytes() - layer.input_bytes)[0])
    loss = float(work.head.saved_bytes()[0]) if frees else 0.0
    ranks = RankMemory(work, BARE)
    at = work.stages.width - 1
    last = ranks.passes(at, RankParts.of(work, at), np.zeros(1))
    assert last.logits > 0
    assert last.working == pytest.approx(max(peak - float(last.logits[0]) - loss, 0.0))


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_gradients_are_sent_from_two_buckets_whatever_the_layer(zero: int) -> None:
    """Of 5e8 parameters in fp32; without sharding nothing is put together."""
    layout = Layout(dp=8, zero=zero)
    for model in (LLAMA, load_architecture("llama-3.2-1b")):
        bare, bucketed = (
            prepared(model, layout, global_batch=8, software=software)
            for software in (EARLY, IN_BUCKETS)
        )
        layer = max(float(each[0]) for each in bare.parameters.layers) * 4.0
        apart = float((transit_bytes(bucketed, BARE) - transit_bytes(bare, BARE))[0])
        own = layer if zero >= 2 else 0.0
        assert apart + own == pytest.approx(4e9 if zero else 0.0)


def test_stages_with_buffers_of_shards_have_them_from_the_start() -> None:
    assert load_software(IN_BUCKETS).gradient_buffers == (3,)
    for zero, there in ((2, False), (3, True)):
        bill = asked(LLAMA, IN_BUCKETS, replace(WHOLE, zero=zero))
        assert (bill.gradients[0] > 0) == there


@pytest.mark.parametrize("seq_len", [1_024, 32_768])
def test_memory_in_use_peaks_where_the_bill_says(seq_len: int) -> None:
    work = prepared(LLAMA, WHOLE, seq_len=seq_len, global_batch=8, software=LATE)
    ((_, nbytes),) = record(StepSimulation(work, DEVICE, FABRIC)).memory
    bill = memory_bill(work, DEVICE.profile)
    assert float(nbytes.max()) == pytest.approx(float(bill.total[0]), rel=0.01)


def test_every_rank_of_uneven_stages_peaks_where_the_bill_says() -> None:
    """Of which some recompute a larger share of their layers than others."""
    layout = Layout(
        dp=4,
        pp=3,
        zero=1,
        stage_split=StageSplit.BALANCED,
        recompute=Recompute.FULL,
        recompute_layers=7,
    )
    work = prepared(LLAMA, layout, seq_len=4_096, global_batch=4, software=LATE)
    device = replace(DEVICE, profile=BARE)
    ranks = RankMemory(work, BARE)
    for rank, (_, nbytes) in enumerate(record(StepSimulation(work, device, FABRIC)).memory):
        assert float(nbytes.max()) == pytest.approx(float(ranks.total(rank)[0]), rel=1e-3)
