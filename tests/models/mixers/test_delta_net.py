"""Gated delta nets: FLOP against torch's counter, what is kept and sent by hand."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch
from models.mixers.delta_net import DeltaNetWork
from models.operation import Axis
from models.shape import Shapes
from tests.models.cases import config
from tests.models.mixers.cases import flop, kept, recurrent, recurrent_work, sent
from tests.oracles.recurrent_reference import mixer_flop

NAME, SEQ_LEN = "qwen3-next-80b-a3b", 4096
MIXER = recurrent(load_architecture(NAME)).mixer
PROJECTIONS = ("delta net in", "delta net out")
INSIDE = ("delta net keys by keys", "delta net queries by keys", "delta net output inside chunks")
STATES = ("delta net answers", "delta net written states", "delta net output of states")
#: The triangular system's solution, which torch's counter does not know.
SOLVED = ("delta net w", "delta net u")


def test_projections_cost_what_torch_counts() -> None:
    work = recurrent_work(NAME, SEQ_LEN)
    for backward in (False, True):
        counted = mixer_flop(config(NAME), SEQ_LEN, backward=backward)["mm"]
        assert flop(work, *PROJECTIONS, backward=backward) == counted


def test_the_delta_rule_costs_what_torch_counts() -> None:
    """Torch solves the triangular system instead of multiplying by its inverse."""
    work = recurrent_work(NAME, SEQ_LEN)
    assert flop(work, *INSIDE, *STATES) == mixer_flop(config(NAME), SEQ_LEN)["bmm"]
    solved = 2 * SEQ_LEN * 64 * MIXER.value_heads * (MIXER.key_dim + MIXER.value_dim)
    assert flop(work, *SOLVED) == solved


def test_backward_makes_again_all_but_the_output() -> None:
    work = recurrent_work(NAME, SEQ_LEN)
    rule = (*INSIDE, *STATES, *SOLVED)
    output = flop(work, "delta net output of states", "delta net output inside chunks")
    assert flop(work, *rule, backward=True) == 3 * flop(work, *rule) - output


def test_a_rank_alone_holds_every_parameter_and_others_share_heads() -> None:
    architecture = load_architecture(NAME)
    layer, hidden = recurrent(architecture), architecture.hidden
    batch = LayoutBatch.of([Layout(), Layout(tp=16), Layout(tp=32)])
    held = DeltaNetWork(MIXER, hidden, Shapes(batch=batch, seq_len=SEQ_LEN)).parameters()
    total = layer.params(hidden) - layer.norm_params(hidden)
    assert float(held[0]) == total
    whole = MIXER.value_dim  # the norm of a head
    assert float(held[1]) == (total - whole) / 16 + whole
    replicated = 2 * MIXER.key_width * (hidden + MIXER.conv)
    assert float(held[2]) == (total - whole + replicated) / 32 + whole


def test_a_ring_hands_on_states_and_what_they_are_multiplied_by() -> None:
    """As flash-linear-attention: ``key_dim`` by both widths in fp32, gathered."""
    state = 4 * MIXER.value_heads * MIXER.key_dim * (MIXER.key_dim + MIXER.value_dim)
    for seq_len in (8192, 1048576):
        for order, runs in ((0, 1), (1, 2)):
            work = recurrent_work(NAME, seq_len, ring=8, sequence_order=order)
            for backward, what in ((False, "states"), (True, "state gradients")):
                found = sent(work, Axis.RING, backward=backward)
                assert found[f"delta net {what}"] == (8 * runs * state, 1)


def test_a_ring_computes_states_and_transitions_once_more() -> None:
    """Two products of states, keys by ``w``, and one of transitions for every chunk."""
    work = recurrent_work(NAME, 65536, ring=8)
    tokens, heads, key = 65536 / 8, MIXER.value_heads, MIXER.key_dim
    found = flop(work, "delta net last state", "delta net transition")
    products = 2 * tokens * heads * key
    assert found == products * (2 * MIXER.value_dim + key + key * key / 64)
    assert flop(recurrent_work(NAME, 65536), "delta net last state", "delta net transition") == 0


def test_ulysses_exchanges_the_projection_at_once_with_key_heads_replicated() -> None:
    for ulysses, replicas in ((16, 1), (32, 2)):
        work = recurrent_work(NAME, 65536, ulysses=ulysses)
        columns = 2 * MIXER.value_width + 2 * MIXER.value_heads + 2 * replicas * MIXER.key_width
        tokens = 65536 / ulysses
        assert sent(work, Axis.ULYSSES) == {
            "delta net ulysses input": (pytest.approx(2 * tokens * columns), 1),
            "delta net ulysses output": (2 * tokens * MIXER.value_width, 1),
        }


def test_the_rule_keeps_normalised_keys_values_gates_and_inverses() -> None:
    found = kept(recurrent_work(NAME, SEQ_LEN))
    convolved = 2 * MIXER.key_width + MIXER.value_width
    assert found["delta net convolution"] == 2 * SEQ_LEN * convolved
    scalars = 6 * MIXER.value_heads + 8 * MIXER.key_heads
    inverses = 2 * 64 * MIXER.value_heads
    assert found["delta net rule"] == SEQ_LEN * (2 * convolved + scalars + inverses)


@pytest.mark.parametrize("axes", [{"tp": 4}, {"ulysses": 4}, {"ring": 4}], ids=str)
def test_ranks_share_the_rule(axes: dict[str, int]) -> None:
    names = (*INSIDE, *STATES, *SOLVED)
    whole, part = recurrent_work(NAME, 65536), recurrent_work(NAME, 65536, **axes)
    assert 4 * flop(part, *names) == flop(whole, *names)
