"""What is measured: shapes that schedules have, none of those held out, the same every time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from models.architecture import Attention, Layer, Mlp
from models.inventory import layer_work
from models.layout import LayoutBatch
from models.named_axes import SequenceOrder
from models.operation import Communication
from models.sequence_parallel.schedule import schedule
from models.shape import Shapes
from validate.calibration import attentions, everything, messages, products, streams, targets
from validate.calibration.item import CPU, CUDA, Item

SCALES = {"cpu": CPU, "cuda": CUDA}
WORLDS = (1, 2, 4, 8, 16)
BOTH = pytest.mark.parametrize("device", SCALES)


@BOTH
def test_attention_is_measured_in_exactly_the_blocks_of_all_schedules(device):
    scale = SCALES[device]
    tasks = {
        (task.queries.share, task.keys.share, task.causal)
        for order, ranks, causal in product(SequenceOrder, range(1, 17), (True, False))
        for rank in range(ranks)
        for task in schedule(order, ranks, rank, causal=causal)
    }
    assert tasks == {(1, 1, True), (1, 1, False), (1, 0.5, False), (0.5, 1, False)}
    wanted = {
        (kind, tokens * rows, tokens * keys, causal, *heads)
        for kind in ("attention", "attention_backward")
        for rows, keys, causal in tasks
        for tokens in scale.tokens
        for heads in scale.heads
    }
    found = [
        (each.kind, *(each[name] for name in ("q", "k", "causal", "heads", "kv_heads", "d")))
        for each in attentions.items(scale)
    ]
    assert len(found) == len(set(found))
    assert set(found) == wanted


@BOTH
def test_every_product_of_a_layer_is_measured_forward_and_for_both_gradients(device):
    scale, (columns, depth) = SCALES[device], SCALES[device].weights[0]
    found = {tuple(each[name] for name in (*"mnk", "way")) for each in products.items(scale)}
    rows = scale.rows[-1]
    assert (rows, columns, depth, "forward") in found
    assert (rows, depth, columns, "dgrad") in found
    assert (columns, depth, rows, "wgrad") in found
    ways = [way for *_, way in found]
    pairs = len(set(scale.weights)) * len(scale.rows)
    learnt = len(set(scale.weights)) * len([rows for rows in scale.rows if rows > 1])
    assert (ways.count("forward"), ways.count("dgrad"), ways.count("wgrad")) == (
        pairs, learnt, learnt,
    )  # fmt: skip


@BOTH
@pytest.mark.parametrize("world", WORLDS)
def test_items_are_distinct_and_the_same_every_time(device, world):
    one, other = (everything.items(device, world) for _ in range(2))
    assert one == other
    assert len(set(one)) == len(one)
    assert len({str(each) for each in one}) == len(one)


@BOTH
def test_items_survive_a_file(device):
    for each in everything.items(device, 4):
        assert Item.of(each.kind, **dict(each.args)) == each
        assert Item.of(each.kind, **dict(each.args)) == each


@BOTH
@pytest.mark.parametrize("world", WORLDS)
def test_every_item_knows_how_it_is_prepared(device, world):
    assert {each.kind for each in everything.items(device, world)} <= set(everything._PREPARE)


def test_one_rank_sends_nothing_and_only_gpus_have_graphs_and_power_limits():
    kinds = {
        (device, world): {each.kind for each in everything.items(device, world)}
        for device in SCALES
        for world in (1, 2)
    }
    sent = {"collective", "overlap"}
    assert sent.isdisjoint(kinds["cpu", 1])
    assert sent & kinds["cuda", 1] == {"overlap"}  # a copy of its own memory in a hop's place
    for device in SCALES:
        assert sent < kinds[device, 2]
    assert {"replay", "sustained", "overlap"} == kinds["cuda", 1] - kinds["cpu", 1]


def test_a_sample_of_what_lasts_is_seconds_long():
    lasting = [each for each in everything.items("cuda", 1) if each.kind == "sustained"]
    (one,) = lasting
    burst = Item.of("gemm", **dict(one.args))
    assert burst in everything.items("cuda", 1)
    assert everything.burst_s(one, CUDA) > 100 * everything.burst_s(burst, CUDA) > 0
    assert one.number("m") * one.number("n") * one.number("k") == max(
        each.number("m") * each.number("n") * each.number("k") for each in products.items(CUDA)
        if each["way"] == "forward"
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- held out
def _held_out_products(block, width):
    """Return rows, columns and depth of a layer's products, written out by hand."""
    hidden, tokens = block.number("hidden"), block.number("tokens")
    weights = [(hidden, hidden), (block.number("kv_heads") * width, hidden)]  # q and out; k and v
    weights += [(block.number("mlp"), hidden), (hidden, block.number("mlp"))]
    for columns, depth in weights:
        yield tokens, columns, depth
        yield tokens, depth, columns
        yield columns, depth, tokens


def _held_out_blocks(item, width):
    """Return queries, keys, heads, key/value heads and width of blocks inside attention."""
    ulysses, ring, tokens = (item.number(name) for name in ("ulysses", "ring", "tokens"))
    heads, kv_heads = item.number("heads") // ulysses, max(item.number("kv_heads") // ulysses, 1)
    own = tokens * ulysses
    halves = {own, own // 2} if ring > 1 else {own}
    keys = {own * ring} | {own // 2 * chunks for chunks in range(1, 2 * ring + 1)}
    keys = keys if item["gathers"] else halves
    for queries, other in product(halves, keys):
        yield queries, other, heads, kv_heads, width


@BOTH
@pytest.mark.parametrize("world", WORLDS)
def test_no_shape_that_is_held_out_is_measured_for_a_fit(device, world):
    scale = SCALES[device]
    fitted_products = {tuple(each[n] for n in "mnk") for each in products.items(scale)}
    fitted_blocks = {
        tuple(each[name] for name in ("q", "k", "heads", "kv_heads", "d"))
        for each in attentions.items(scale)
    }
    fitted_elements = {each["elements"] for each in streams.items(scale)}
    held = targets.items(scale, world)
    assert {each.kind for each in held} == {"layer", "block"}
    for item in held:
        width = item.number("hidden") // item.number("heads")
        assert fitted_blocks.isdisjoint(_held_out_blocks(item, width)), item
        assert item.number("tokens") * item.number("hidden") not in fitted_elements, item
        if item.kind == "block":
            assert fitted_products.isdisjoint(_held_out_products(item, width)), item


@BOTH
@pytest.mark.parametrize("world", WORLDS[1:])
def test_no_message_that_is_held_out_is_measured_for_a_fit(device, world):
    scale = SCALES[device]
    fitted = {
        tuple(each[name] for name in ("collective", "size", "stride", "nbytes"))
        for each in messages.items(scale, world)
    }
    for item in targets.items(scale, world):
        for sent in _held_out_messages(item):
            assert sent not in fitted, item


def _held_out_messages(item):
    chosen = targets.layout(item)
    ranks = chosen.ulysses * chosen.ring
    shapes = Shapes(batch=LayoutBatch.of([chosen]), seq_len=item.number("tokens") * ranks)
    heads, hidden = item.number("heads"), item.number("hidden")
    mixer = Attention(heads=heads, kv_heads=item.number("kv_heads"), head_dim=hidden // heads)
    work = layer_work(Layer(mixer=mixer, mlp=Mlp(intermediate=1)), hidden, shapes)
    for each in (*work.forward, *work.backward):
        if isinstance(each, Communication) and np.sum(each.calls):
            stride = {"ulysses": 1, "ring": chosen.ulysses}[str(each.axis)]
            size = getattr(chosen, str(each.axis))
            if each.name == "ulysses q, k, v":  # the inventory has their mean
                each_width = 2 * item.number("tokens") * hidden // heads
                sent = {each_width * heads, each_width * max(item.number("kv_heads"), size)}
            else:
                sent = {float(each.nbytes[0])}
            yield from ((str(each.collective), size, stride, nbytes) for nbytes in sent)


def test_held_out_layers_are_of_every_method_and_played_by_one_process_where_it_is_alone():
    def methods(world, kind):
        return [
            (each["ulysses"], each["ring"], each["gathers"])
            for each in targets.items(CUDA, world)
            if each.kind == kind and each["hidden"] == 4096
        ]

    four = [(4, 1, False), (1, 4, False), (1, 4, True), (2, 2, False)]
    assert methods(1, "layer") == methods(4, "layer") == methods(4, "block") == four
    assert methods(1, "block") == [(1, 1, False)]
    assert methods(2, "layer") == [(2, 1, False), (1, 2, False), (1, 2, True)]
    assert all(each["virtual"] is (world == 1) for world in (1, 4)
               for each in targets.items(CUDA, world) if each.kind == "layer")  # fmt: skip


def test_heads_that_ranks_do_not_divide_are_left_to_rings():
    found = [each for each in targets.items(CPU, 4) if each["heads"] == 10]
    assert {each["ulysses"] for each in found} == {1, 2}
    assert all(each["heads"] % each["ulysses"] == 0 for each in targets.items(CPU, 8))
