"""Predictions of held-out layers and blocks: the inventory's operations, added up by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.architecture import Attention, Layer, Mlp
from models.collectives import cost
from models.inventory import layer_work
from models.layout import LayoutBatch
from models.operation import Compute
from models.profile import load_profile
from models.shape import Shapes
from tests.validate.calibration.synthetic import figures, measured, on
from topologies.catalogue import load_accelerator, load_cluster
from topologies.collective import Collective
from topologies.fabric import Fabric
from validate.calibration import targets
from validate.calibration.item import Item
from validate.calibration.predict import predictions

SHAPE = {"hidden": 384, "heads": 6, "kv_heads": 2}
TOKENS, MLP, WIDTH = 768, 1024, 64
METHODS = {
    "ulysses": {"ulysses": 2, "ring": 1, "gathers": False},
    "ring": {"ulysses": 1, "ring": 2, "gathers": False},
    "gathered": {"ulysses": 1, "ring": 2, "gathers": True},
}
#: One rank's keys and values, in bytes of bf16.
KV = 2 * TOKENS * 2 * WIDTH * 2
#: Of gloo on two ranks: seconds of a start, bytes per second.
START, RATE = 150e-6, 3e9


def core(**values):
    return on(load_accelerator("cpu-core"), figures(load_profile("cpu-core"), **values))


def layer(method, *, virtual=False):
    return Item.of(targets.LAYER, **SHAPE, tokens=TOKENS, **METHODS[method], virtual=virtual)


def block(method=None):
    axes = METHODS[method] if method else {"ulysses": 1, "ring": 1, "gathers": False}
    return Item.of(targets.BLOCK, **SHAPE, mlp=MLP, tokens=TOKENS, **axes)


def predicted(item, device=None, world=2, cores=None):
    cluster = load_cluster("cpu-gloo", world) if world > 1 else None
    (found,) = predictions([measured(item, 2.0, wall=(4.0,))], device or core(), cluster, cores)
    return found


def operations(item):
    chosen = targets.layout(item)
    shapes = Shapes(batch=LayoutBatch.of([chosen]), seq_len=TOKENS * chosen.ulysses * chosen.ring)
    mixer = Attention(heads=6, kv_heads=2, head_dim=WIDTH)
    work = layer_work(Layer(mixer=mixer, mlp=Mlp(intermediate=MLP)), 384, shapes)
    return [each for each in (*work.forward, *work.backward) if isinstance(each, Compute)]


def computed(item, names=None):
    device = core()
    return sum(
        float(device.seconds(each)[0])
        for each in operations(item)
        if names is None or each.name in names
    )


#: What gloo sends beside a layer of each method: a hop, an exchange or a gathering, with the bytes
#: that leave a rank; of the reduce-scatter half of its fp32 input.
SENT = {
    "ulysses": 2 * [KV * 3 / 2 / 2, KV / 2 / 2, KV / 2 / 2, KV * 3 / 2 / 2],
    "ring": [KV, KV, 2 * KV, 2 * KV],
    "gathered": [KV, KV, 2 * KV],
}


@pytest.mark.parametrize("method", METHODS)
def test_a_block_is_its_operations_and_what_it_sends(method):
    item = block(method)
    sent = sum(START + nbytes / RATE for nbytes in SENT[method])
    assert predicted(item).seconds == pytest.approx(computed(item) + sent, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_is_only_its_attention(method):
    item = layer(method)
    own = {"core attention", "ring merge", "ulysses pack"}
    sent = sum(START + nbytes / RATE for nbytes in SENT[method])
    assert predicted(item).seconds == pytest.approx(computed(item, own) + sent, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_plays_all_ranks_computes_for_all_and_sends_nothing(method):
    real, virtual = layer(method), layer(method, virtual=True)
    own = {"core attention", "ring merge", "ulysses pack"}
    alone = predicted(virtual, world=1).seconds
    assert alone == pytest.approx(2 * computed(real, own), rel=1e-9)


def test_a_block_on_one_rank_is_one_ranks():
    assert predicted(block(), world=1).seconds == pytest.approx(computed(block()), rel=1e-9)


def test_a_host_that_starts_kernels_slowly_is_what_takes_time():
    launches = sum(float(each.launches[0]) for each in operations(block()))
    slow = core(host_launch_s=0.01)
    assert predicted(block(), slow, world=1).seconds == pytest.approx(0.01 * launches, rel=1e-9)


def test_ranks_that_share_cores_wait_for_each_other():
    few, many = (predicted(block("ring"), cores=cores) for cores in (1.6, 5.0))
    assert few.seconds == many.seconds == many.wall_s
    assert few.wall_s == pytest.approx(few.seconds * 2 / 1.6)
    assert predicted(block(), world=1, cores=0.5).wall_s == pytest.approx(
        2 * predicted(block(), world=1).seconds
    )


def test_errors_are_of_the_cores_time_and_of_the_time_that_passed():
    found = predicted(block("ring"), cores=1.0)
    assert found.error == pytest.approx(found.seconds / 2.0 - 1.0)
    assert found.wall_error == pytest.approx(found.wall_s / 4.0 - 1.0)
    told = found.to_dict()
    assert (told["measured_s"], told["measured_wall_s"]) == (2.0, 4.0)
    assert (told["predicted_s"], told["predicted_wall_s"]) == (found.seconds, found.wall_s)
    assert (told["error"], told["wall_error"]) == (found.error, found.wall_error)
    assert told["args"] == dict(found.measurement.item.args)


def test_only_held_out_things_are_predicted():
    found = [measured(Item.of("gemm", m=1, n=1, k=1, way="forward"), 1.0), measured(block(), 1.0)]
    (one,) = predictions(found, core(), None, None)
    assert one.measurement is found[1]


def test_the_inner_axis_of_a_hybrid_is_ulysses():
    """Its exchanges are between neighbours, and rings are of every second rank."""
    item = Item.of(targets.LAYER, hidden=512, heads=8, kv_heads=4, tokens=TOKENS,
                   ulysses=2, ring=2, gathers=False, virtual=False)  # fmt: skip
    cluster = load_cluster("cpu-gloo", 4)
    (found,) = predictions([measured(item, 1.0)], core(), cluster, None)
    kv, queries = 2 * TOKENS * 4 * 64 * 2, TOKENS * 8 * 64 * 2
    exchanged = [queries / 2, kv / 2 / 2, kv / 2 / 2, queries / 2]
    hops = [kv, kv, 2 * kv, 2 * kv]
    sent = sum(START + nbytes / RATE for nbytes in (*exchanged, *exchanged, *hops))
    chosen = targets.layout(item)
    shapes = Shapes(batch=LayoutBatch.of([chosen]), seq_len=TOKENS * 4)
    assert shapes.strides()["ring"] == 2
    assert shapes.strides()["ulysses"] == 1
    work = layer_work(
        Layer(mixer=Attention(heads=8, kv_heads=4, head_dim=64), mlp=Mlp(intermediate=1)),
        512, shapes,
    )  # fmt: skip
    names = {"core attention", "ring merge", "ulysses pack"}
    device = core()
    both = (*work.forward, *work.backward)
    own = np.sum([device.seconds(each)[0] for each in both if each.name in names])
    assert found.seconds == pytest.approx(own + sent, rel=1e-9)


def test_a_ring_around_ulysses_goes_from_node_to_node():
    """Eight neighbours of a node exchange heads; their rings are of one rank of each node."""
    device = on(load_accelerator("h100-sxm"), load_profile("h100-sxm"))
    cluster = load_cluster("h100-dgx:2", 16)
    item = Item.of(targets.LAYER, hidden=4096, heads=32, kv_heads=8, tokens=TOKENS,
                   ulysses=8, ring=2, gathers=False, virtual=False)  # fmt: skip
    (found,) = predictions([measured(item, 1.0)], device, cluster, None)
    (alone,) = predictions([measured(item, 1.0)], device, None, None)
    kv, queries = 2 * TOKENS * 8 * 128 * 2, TOKENS * 4096 * 2
    hops, exchanges = [kv, kv, 2 * kv, 2 * kv], [queries, queries]
    into = (queries + kv) / 3  # queries, keys and values one after the other
    sent = sum(
        calls * _seconds(collective, place, nbytes, cluster, device.profile)
        for collective, place, nbytes, calls in (
            *((Collective.SHIFT, (2.0, 8.0), nbytes, 1) for nbytes in hops),
            *((Collective.ALL_TO_ALL, (8.0, 1.0), nbytes, 1) for nbytes in exchanges),
            *((Collective.ALL_TO_ALL, (8.0, 1.0), into, 3) for _ in range(2)),
        )
    )
    assert found.seconds == pytest.approx(alone.seconds / 16 + sent, rel=1e-9)


def _seconds(collective, place, nbytes, cluster, profile):
    links = Fabric(cluster).links(tuple(np.array([each]) for each in place))
    return float(cost(collective, links, profile).seconds(np.array([float(nbytes)]))[0])
