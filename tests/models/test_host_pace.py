"""The host starts kernels and collectives, and goes on while the device waits for the latter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.layout import Layout
from models.named_axes import Schedule
from models.operation import EXPERT_AXES, Axis, Communication, repeated_share
from models.operators import memory
from models.paced_phase import PacedPhase
from models.part_times import PartClock, Spent
from models.recompute_modules import RecomputeModules
from models.simulation.step import StepSimulation
from models.training import step_time
from tests.models.cases import machine, prepared, shapes, unwindowed
from topologies.collective import Collective

DEVICE, FABRIC = machine("h100-dgx:4")
LAUNCH_S, CALL_S = DEVICE.profile.host_launch_s.value, DEVICE.profile.collective_s.value
LLAMA, MIXTRAL = load_architecture("llama-3.1-8b"), load_architecture("mixtral-8x7b")


def played(kernels, kernel_s, collectives, collective_s):
    """Return when a device is done that runs in order what a host starts one by one.

    As many kernels stand before each collective.
    """
    host_s = device_s = 0.0
    for _ in range(collectives):
        for start_s, seconds in [(LAUNCH_S, kernel_s)] * (kernels // collectives) + [
            (CALL_S, collective_s)
        ]:
            host_s += start_s
            device_s = max(device_s, host_s) + seconds
    return device_s


@pytest.mark.parametrize("kernel_us", [1, 4, 7, 12, 40])
@pytest.mark.parametrize("collective_us", [0.1, 20, 60, 300])
def test_a_queue_of_kernels_and_collectives_ends_as_late(
    kernel_us: float, collective_us: float
) -> None:
    kernels, collectives = 400, 40
    kernels_s, waits_s = kernels * kernel_us * 1e-6, collectives * collective_us * 1e-6
    cut = shapes(256, tp=8)
    bare = replace(cut.software.host_ratio, value=1.0)
    cut = replace(cut, software=replace(cut.software, host_ratio=bare))
    kernel = memory("a kernel", np.ones(1), float(kernels))
    gather = Communication(
        name="a collective",
        collective=Collective.ALL_REDUCE,
        axis=Axis.TP,
        nbytes=np.ones(1),
        calls=np.array([float(collectives)]),
    )
    sent = [(gather, np.array([collective_us * 1e-6]))]
    computed = [(kernel, np.array([kernels_s]))]
    phase = PacedPhase.of(PartClock(DEVICE, FABRIC, cut), computed, sent)
    spent = Spent(phase.spent()[0], **phase.spent()[1])
    assert float(spent.tp[0]) == pytest.approx(waits_s)
    found = played(kernels, kernel_us * 1e-6, collectives, collective_us * 1e-6)
    # The queue fills at first, and empties at last.
    assert float(spent.total[0]) == pytest.approx(found, rel=0.01, abs=2e-4)


@pytest.mark.parametrize("axes", [{"tp": 8}, {"tp": 4, "tp_sp": 1}, {"ulysses": 8}], ids=str)
def test_small_passes_take_the_hosts_time_whatever_is_sent(axes: dict[str, int]) -> None:
    cut = shapes(256, **axes)
    work = layer_work(unwindowed(LLAMA), LLAMA.hidden, cut)
    clock = PartClock(DEVICE, FABRIC, cut)
    forward = clock.times(work).forward
    launches = sum(float(op.launches[0]) for op in work.forward_compute())
    calls = sum(float(op.calls[0]) for op in work.forward_communication() if op.calls[0] > 0)
    host_s = launches * cut.software.host_ratio.value * LAUNCH_S + calls * CALL_S
    assert forward.tp[0] + forward.cp[0] > 0
    assert float(forward.total[0]) == pytest.approx(host_s)


def test_nothing_is_started_again_that_is_not_repeated() -> None:
    cut, modules = shapes(256, tp=8), RecomputeModules.from_label("core_attn")
    work = layer_work(unwindowed(LLAMA), LLAMA.hidden, cut)
    (again,) = PartClock(DEVICE, FABRIC, cut).times(work, (modules,)).repeated_selective
    launches = sum(
        float((op.launches * repeated_share(op, modules, cut.fused))[0])
        for op in work.forward_compute()
    )
    assert 0 < launches < sum(float(op.launches[0]) for op in work.forward_compute())
    assert float(again.total[0]) == pytest.approx(
        launches * cut.software.host_ratio.value * LAUNCH_S
    )


def test_the_host_waits_itself_for_what_goes_to_experts() -> None:
    """What goes there and comes back adds up with the host's time; all else is inside it."""
    cut = shapes(256, tp=2, tp_sp=1, ep=8)
    work = layer_work(unwindowed(MIXTRAL), MIXTRAL.hidden, cut)
    clock = PartClock(DEVICE, FABRIC, cut)
    sent = [op for op in work.forward_communication() if op.calls[0] > 0]
    others = [op for op in sent if op.axis not in EXPERT_AXES]
    forward = clock.times(work).forward
    launches = sum(float(op.launches[0]) for op in work.forward_compute())
    calls = sum(float(op.calls[0]) for op in others)
    host_s = launches * cut.software.host_ratio.value * LAUNCH_S + calls * CALL_S
    assert forward.ep[0] > 0
    assert float(forward.total[0]) == pytest.approx(host_s + float(forward.ep[0]))


@pytest.mark.parametrize(
    "layout", [Layout(dp=4, tp=8, zero=1), Layout(dp=4, ulysses=8, zero=3)], ids=str
)
def test_both_clocks_hide_collectives_while_the_host_is_late(layout: Layout) -> None:
    seconds = []
    for host_launch_s in (LAUNCH_S, 4.0 * LAUNCH_S):
        device, fabric = machine("h100-dgx:4", host_launch_s=host_launch_s)
        work = prepared(LLAMA, layout, seq_len=1024, global_batch=16)
        closed = step_time(work, device, fabric)
        played = StepSimulation(work, device, fabric, contention=False).step().step_s
        assert played == pytest.approx(float(closed.total[0]), rel=0.01)
        seconds.append(float((closed.compute + closed.tp + closed.cp)[0]))
    # Four times the host's time for kernels, and nothing that is sent beside it.
    assert 3.7 < seconds[1] / seconds[0] <= 4.0


@pytest.mark.parametrize("axes", [{"tp": 8}, {"tp": 16}, {"tp": 16, "tp_sp": 1}], ids=str)
@pytest.mark.parametrize("tokens", [512, 2048, 16384])
def test_hiding_never_takes_longer_than_waiting(tokens: int, axes: dict[str, int]) -> None:
    cut = shapes(tokens, **axes)
    work = layer_work(unwindowed(LLAMA), LLAMA.hidden, cut)
    apart = replace(
        work,
        backward=tuple(
            replace(op, hidden_by="") if isinstance(op, Communication) else op
            for op in work.backward
        ),
    )
    clock = PartClock(DEVICE, FABRIC, cut)
    hidden, waited = (float(clock.times(each).backward.total[0]) for each in (work, apart))
    assert hidden <= waited * (1.0 + 1e-9)


@pytest.mark.parametrize("schedule", [Schedule.ZB_H1, Schedule.ZB_V, Schedule.DUALPIPE_V], ids=str)
@pytest.mark.parametrize("tokens", [512, 2048])
def test_both_clocks_agree_where_gradients_of_weights_come_later(
    tokens: int, schedule: Schedule
) -> None:
    vp = 1 if schedule is Schedule.ZB_H1 else 2
    layout = Layout(pp=4, vp=vp, tp=8, schedule=schedule, zero=0)
    work = prepared(LLAMA, layout, seq_len=tokens, global_batch=32)
    closed = float(step_time(work, DEVICE, FABRIC).total[0])
    played = StepSimulation(work, DEVICE, FABRIC, contention=False).step().step_s
    assert played == pytest.approx(closed, rel=0.02)
