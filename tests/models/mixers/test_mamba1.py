"""Mamba: FLOP against torch's counter, what is kept and sent by hand."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.hf_config import architecture_from_config
from models.inventory import layer_work
from models.layout import Layout, LayoutBatch
from models.mixers.mamba1 import Mamba1Work
from models.named_axes import Kernels
from models.operation import Axis
from models.shape import Shapes
from tests.models.cases import config, shapes
from tests.models.mixers.cases import flop, kept, recurrent, recurrent_work, sent
from tests.oracles.recurrent_reference import mixer_flop

NAME = "jamba-v0.1"
MIXER = recurrent(load_architecture(NAME)).mixer
PRODUCTS = ("mamba in", "mamba selection", "mamba steps", "mamba out")
PLAIN = {
    "model_type": "mamba",
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "state_size": 16,
    "time_step_rank": 4,
    "conv_kernel": 4,
}


@pytest.mark.parametrize("fields", [config(NAME), PLAIN], ids=["jamba", "mamba"])
def test_products_cost_what_torch_counts(fields: dict[str, object]) -> None:
    """The scan itself has none; torch's recurrence makes the output by one of every token."""
    architecture = architecture_from_config(fields, "mamba")
    work = layer_work(recurrent(architecture), architecture.hidden, shapes(8))
    for backward in (False, True):
        counted = mixer_flop(fields, 8, backward=backward)["mm"]
        assert flop(work, *PRODUCTS, backward=backward) == counted


def test_a_rank_alone_holds_every_parameter_and_others_a_share_of_columns() -> None:
    architecture = load_architecture(NAME)
    layer, hidden = recurrent(architecture), architecture.hidden
    batch = LayoutBatch.of([Layout(), Layout(tp=8)])
    held = Mamba1Work(MIXER, hidden, Shapes(batch=batch, seq_len=4096)).parameters()
    total = layer.params(hidden) - layer.norm_params(hidden)
    assert float(held[0]) == total
    assert float(held[1]) == (total - MIXER.selected) / 8 + MIXER.selected  # norms are whole


def test_ranks_with_some_columns_reduce_the_selection() -> None:
    nbytes = 2 * 65536 * MIXER.selected
    work = recurrent_work(NAME, 65536, tp=4, ulysses=2)
    for backward in (False, True):
        assert sent(work, Axis.TP, backward=backward)["mamba selection reduce over tp"] == (
            nbytes,
            1,
        )
        found = sent(work, Axis.ULYSSES, backward=backward)
        assert found["mamba selection reduce over ulysses"] == (nbytes, 1)


def test_states_that_a_ring_hands_on_do_not_grow_with_the_sequence() -> None:
    for seq_len in (8192, 1048576):
        work = recurrent_work(NAME, seq_len, ring=4, sequence_order=0)
        state = 4 * MIXER.inner * (MIXER.state + 1)
        assert sent(work, Axis.RING) == {
            "mamba halo": (2 * 3 * MIXER.inner, 1),
            "mamba states": (4 * state, 1),
        }


@pytest.mark.parametrize("kernels", list(Kernels))
def test_one_kernel_for_all_keeps_less_than_one_behind_another(kernels: Kernels) -> None:
    """``mamba_inner_fn`` where nothing is normalised or sent in between, ``selective_scan_fn``."""
    architecture = architecture_from_config(PLAIN, "mamba")
    layer, hidden = recurrent(architecture), architecture.hidden
    alone, cut = (
        kept(layer_work(layer, hidden, shapes(4096, kernels=kernels, tp=tp))) for tp in (1, 2)
    )
    assert alone["mamba steps and output"] == 0
    assert cut["mamba steps and output"] == 3 * 2 * 4096 * layer.mixer.inner / 2
    found = kept(recurrent_work(NAME, 4096, kernels=kernels))
    assert found["mamba steps and output"] == 3 * 2 * 4096 * MIXER.inner
    states = 4 * 2 * 2 * MIXER.inner * MIXER.state  # two numbers every 2048 tokens
    assert found["mamba scan"] == 2 * 4096 * MIXER.inner + states
