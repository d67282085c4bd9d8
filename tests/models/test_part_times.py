"""The backward pass whole and in two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from models.catalogue import load_architecture
from models.layout import Layout
from models.part_times import PartClock
from tests import strategies
from tests.models.cases import machine, prepared

if TYPE_CHECKING:
    from tests.strategies import Drawn

DEVICE, FABRIC = machine("h100-dgx:8")


@given(strategies.jobs_with_layouts(most=3))
def test_gradients_of_inputs_and_of_weights_are_the_backward_pass(drawn: Drawn) -> None:
    """Apart they take no less, and nothing is sent beside those of weights."""
    work = drawn.prepared()
    clock = PartClock(DEVICE, FABRIC, work.shapes)
    for part in (*work.layers, work.head):
        times = clock.times(part)
        apart = times.inputs.total + times.weights.total
        assert (apart >= times.backward.total * (1 - 1e-9)).all()
        assert (times.weights.total > 0).all()
        assert times.weights.tp == pytest.approx(0.0)
        assert times.weights.cp == pytest.approx(0.0)


def test_without_tensor_parallelism_nothing_is_lost_and_with_it_what_weights_hid() -> None:
    architecture = load_architecture("llama-3.1-8b")
    work = prepared(architecture, Layout(dp=8), Layout(tp=8, tp_sp=True), seq_len=32768)
    (layer,) = work.layers
    times = PartClock(DEVICE, FABRIC, work.shapes).times(layer)
    lost = times.inputs.total + times.weights.total - times.backward.total
    single = work.shapes.tp == 1
    assert lost[single] == pytest.approx(0.0, abs=1e-9)
    assert (lost[~single] > 0.05 * times.backward.tp[~single]).all()


def test_weights_take_as_long_as_inputs_but_for_attention() -> None:
    """Products of a layer: one of each; the rest of the backward pass belongs to the inputs."""
    architecture = load_architecture("llama-3.1-8b")
    shares = []
    for seq_len in (4096, 131072):
        work = prepared(architecture, Layout(dp=8), seq_len=seq_len)
        times = PartClock(DEVICE, FABRIC, work.shapes).times(work.layers[0])
        shares.append(float((times.weights.total / times.inputs.total)[0]))
    assert 0.6 < shares[0] < 1.0
    assert shares[1] < 0.3
