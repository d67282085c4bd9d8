"""Ring attention block by block: imbalance, and what a published implementation reaches."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from models.attention_kernels import attention_kernels
from models.catalogue import load_architecture
from models.compute import Device
from models.inventory import layer_work
from models.layout import Layout, LayoutBatch
from models.named_axes import Kernels, SequenceOrder
from models.profile import load_profile
from models.sequence_parallel.sent import CORE_ATTENTION
from models.shape import Shapes
from models.simulation.operations import Operations, Phase
from models.simulation.record import record
from models.simulation.step import StepSimulation
from models.simulation.streams import Player
from models.simulation.timeline import Stream
from models.training import step_time
from tests.models.cases import prepared, tuned
from topologies.catalogue import load_cluster
from topologies.fabric import Fabric

FILE = Path(__file__).parents[2] / "data" / "ring_flash_attention.csv"
LLAMA = load_architecture("llama-3.1-8b")
NODES = {"8xH800": "h800-hgx:1", "8xA100": "a100-dgx:1"}
ORDERS = {"ring_attn": SequenceOrder.CONTIGUOUS, "zigzag_ring": SequenceOrder.ZIGZAG}
PHASES = {"fwd": [Phase.FORWARD], "fwd+bwd": [Phase.FORWARD, Phase.BACKWARD]}
#: Kernels at the same rate whatever their shape, free to start, and nothing to merge.
EVEN = {
    "attention_half_waves": 1e-9,
    "attention_half_tokens": 1e-9,
    "attention_half_width": 1e-9,
    "kernel_s": 1e-15,
    "host_launch_s": 1e-15,
    "steal_scale_up": 1e-15,
    "steal_scale_out": 1e-15,
    "steal_data_parallel": 1e-15,
}


def attention(device, fabric, layout, seq_len, phase):
    """Return the seconds of core attention, with all that a ring adds."""
    shapes = Shapes(batch=LayoutBatch.of([layout]), seq_len=seq_len)
    work = layer_work(LLAMA.kinds[0], LLAMA.hidden, shapes)

    def only(operations):
        return tuple(op for op in operations if "ring" in op.name or op.name == CORE_ATTENTION)

    work = replace(work, forward=only(work.forward), backward=only(work.backward))
    program = Operations(device, fabric, shapes).program(work, phase)
    played = Player(contention=True).play(program)
    return program, played, played.end_of(program.front)


def machine(name, **profile):
    cluster = load_cluster(name)
    tuned_profile = tuned(load_profile(cluster.accelerator.name), **profile)
    device = Device(cluster.accelerator, tuned_profile, attention_kernels()["fa2"])
    return device, Fabric(cluster.scale_network(1.0))


def rows():
    with FILE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def alone_s(machine_of, phases):
    """Return the seconds of one GPU with an eighth of eight times 8,192 tokens' attention."""
    layout = Layout(kernels=Kernels.EAGER)
    return sum(attention(*machine_of, layout, 8 * 8192, phase)[2] for phase in phases) / 8


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r['gpus']}-{r['pass']}-{r['impl']}")
def test_published_rings_reach_what_they_do_within_an_eighth(row):
    """Over what one GPU would take for an eighth of the work.

    Kernels are FlashAttention 2, as fast as the published ones on one GPU: the ring is compared.
    """
    name, phases = NODES[row["gpus"]], PHASES[row["pass"]]
    as_profiled = machine(name)
    published_s = 1.0 / float(row["theoretic_flash_attn_iter_s"])
    rate = as_profiled[0].profile.attention_fraction.value
    slower = machine(name, attention_fraction=rate * alone_s(as_profiled, phases) / published_s)
    assert alone_s(slower, phases) == pytest.approx(published_s, rel=0.01)
    layout = Layout(ring=8, sequence_order=ORDERS[row["impl"]], kernels=Kernels.EAGER)
    ring_s = sum(attention(*slower, layout, 8 * 8192, phase)[2] for phase in phases)
    fraction = alone_s(slower, phases) / ring_s
    assert fraction == pytest.approx(float(row["frac_of_theoretic"]), rel=0.125)


@pytest.mark.parametrize("row", rows(), ids=lambda r: f"{r['gpus']}-{r['pass']}-{r['impl']}")
def test_flash_attention_2_takes_what_it_is_published_to_take_within_a_seventh(row):
    taken = alone_s(machine(NODES[row["gpus"]]), PHASES[row["pass"]])
    assert taken == pytest.approx(1.0 / float(row["theoretic_flash_attn_iter_s"]), rel=0.14)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_a_contiguous_ring_wastes_what_its_first_ranks_wait(ranks):
    """The last rank has P - 1/2 blocks of P^2 / 2 over P ranks: efficiency 1 / (2 - 1/P)."""
    device, fabric = machine("h100-dgx:1", **EVEN)
    alone = attention(device, fabric, Layout(), 2**20, Phase.FORWARD)[2] / ranks

    def efficiency(order):
        layout = Layout(ring=ranks, sequence_order=order)
        program, played, _ = attention(device, fabric, layout, 2**20, Phase.FORWARD)
        cores = [
            played.end_s[at] - played.start_s[at]
            for at, task in enumerate(program.tasks)
            if task.call.name == CORE_ATTENTION
        ]
        assert len(cores) == ranks
        return alone / sum(cores), cores

    contiguous, cores = efficiency(SequenceOrder.CONTIGUOUS)
    assert contiguous == pytest.approx(1 / (2 - 1 / ranks), rel=1e-3)
    assert cores[0] == pytest.approx(cores[1] / 2, rel=1e-3)  # its own block is half masked
    zigzag, cores = efficiency(SequenceOrder.ZIGZAG)
    assert zigzag == pytest.approx(1.0, rel=1e-3)
    assert max(cores) == pytest.approx(min(cores), rel=1e-3)


def test_every_block_runs_beside_the_hop_of_the_next_one():
    device, fabric = machine("h100-dgx:1")
    layout = Layout(ring=4)
    program, played, _ = attention(device, fabric, layout, 2**18, Phase.FORWARD)
    hops = [at for at, task in enumerate(program.tasks) if task.call.stream is Stream.CP]
    cores = [at for at, task in enumerate(program.tasks) if task.call.name == CORE_ATTENTION]
    assert [len(hops), len(cores)] == [3, 4]
    assert [played.start_s[at] for at in hops] == [played.start_s[at] for at in cores[:-1]]


@pytest.mark.parametrize("rate", [1.0, 0.05])
@pytest.mark.parametrize("order", list(SequenceOrder))
def test_windows_whose_rings_travel_on_different_links_take_what_the_closed_form_says(rate, order):
    """Hops between windows hide behind whole windows: the next one waits where they do not."""
    cluster = load_cluster("h100-dgx:4")
    profile = tuned(load_profile(cluster.accelerator.name), steal_data_parallel=1e-12)
    device = Device(cluster.accelerator, profile)
    fabric = Fabric(cluster.scale_network(rate))
    layout = Layout(ring=32, inner_ring=8, sequence_order=order)
    work = prepared(LLAMA, layout, seq_len=2**17, global_batch=2)
    simulation = StepSimulation(work, device, fabric, contention=False)
    closed = float(step_time(work, device, fabric).total[0])
    assert simulation.step().step_s == pytest.approx(closed, rel=0.005)
    timeline = record(simulation)
    groups = {
        (timeline.calls[call].stream, timeline.calls[call].name): list(ranks)
        for (_, call), ranks in timeline.groups.items()
    }
    assert groups[Stream.CP_OUTER, "ring k, v"] == [0, 8, 16, 24]
    assert groups[Stream.CP, "inner ring k, v"] == list(range(8))


def test_two_of_three_exchanges_run_beside_the_projection():
    device, fabric = machine("h100-dgx:1")
    shapes = Shapes(batch=LayoutBatch.of([Layout(ulysses=8)]), seq_len=2**15)
    work = layer_work(LLAMA.kinds[0], LLAMA.hidden, shapes)
    operations = Operations(device, fabric, shapes, async_ulysses=True)
    for phase, projection in ((Phase.FORWARD, "qkv"), (Phase.BACKWARD, "qkv dgrad")):
        program = operations.program(work, phase)
        start = Player(contention=False).play(program).start_s
        names = [task.call.name for task in program.tasks]
        exchanges = [at for at, name in enumerate(names) if name == "ulysses q, k, v"]
        hidden = [at for at in exchanges if start[at] == start[names.index(projection)]]
        (alone,) = set(exchanges) - set(hidden)
        hidden_s = sum(program.tasks[at].seconds for at in hidden)
        assert hidden_s == pytest.approx(2 * program.tasks[alone].seconds)
