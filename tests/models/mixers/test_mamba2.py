"""Mamba-2: FLOP against torch's counter, what is kept and sent by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.architecture import Mamba2
from models.catalogue import load_architecture
from models.layout import Layout, LayoutBatch
from models.mixers.mamba2 import Mamba2Work
from models.named_axes import Kernels
from models.operation import Axis
from models.parameters import ParameterTable
from models.shape import Shapes
from tests.models.cases import config, shapes
from tests.models.mixers.cases import flop, kept, recurrent, recurrent_work, sent
from tests.oracles.recurrent_reference import mixer_flop
from validate.kernels import state_pass
from validate.kernels.axis import VirtualAxis

if TYPE_CHECKING:
    from collections.abc import Sequence

MAMBA2, GROUPED = "mamba2-2.7b", "nemotron-h-8b"
PROJECTIONS = ("mamba in", "mamba out")
SCAN = ("mamba scores", "mamba chunk states", "mamba scan")


@pytest.mark.parametrize("seq_len", [1024, 4096])
def test_projections_cost_what_torch_counts(seq_len: int) -> None:
    work = recurrent_work(MAMBA2, seq_len)
    for backward in (False, True):
        counted = mixer_flop(config(MAMBA2), seq_len, backward=backward)["mm"]
        assert flop(work, *PROJECTIONS, backward=backward) == counted


@pytest.mark.parametrize("seq_len", [1024, 4096])
def test_scans_cost_what_torch_counts_but_for_what_kernels_spare(seq_len: int) -> None:
    """Torch makes scores for every head and the masked half, and passes states by a product."""
    mixer, chunk = recurrent(load_architecture(MAMBA2)).mixer, 256
    chunks, states = seq_len // chunk, mixer.inner * mixer.state
    scores = 2 * seq_len * chunk * mixer.state * (mixer.heads - mixer.groups)
    masked = seq_len * chunk * mixer.inner
    passed = 2 * (chunks + 1) ** 2 * states
    counted = mixer_flop(config(MAMBA2), seq_len)["bmm"]
    assert flop(recurrent_work(MAMBA2, seq_len), *SCAN) == counted - scores - masked - passed


def test_a_layer_costs_what_megatron_says() -> None:
    """``mamba_layer_flops`` of its training loop estimates 7 FLOP per number of the state."""
    mixer, hidden = recurrent(load_architecture(GROUPED)).mixer, 4096
    columns = 2 * mixer.inner + 2 * mixer.groups * mixer.state + mixer.heads
    projections = 2 * hidden * (columns + mixer.inner)
    theirs = 4096 * (projections + 7 * mixer.inner * mixer.state)
    assert float(recurrent_work(GROUPED, 4096).forward_flop()[0]) == pytest.approx(theirs, rel=0.01)


def test_the_scan_is_made_again_backward_where_kernels_keep_nothing_of_it() -> None:
    """Two gradients of every product; scores, states and masked scores' gradients once more."""
    work = recurrent_work(MAMBA2, 4096)
    again = [flop(work, name) for name in ("mamba scores", "mamba chunk states")]
    inside = flop(work, "mamba scan") - flop(work, "mamba scan of states")
    assert flop(work, *SCAN, backward=True) == 2 * flop(work, *SCAN) + sum(again) + inside


def test_scans_grow_linearly_with_the_sequence() -> None:
    short, long = (recurrent_work(GROUPED, n) for n in (4096, 131072))
    assert long.forward_flop() == 32 * short.forward_flop()
    assert long.saved_bytes() == 32 * short.saved_bytes()


@pytest.mark.parametrize("name", [MAMBA2, GROUPED])
def test_fused_kernels_keep_their_input_and_output(name: str) -> None:
    """``mamba_split_conv1d_scan_combined`` keeps zxbcdt and y; norm and projection their inputs."""
    mixer, seq_len = recurrent(load_architecture(name)).mixer, 4096
    found = kept(recurrent_work(name, seq_len))
    assert found["mamba z, x, B, C, dt"] == 2 * seq_len * mixer.projected
    assert found["mamba y"] == 2 * seq_len * mixer.inner
    assert found["mamba gated norm"] == seq_len * (4 * mixer.inner + 4 * mixer.groups)
    alone = kept(recurrent_work(name, seq_len, kernels=Kernels.EAGER))
    assert alone["mamba gated norm"] == 4 * seq_len * mixer.groups


@pytest.mark.parametrize("name", [MAMBA2, GROUPED])
def test_a_rank_alone_holds_every_parameter(name: str) -> None:
    architecture = load_architecture(name)
    table = ParameterTable.of(architecture, shapes(4096))
    for kind, layer in enumerate(architecture.kinds):
        if layer.mixer is not None and layer.mlp is None:
            assert float(table.layers[kind][0]) == layer.params(architecture.hidden)


def test_tensor_parallel_ranks_share_all_but_groups_and_what_is_small() -> None:
    architecture = load_architecture(GROUPED)
    layer, hidden = recurrent(architecture), architecture.hidden
    layouts = LayoutBatch.of([Layout(tp=tp) for tp in (8, 16)])
    batch = Shapes(batch=layouts, seq_len=4096)
    table = ParameterTable.of(architecture, batch)
    held = table.layers[architecture.kinds.index(layer)]
    mixer = layer.mixer
    replicated = 2 * mixer.state * (hidden + mixer.conv + 1)
    whole = layer.params(hidden) - layer.norm_params(hidden)
    assert float(held[0]) == whole / 8 + layer.norm_params(hidden)
    assert float(held[1]) == (whole + 8 * replicated) / 16 + layer.norm_params(hidden)


def test_states_that_a_ring_hands_on_do_not_grow_with_the_sequence() -> None:
    mixer = recurrent(load_architecture(GROUPED)).mixer
    state = 4 * mixer.heads * (mixer.head_dim * mixer.state + 1)
    for seq_len in (8192, 1048576):
        for order, runs in ((0, 1), (1, 2)):
            work = recurrent_work(GROUPED, seq_len, ring=4, sequence_order=order)
            halo = (2 * 3 * mixer.convolved, runs)
            assert sent(work, Axis.RING) == {
                "mamba halo": halo,
                "mamba states": (4 * runs * state, 1),
            }
            assert sent(work, Axis.RING, backward=True) == {
                "mamba halo": halo,
                "mamba state gradients": (4 * runs * state, 1),
            }
            assert kept(work)["mamba states"] == 4 * runs * state


def test_states_go_round_windows_first_and_then_between_them() -> None:
    mixer = recurrent(load_architecture(GROUPED)).mixer
    own = 2 * 4 * mixer.heads * (mixer.head_dim * mixer.state + 1)
    work = recurrent_work(GROUPED, 65536, ring=8, inner_ring=2)
    assert sent(work, Axis.INNER_RING) == {"mamba states inside windows": (2 * own, 1)}
    assert sent(work, Axis.RING)["mamba states"] == (8 * own, 1)


@pytest.mark.parametrize(("ulysses", "replicas"), [(4, 1), (8, 1), (16, 2)])
def test_ulysses_exchanges_the_projection_and_the_output(ulysses: int, replicas: int) -> None:
    """Megatron's five tensors; groups are sent once for every rank that needs them."""
    mixer, seq_len = recurrent(load_architecture(GROUPED)).mixer, 65536
    columns = mixer.projected + (replicas - 1) * 2 * mixer.groups * mixer.state
    work = recurrent_work(GROUPED, seq_len, ulysses=ulysses)
    found = sent(work, Axis.ULYSSES)
    nbytes, calls = found["mamba ulysses input"]
    assert (nbytes * calls, calls) == (pytest.approx(2 * seq_len / ulysses * columns), 5)
    assert found["mamba ulysses output"] == (2 * seq_len / ulysses * mixer.inner, 1)
    assert kept(work)["mamba z, x, B, C, dt"] == 2 * seq_len * columns / ulysses


@pytest.mark.parametrize("axes", [{"ring": 4}, {"ulysses": 4}, {"tp": 4}], ids=str)
def test_ranks_share_the_scan(axes: dict[str, int]) -> None:
    """A ring computes the state before a run once more: as much as the output from states."""
    whole, part = recurrent_work(GROUPED, 65536), recurrent_work(GROUPED, 65536, **axes)
    assert 4 * flop(part, *SCAN) == flop(whole, *SCAN)
    corrected = flop(whole, "mamba scan of states") / 4 if "ring" in axes else 0
    assert flop(part, "mamba correction") == corrected


def test_nothing_of_it_hides_and_nothing_is_undefined() -> None:
    for axes in ({}, {"ring": 4}, {"ulysses": 4, "tp": 2, "tp_sp": True}):
        work = recurrent_work(GROUPED, 65536, **axes)
        for op in (*work.forward_communication(), *work.backward_communication()):
            assert op.axis is Axis.TP or not op.hidden_by
        assert np.isfinite(work.working_bytes).all()


class Booked(VirtualAxis):
    """A ring that books the bytes that one rank gives to be gathered."""

    given: int = 0

    def gather(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Stack over the ring."""
        self.given += tensors[0].nbytes
        return super().gather(tensors)


@pytest.mark.parametrize("tokens", [16, 160])
def test_states_are_those_that_real_kernels_gather(tokens: int) -> None:
    ranks, sequences = 2, 3
    mixer = Mamba2(heads=4, head_dim=8, state=6, groups=1, conv=4)
    axis = Booked([range(ranks)])

    def drawn(*last: int) -> torch.Tensor:
        return torch.rand(sequences, mixer.heads, tokens, *last)

    own = [
        state_pass.StateSpace(
            c=drawn(mixer.state), b=drawn(mixer.state), x=drawn(mixer.head_dim), log_decay=-drawn()
        )
        for _ in range(ranks)
    ]
    state_pass.forward(axis, own)
    shape = shapes(tokens * ranks, ring=ranks, micro_batch=sequences, sequence_order=0)
    (gathered,) = Mamba2Work(mixer, 16, shape).saved()[-1:]
    assert gathered.name == "mamba states"
    assert float(gathered.nbytes[0]) == ranks * axis.given
