"""The double ring (LoongTrain, arXiv:2406.18485), against blocks moved by hand from rank to rank.

Rank ``r`` of ``ring`` sits at place ``r % inner_ring`` of window ``r // inner_ring``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest

from models import collectives
from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch, strides
from models.named_axes import CpPlacement, Kernels
from models.operation import Axis, Communication
from models.part_times import PartClock
from models.sequence_parallel.sent import (
    CORE_ATTENTION,
    backward_buffer_bytes,
    forward_buffer_bytes,
)
from tests.models.cases import machine, shapes, work_of
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.operation import Work

T = TypeVar("T")

MODEL = "llama-3.1-70b"
KV_HEADS, WIDTH = 8, 128
#: Ring and window: two nodes of eight, windows over and under a node, and no powers of two.
RINGS = [(16, 8), (16, 2), (8, 4), (4, 2), (12, 4), (6, 3), (9, 3)]
FLAT = [(16, 1), (8, 1), (5, 1), (2, 1)]


# ------------------------------------------------------------------- blocks moved from rank to rank


@dataclass
class Windows:
    """Ranks that pass what they hold on, all at once, and count their hops."""

    ring: int
    window: int
    hops: Counter[tuple[str, Axis]] = field(default_factory=Counter)

    def inside(self, what: str, held: list[T], way: int) -> list[T]:
        """Return what ranks hold once everybody has sent it to a neighbour in the window."""
        self.hops[what, Axis.INNER_RING] += 1
        first = [rank - rank % self.window for rank in range(self.ring)]
        return [held[start + (r - way) % self.window] for r, start in enumerate(first)]

    def between(self, what: str, held: list[T], way: int) -> list[T]:
        """Return what ranks hold once everybody has sent it to the same place of a window."""
        self.hops[what, Axis.RING] += 1
        return [held[(rank - way * self.window) % self.ring] for rank in range(self.ring)]

    def forward(self) -> list[int]:
        """Attend to every block; return the block each rank holds at the end."""
        held = list(range(self.ring))
        seen: list[list[int]] = [[] for _ in held]
        rounds = self.ring // self.window
        for turn in range(rounds):
            ahead = self.between("k, v", held, 1) if turn < rounds - 1 else []
            for step in range(self.window):
                for rank, block in enumerate(held):
                    seen[rank].append(block)
                if step < self.window - 1:
                    held = self.inside("k, v", held, 1)
            held = ahead or held
        assert all(sorted(blocks) == list(range(self.ring)) for blocks in seen)
        return held

    def backward(self, held: list[int], way: int, *, homecoming: bool) -> None:
        """Carry gradients along with blocks, and check that they come home complete."""
        summed: list[tuple[int, frozenset[int]]] = []
        rounds = self.ring // self.window
        for turn in range(rounds):
            ahead = self.between("k, v", held, way) if turn < rounds - 1 else []
            carried = [(block, frozenset[int]()) for block in held]
            for step in range(self.window):
                assert [block for block, _ in carried] == held
                carried = [(block, by | {rank}) for rank, (block, by) in enumerate(carried)]
                if step < self.window - 1:
                    held = self.inside("k, v", held, way)
                    carried = self.inside("dk, dv", carried, way)
            if summed:  # what earlier windows found arrives where this round ends
                assert [block for block, _ in summed] == held
                carried = [(b, by | old) for (b, by), (_, old) in zip(carried, summed, strict=True)]
            summed = self.between("dk, dv", carried, way) if turn < rounds - 1 else carried
            held = ahead or held
        if homecoming:
            summed = self.between("dk, dv", summed, way)
            summed = self.inside("dk, dv", summed, way) if self.window > 1 else summed
        everyone = frozenset(range(self.ring))
        assert summed == [(rank, everyone) for rank in range(self.ring)]


def moved(ring: int, window: int, kernels: Kernels) -> tuple[Windows, Windows]:
    """Return the hops of a forward and of a backward pass.

    Eager kernels (ring-flash-attention) start again from home and go the same way; fused ones
    (TransformerEngine) go back the way the forward pass came, from where it ended.
    """
    forward, backward = Windows(ring, window), Windows(ring, window)
    ended = forward.forward()
    if kernels is Kernels.EAGER:
        backward.backward(list(range(ring)), 1, homecoming=True)
    else:
        backward.backward(ended, -1, homecoming=False)
    return forward, backward


def hops_of(operations: Iterable[Communication]) -> dict[tuple[str, Axis], float]:
    """Return the hops of keys and values and of their gradients that the inventory counts."""
    return {
        (op.name.removeprefix("inner ").removeprefix("ring "), op.axis): float(op.calls[0])
        for op in operations
        if op.collective is Collective.SHIFT and op.calls[0]
    }


def double(ring: int, window: int, seq_len: int = 36864, **axes: Any) -> Work:
    return work_of(MODEL, seq_len, ring=ring, inner_ring=window, **axes)


@pytest.mark.parametrize("kernels", list(Kernels))
@pytest.mark.parametrize(("ring", "window"), [*RINGS, *FLAT])
def test_hops_are_those_that_bring_every_block_to_every_rank_and_gradients_home(
    ring: int, window: int, kernels: Kernels
) -> None:
    work = double(ring, window, kernels=kernels)
    forward, backward = moved(ring, window, kernels)
    assert hops_of(work.forward_communication()) == forward.hops
    assert hops_of(work.backward_communication()) == backward.hops


@pytest.mark.parametrize(("kernels", "gradient"), [(Kernels.EAGER, 4), (Kernels.FUSED, 2)])
@pytest.mark.parametrize(("ring", "window"), RINGS)
def test_every_hop_carries_the_keys_and_values_of_one_rank(
    ring: int, window: int, kernels: Kernels, gradient: int
) -> None:
    elements = 2 * 36864 / ring * KV_HEADS * WIDTH
    work = double(ring, window, kernels=kernels)
    for op in (*work.forward_communication(), *work.backward_communication()):
        if op.collective is Collective.SHIFT:
            assert op.nbytes[0] == elements * (gradient if "dk, dv" in op.name else 2)
            assert op.hidden_by == CORE_ATTENTION


@pytest.mark.parametrize(("ring", "window"), RINGS)
def test_a_double_ring_sends_the_bytes_of_a_flat_one(ring: int, window: int) -> None:
    """But for the one hop more that gradients take home where both rings leave them next door."""
    for kernels in Kernels:
        sent = []
        for inner in (1, window):
            work = double(ring, inner, kernels=kernels)
            passes = (work.forward_communication(), work.backward_communication())
            sent.append([sum(hops_of(operations).values()) for operations in passes])
        flat, cut = sent
        assert cut[0] == flat[0] == ring - 1
        assert cut[1] == flat[1] + (kernels is Kernels.EAGER)


def test_with_ulysses_hops_carry_its_share_of_the_heads() -> None:
    whole, half = (double(8, 4, ulysses=degree) for degree in (1, 2))
    for one, other in zip(whole.forward_communication(), half.forward_communication(), strict=True):
        if one.collective is Collective.SHIFT:
            assert other.nbytes[0] == one.nbytes[0] / 2
            assert other.calls[0] == one.calls[0]


@pytest.mark.parametrize("placement", list(CpPlacement))
def test_windows_are_runs_of_ring_neighbours(placement: CpPlacement) -> None:
    layout = Layout(tp=2, ulysses=4, ring=8, inner_ring=2, dp=3, cp_placement=placement)
    found = strides(LayoutBatch.of([layout]))
    ranks = np.arange(2 * 4 * 8)
    mesh = ranks.reshape(8, 4, 2) if placement is CpPlacement.HEAD_FIRST else ranks.reshape(4, 8, 2)
    along = mesh[:, 0, 0] if placement is CpPlacement.HEAD_FIRST else mesh[0, :, 0]
    assert found.inner_ring[0] == along[1] - along[0]
    assert found.ring[0] == along[2] - along[0]


def test_a_block_on_its_way_to_the_next_window_needs_room() -> None:
    """Eager kernels hold three blocks of keys, values and fp32 gradients; fused ones all anyway."""
    mixer = load_architecture(MODEL).layers[0].mixer
    kv, queries = 2 * 65536 / 16 * KV_HEADS * WIDTH, 65536 / 16 * 64 * WIDTH
    flat, cut = (
        float(backward_buffer_bytes(mixer, shape)[0])
        for shape in (shapes(65536, ring=16, inner_ring=w, kernels=Kernels.EAGER) for w in (1, 8))
    )
    assert cut == 3 * kv * (2 + 4) + 4 * queries
    assert cut - flat == kv * (2 + 4)
    whole, kept = (
        forward_buffer_bytes(mixer, shapes(65536, ring=16, inner_ring=w))[0] for w in (1, 8)
    )
    assert whole == kept


# --------------------------------------------------------------------------------- seconds, exposed

#: Two nodes, and four of which a ring of eight fills one.
NODES, NODE_OF_FOUR = machine("h100-dgx:2"), machine("h100-dgx:4")


def cp_seconds(work: Work, where: Any, **axes: Any) -> tuple[float, float]:
    """Return what context parallelism adds to a layer's passes."""
    times = PartClock(*where, shapes(**axes)).times(work)
    return float(times.forward.cp[0]), float(times.backward.cp[0])


@dataclass(frozen=True)
class Ring:
    """Blocks with the hops between them, played one by one.

    Parameters
    ----------
    group
        Size and stride of the groups that hop.
    blocks
        How many blocks the ring has.
    ahead, behind
        Bytes of a hop that the next block waits for, and of one that a block has made; 0 for none.
    home
        Hops of what was made, after the last block.
    """

    group: tuple[int, int]
    blocks: int
    ahead: float
    behind: float = 0.0
    home: int = 0

    def played(self, block_s: float, where: Any) -> float:
        """Return when the last hop has arrived."""
        device, fabric = where
        links = fabric.links(tuple(np.array([float(n)]) for n in self.group))
        cost = collectives.cost(Collective.SHIFT, links, device.profile)
        steal = float(collectives.steal(links, device.profile)[0])

        def hop(nbytes: float) -> float:
            return float(cost.seconds(np.array([nbytes]))[0]) if nbytes else 0.0

        clock = 0.0
        for block in range(self.blocks):
            sending = hop(self.ahead) * (block < self.blocks - 1) + hop(self.behind) * (block > 0)
            done = min((1.0 - steal) * sending, block_s)  # of the block when the hops have arrived
            clock += sending + block_s - done
        return clock + self.home * hop(self.behind)


def core_seconds(work: Work, where: Any) -> tuple[float, float]:
    """Return attention's seconds in both passes."""
    device, _ = where
    forward, backward = (
        sum(float(device.seconds(op)[0]) for op in operations if op.name == CORE_ATTENTION)
        for operations in (work.forward_compute(), work.backward_compute())
    )
    return forward, backward


@pytest.mark.parametrize("kernels", list(Kernels))
@pytest.mark.parametrize("seq_len", [8192, 65536, 524288])
@pytest.mark.parametrize("ring", [2, 8, 16])
def test_a_flat_ring_takes_what_it_takes_block_by_block(
    ring: int, seq_len: int, kernels: Kernels
) -> None:
    """Every hop at the rate of the whole ring; eager gradients make one more, to come home."""
    axes = {"seq_len": seq_len, "ring": ring, "kernels": kernels}
    work = work_of(MODEL, **axes)
    kv, eager = 2 * seq_len / ring * KV_HEADS * WIDTH * 2, kernels is Kernels.EAGER
    rings = (
        Ring((ring, 1), ring, kv),
        Ring((ring, 1), ring, kv, 2 * kv if eager else kv, home=int(eager)),
    )
    for found, core_s, one in zip(
        cp_seconds(work, NODES, **axes), core_seconds(work, NODES), rings, strict=True
    ):
        assert found + core_s == pytest.approx(one.played(core_s / ring, NODES), rel=1e-9)


@pytest.mark.parametrize("seq_len", [8192, 32768, 524288])
@pytest.mark.parametrize("window", [2, 4, 8])
def test_rings_on_different_links_each_hide_behind_their_own_rounds(
    window: int, seq_len: int
) -> None:
    """Windows inside nodes, one place of a node in each outer ring or more.

    Fused kernels: gradients have the bytes and the hops of keys and values.
    """
    axes = {"seq_len": seq_len, "ring": 16, "inner_ring": window}
    work = work_of(MODEL, **axes)
    kv, rounds = 2 * seq_len / 16 * KV_HEADS * WIDTH * 2, 16 // window
    found = zip(cp_seconds(work, NODES, **axes), core_seconds(work, NODES), (0.0, kv), strict=True)
    for exposed, core_s, behind in found:
        round_s = Ring((window, 1), window, kv, behind).played(core_s / 16, NODES)
        outer = Ring((rounds, window), rounds, kv, behind)
        assert exposed + core_s == pytest.approx(outer.played(round_s, NODES), rel=1e-9)


@pytest.mark.parametrize("seq_len", [2048, 16384, 262144])
@pytest.mark.parametrize("window", [2, 4])
def test_inside_one_node_there_is_nothing_to_gain(window: int, seq_len: int) -> None:
    """Both rings share NVLink: the same hops over the same links, with the same room."""
    times = []
    for inner in (1, window):
        axes = {"seq_len": seq_len, "ring": 8, "inner_ring": inner}
        times.append(cp_seconds(work_of(MODEL, **axes), NODE_OF_FOUR, **axes))
    flat, cut = times
    assert cut == pytest.approx(flat, rel=1e-9)
    assert min(flat) > 0


def test_a_flat_ring_leaves_a_node_by_one_card_and_windows_by_all_eight() -> None:
    """DGX H100: a 400 Gb/s card per accelerator, of which sends reach 75%.

    A hop of the flat ring waits for the pair at the border, 15 times; of a double ring with a
    window per node every rank crosses once, each by a card of its own.
    """
    _, fabric = NODES
    size, stride = np.array([16.0, 8.0, 2.0]), np.array([1.0, 1.0, 8.0])
    flat, inside, between = fabric.links((size, stride)).shift_Bps
    card = 50e9 * 0.747
    assert flat == between == pytest.approx(card)
    assert inside > 5 * card
    kv = 2 * 32768 / 16 * KV_HEADS * WIDTH * 2
    for window, hops in ((1, 15), (8, 1)):
        short, long = (seconds_between_windows(tokens, window) for tokens in (32768, 65536))
        assert long - short == pytest.approx(hops * kv / card)  # what starting takes cancels out


def seconds_between_windows(seq_len: int, window: int) -> float:
    """Return a forward pass' seconds on the wire from window to window, of 16 over two nodes."""
    clock = PartClock(*NODES, shapes(seq_len, ring=16, inner_ring=window))
    sent = double(16, window, seq_len).forward_communication()
    return sum(float((clock.hop_seconds(op) * op.calls)[0]) for op in sent if op.axis is Axis.RING)
