"""What data parallelism sends: all bytes of a rank in its buckets, by the links they cross."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.layout import Layout
from models.model_states import USUAL_STATES, ModelStates
from models.profile import load_profile
from models.simulation.step import StepSimulation
from tests.models.cases import machine, prepared
from topologies.collective import Collective

#: Shards within a node, replicas and pipeline stages in others.
LAYOUT = Layout(dp=16, pp=2, dp_replicate=2, zero=1)
DEVICE, FABRIC = machine("h100-dgx:4", steal_scale_up=0.1, steal_data_parallel=0.3)


def simulated(states=USUAL_STATES, software="usual"):
    # A head tied to the embedding, which the last stage has a copy of.
    work = prepared(load_architecture("llama-3.2-1b"), LAYOUT, states=states, software=software)
    return StepSimulation(work, DEVICE, FABRIC)


@pytest.fixture(scope="module")
def simulation():
    return simulated()


def sent(simulation):
    """Yield the parameters of every rank with the tasks of each call."""
    for rank, stage in zip(simulation.pipeline, simulation.stages, strict=True):
        found = {"gather parameters": rank.gradients.gathers(stage)}
        for bucket in rank.gradients.reductions(stage):
            for task in bucket:
                found.setdefault(task.call.name, []).append(task)
        yield rank.gradients.params, found


def test_buckets_carry_all_bytes_of_a_rank_once(simulation):
    for params, found in sent(simulation):
        nbytes = {name: sum(task.call.nbytes for task in tasks) for name, tasks in found.items()}
        assert nbytes == pytest.approx(
            {
                "gather parameters": 2 * params,
                "reduce gradients": 4 * params,
                "reduce gradients across replicas": 4 * params / 8,
            }
        )


def test_gradients_summed_for_every_rank_are_so_once_inside_shards_and_once_across():
    """InternEvo's ZeRO-1: inside a node all have the sums, across nodes each what it shards."""
    each, every = (
        {call: tasks[0].call for call, tasks in next(sent(simulated(software=name)))[1].items()}
        for name in ("usual", "internevo")
    )
    inside, across = "reduce gradients", "reduce gradients across replicas"
    assert each[inside].collective is Collective.REDUCE_SCATTER
    assert every[inside].collective is Collective.ALL_REDUCE
    assert every[inside].nbytes == each[inside].nbytes
    assert every[across] == each[across]


@pytest.mark.parametrize(
    ("states", "sent_bytes"),
    [
        (ModelStates(reduce="bf16"), 2),
        (ModelStates(gradients="bf16"), 4),
        (ModelStates("adamw-8bit", "bf16", "bf16"), 2),
    ],
    ids=str,
)
def test_gradients_are_sent_in_the_dtype_asked_for(states, sent_bytes):
    for params, found in sent(simulated(states)):
        nbytes = {name: sum(task.call.nbytes for task in tasks) for name, tasks in found.items()}
        assert nbytes == pytest.approx(
            {
                "gather parameters": 2 * params,
                "reduce gradients": sent_bytes * params,
                "reduce gradients across replicas": sent_bytes * params / 8,
            }
        )


def test_what_leaves_the_node_steals_and_loads_as_the_network_does(simulation):
    for _, found in sent(simulation):
        steals = {name: {task.steal for task in tasks} for name, tasks in found.items()}
        assert steals == {
            "gather parameters": {0.1},
            "reduce gradients": {0.1},
            "reduce gradients across replicas": {0.3},
        }
        loads = {name: {task.load for task in tasks} for name, tasks in found.items()}
        assert loads == {
            "gather parameters": {(1.0, 0.0)},
            "reduce gradients": {(1.0, 0.0)},
            "reduce gradients across replicas": {(0.0, 1.0)},
        }


def test_sends_between_nodes_keep_the_network_busy(simulation):
    for rank in simulation.pipeline:
        assert rank.send.steal == load_profile("h100-sxm").steal_scale_out.value
        assert rank.send.load == pytest.approx((0.0, 0.747 / 0.97))  # of the card, as NCCL sends
