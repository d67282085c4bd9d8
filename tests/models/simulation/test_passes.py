"""Passes in company: parameters that come late, sends that outlast them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.catalogue import load_architecture
from models.layout import Layout
from models.named_axes import Schedule
from models.simulation.passes import Company
from models.simulation.pipeline_order import Pass
from models.simulation.step import StepSimulation
from tests.models.cases import machine, prepared

DEVICE, FABRIC = machine("h100-dgx:8")
LAYOUT = Layout(tp=2, pp=4, vp=2, dp=4, schedule=Schedule.INTERLEAVED)


@pytest.fixture(scope="module")
def simulation():
    work = prepared(load_architecture("llama-3.1-8b"), LAYOUT, seq_len=8192, global_batch=64)
    return StepSimulation(work, DEVICE, FABRIC, contention=False)


def test_a_pass_waits_for_what_is_gathered_before_its_own_parameters(simulation):
    rank, stage = simulation.pipeline[0], simulation.stages[0]
    gathers = tuple(rank.gradients.gathers(stage))
    in_time, late = (
        rank.passes.run(stage, Pass.FORWARD, Company(gathers=gathers, lead_s=lead_s))
        for lead_s in (0.0, -2.0)
    )
    assert late.seconds == pytest.approx(in_time.seconds + 2.0)
    assert late.early[0] == ()


def test_a_send_that_outlasts_a_pass_holds_nobody_up(simulation):
    rank, stage = simulation.pipeline[1], simulation.stages[1]
    alone = rank.passes.run(stage, Pass.BACKWARD)
    send = replace(rank.send, seconds=10.0, steal=0.0)
    sending = rank.passes.run(stage, Pass.BACKWARD, Company(send=send))
    assert sending.seconds == pytest.approx(alone.seconds)
    assert sending.tail_s == 0.0


def test_what_every_send_asks_for_is_worked_out_once(simulation):
    assert simulation.send_s is simulation.send_s
    assert simulation.seconds is simulation.seconds
